"""How leases lie in Redis, and the scripts that change them.

    {hc}:shape      string: "1 64", this layout's number and how many shards there are
    {hc}:life       string: a name for all that is kept, new after it was lost
    {hc}:nodes      hash: node id -> what it says about itself, as JSON
    {hc}:leases     sorted set: node id, scored by the server's time in ms at which its lease ends
    {hc:7}:owner    string: id of the node that owns shard 7, expiring with the lease;
                    "-" without expiry after it was given back; missing when the lease ended
    {hc:7}:epoch    string: the number of the last acquisition; never expires

Times are in milliseconds. Each script touches the keys of one slot. An epoch is the server's
time at its acquisition, in microseconds, or one more than the last where that is greater: a server that lost
its last second in a crash would otherwise give a number out for the second time.

No lease runs longer than a lease: where the server's clock was set back, what is left is cut
to it by whoever looks next.
"""

from __future__ import annotations

from heartcast.backends.redis import Script

GIVEN_BACK = "-"
LAYOUT = "1"

BEAT = Script("""
local time = redis.call('TIME')
local now, lease = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + lease, ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    redis.call('ZREM', KEYS[2], id)
end
local beyond = '(' .. string.format('%.0f', now + lease)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], beyond, '+inf')) do
    redis.call('ZADD', KEYS[2], now + lease, id)
end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not redis.call('ZSCORE', KEYS[2], id) then
        redis.call('HDEL', KEYS[1], id)
    end
end
-- To the microsecond: a server can be emptied and asked again within one millisecond.
redis.call('SET', KEYS[3], ARGV[1] .. '@' .. time[1] .. '.' .. time[2], 'NX')
return {redis.call('GET', KEYS[3]), redis.call('HVALS', KEYS[1])}
""")
"""KEYS nodes, leases, life; ARGV id, JSON, lease -> {life, {JSON, …} of the living}."""

LOOK = Script("""
local owner = redis.call('GET', KEYS[1])
if not owner then
    return {'', 0}
end
local left, lease = redis.call('PTTL', KEYS[1]), tonumber(ARGV[1])
if left > lease then
    redis.call('PEXPIRE', KEYS[1], lease)
    left = lease
end
return {owner, left}
""")
"""KEYS owner; ARGV lease -> {owner or "", ms left; negative: it does not expire}."""

RENEW = Script("""
local owner = redis.call('GET', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[2] and (not owner or owner == ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
    return {ARGV[1], tonumber(ARGV[3]), 1}
end
return {owner or '', owner and redis.call('PTTL', KEYS[1]) or 0, 0}
""")
"""KEYS owner, epoch; ARGV id, epoch, lease -> as LOOK, and 1 when it is ours for another lease.

A lease that ended is renewed as well while the epoch shows that nobody acquired it since."""

ACQUIRE = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= '-' and owner ~= ARGV[1] then
    return false
end
local time = redis.call('TIME')
local epoch = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
redis.call('SET', KEYS[2], string.format('%.0f', epoch))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return epoch
""")
"""KEYS owner, epoch; ARGV id, lease -> the new epoch, or nil: somebody else owns it."""

RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('GET', KEYS[2]) == ARGV[2] then
    redis.call('SET', KEYS[1], '-')
    return 1
end
return 0
""")
"""KEYS owner, epoch; ARGV id, epoch -> 1 when it was given back."""

LEAVE = Script("""
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
""")
"""KEYS nodes, leases; ARGV id."""

ALL = (BEAT, LOOK, RENEW, ACQUIRE, RELEASE, LEAVE)


class Names:
    """The keys of one cluster.

    Args:
        prefix: In front of every key, inside the braces that keep a shard's keys together.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.shape = f"{{{prefix}}}:shape"
        self.life = f"{{{prefix}}}:life"
        self.nodes = f"{{{prefix}}}:nodes"
        self.leases = f"{{{prefix}}}:leases"

    def owner(self, shard: int) -> str:
        return f"{{{self._prefix}:{shard}}}:owner"

    def epoch(self, shard: int) -> str:
        return f"{{{self._prefix}:{shard}}}:epoch"
