-- One group of changes to one shard, all or nothing, by its owner only.
--
-- {hc:N}:epoch   the epoch of the shard's lease; another one means that we lost it
-- {hc:N}:push    stream of what was accepted and waits, read by the group "owner": one entry a push
-- {hc:N}:due     sorted set: push id by wall ms; what waits outside of the stream
-- {hc:N}:rows    hash: push id -> row; of what is in "due", and of what was changed in the stream
-- {hc:N}:inbox   hash: push id -> row; what is in its user's inbox
-- {hc:N}:boxes   hash: user -> epoch, top and losses of the mailbox
-- {hc:N}:notes   hash: key -> note
-- {hc:N}:until   sorted set: key of a note by the wall ms after which it means nothing
-- {hc:N}:ended   hash: push id -> record of how it ended
-- {hc:N}:ends    list: ids in "ended", newest first
--
-- ARGV: the epoch, how to read (">" what is new, "0" also what was read before, "" nothing),
-- records kept in "ended", the wall ms before which notes go (0: they stay), how many parts each
-- list has, the lists' parts. Answers with the entries that were read, each as {id, {field, row}}.
local LISTS, FIRST = 15, 5
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('HCFENCED this shard has another owner')
end
local stream, due, rows, inbox, boxes = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local notes, times, ended, ends = KEYS[7], KEYS[8], KEYS[9], KEYS[10]

local list, at = FIRST, FIRST + LISTS
local function next_list()
    local first, last = at, at + ARGV[list] - 1
    list, at = list + 1, last + 1
    return first, last
end

-- unpack() puts its values on Lua's stack, which holds some 8,000.
local function each(first, last, ...)
    for from = first, last, 1000 do
        local command = {...}
        for part = from, math.min(from + 999, last) do
            command[#command + 1] = ARGV[part]
        end
        redis.call(unpack(command))
    end
end

-- The next list, in as few commands as it takes.
local function all(...)
    local first, last = next_list()
    each(first, last, ...)
end

local first, last = next_list()
for part = first, last do
    redis.call('XADD', stream, '*', 'push', ARGV[part])
end
all('HSET', rows)
all('ZADD', due)
all('HSET', inbox)
first, last = next_list()
each(first, last, 'XACK', stream, 'owner')
each(first, last, 'XDEL', stream)
first, last = next_list()
each(first, last, 'HDEL', rows)
each(first, last, 'ZREM', due)
all('HDEL', inbox)
all('HDEL', boxes)
all('HSET', boxes)
all('HSET', notes)
all('ZADD', times)
first, last = next_list()
each(first, last, 'HDEL', notes)
each(first, last, 'ZREM', times)
all('HSET', ended)
first, last = next_list()
if first <= last then
    each(first, last, 'LPUSH', ends)
    local over = redis.call('LLEN', ends) - ARGV[3]
    if over > 0 then
        for _, id in ipairs(redis.call('RPOP', ends, over)) do
            redis.call('HDEL', ended, id)
        end
    end
end
all('HDEL', ended)
if ARGV[4] ~= '0' then
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', '(' .. ARGV[4], 'LIMIT', 0, 1000)) do
        redis.call('HDEL', notes, key)
        redis.call('ZREM', times, key)
    end
end

local found = {}
local function read(from)
    local answer = redis.call('XREADGROUP', 'GROUP', 'owner', ARGV[1], 'STREAMS', stream, from)
    if answer then
        for _, entry in ipairs(answer[1][2]) do
            found[#found + 1] = entry
        end
    end
end
if ARGV[2] == '0' then
    read('0')
end
if ARGV[2] ~= '' then
    read('>')
end
return found
