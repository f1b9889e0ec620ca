-- Keeps notes that belong to no shard, all of them or none.
--
-- {hc:all}:number    of the last change: microseconds, or one more than the one before
-- {hc:all}:records   hash: key -> note
-- {hc:all}:order     sorted set: key by the number of its last change, of what was taken away too
-- {hc:all}:until     sorted set: key by the wall ms after which nothing of it need be kept
-- {hc:all}:purged    the greatest number of what was taken away and is not told any more
--
-- ARGV: four parts a note: key, the number that the writer knows (0: no such note), the note
-- ("": it goes), wall ms until which it is kept ("": for good). Answers with the number of the
-- first change and an empty list, or with 0 and key, number and note of each key that is not as
-- the writer knows it.
local DAY_MS = 86400000
local number, records, order, times, purged = unpack(KEYS)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local before = '(' .. string.format('%.0f', now_ms)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', before, 'LIMIT', 0, 100)) do
    if redis.call('HDEL', records, key) == 0 then
        -- It was taken away; who has not heard of it by now must read everything.
        local last = redis.call('ZSCORE', order, key) or '0'
        if tonumber(last) > tonumber(redis.call('GET', purged) or '0') then
            redis.call('SET', purged, last)
        end
    end
    redis.call('ZREM', order, key)
    redis.call('ZREM', times, key)
end

local refused = {}
for at = 1, #ARGV, 4 do
    local key = ARGV[at]
    local row = redis.call('HGET', records, key)
    local last = redis.call('ZSCORE', times, key)
    if row and last and tonumber(last) < now_ms then
        row = false
    end
    local is = row and redis.call('ZSCORE', order, key) or '0'
    if is ~= ARGV[at + 1] then
        refused[#refused + 1] = key
        refused[#refused + 1] = is
        refused[#refused + 1] = row or ''
    end
end
if #refused > 0 then
    return {0, refused}
end

local change = math.max(tonumber(redis.call('GET', number) or '0') + 1, time[1] * 1000000 + time[2])
local first = change
for at = 1, #ARGV, 4 do
    local key, row, last = ARGV[at], ARGV[at + 2], ARGV[at + 3]
    redis.call('ZADD', order, string.format('%.0f', change), key)
    redis.call('SET', number, string.format('%.0f', change))
    change = change + 1
    if row == '' then
        redis.call('HDEL', records, key)
        last = string.format('%.0f', now_ms + DAY_MS)
    else
        redis.call('HSET', records, key, row)
    end
    if last == '' then
        redis.call('ZREM', times, key)
    else
        redis.call('ZADD', times, last, key)
    end
end
return {first, {}}
