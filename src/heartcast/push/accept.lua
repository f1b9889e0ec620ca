-- Any node accepts plain pushes for a shard: as many of them as there is room for.
--
-- KEYS: {hc:N}:push, {hc:N}:inbox. ARGV: entries that the stream may hold, pushes that stream
-- and inbox may hold together, then one row a push. Answers with how many were taken.
-- It needs no epoch: it only adds, and whoever owns the shard reads it.
local waiting = redis.call('XLEN', KEYS[1])
local room = math.min(ARGV[1] - waiting, ARGV[2] - waiting - redis.call('HLEN', KEYS[2]), #ARGV - 2)
for at = 3, room + 2 do
    redis.call('XADD', KEYS[1], '*', 'push', ARGV[at])
end
return math.max(room, 0)
