-- A new owner takes over what an earlier one had read: a page of it, oldest first.
--
-- KEYS: {hc:N}:epoch, {hc:N}:push. ARGV: the epoch, where to go on, entries a page.
-- Answers with where to go on ("0-0": that was all) and the entries. With the last page the
-- consumers of earlier owners go; all that they had read is ours by then.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('HCFENCED this shard has another owner')
end
local stream = KEYS[2]
if ARGV[2] == '0-0' then
    -- From 0: what was accepted before there was an owner is read, too.
    local made = redis.pcall('XGROUP', 'CREATE', stream, 'owner', '0', 'MKSTREAM')
    if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
        return made
    end
end
local page = redis.call('XAUTOCLAIM', stream, 'owner', ARGV[1], 0, ARGV[2], 'COUNT', ARGV[3])
if page[1] == '0-0' then
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, 'owner')) do
        if consumer[2] ~= ARGV[1] then
            redis.call('XGROUP', 'DELCONSUMER', stream, 'owner', consumer[2])
        end
    end
end
return {page[1], page[2]}
