"""Counts against lists in Redis, and walking through all targets.

A target's count is the size of its membership hash, so it cannot be wrong by itself. What
could differ from it, by the hand of another program, is the list of the target's hearts:
that is what is counted, and repaired from the hash.
"""

from __future__ import annotations

from heartcast.backends.redis import Script

MAX_REPAIR = 200_000
"""Hearts of a target that one script may walk through: about 0.2 s, in which the server does
nothing else."""

RECOUNT = Script("""
local answer = {}
for at = 1, #KEYS, 2 do
    local version = redis.call('HGET', KEYS[at], '')
    answer[#answer + 1] = version and redis.call('HLEN', KEYS[at]) - 1 or 0
    answer[#answer + 1] = version or 0
    answer[#answer + 1] = redis.call('ZCARD', KEYS[at + 1])
end
return answer
""")
"""KEYS m, o, … -> {count, version, listed, …}: each three are of one moment."""

REPAIR = Script("""
local version = redis.call('HGET', KEYS[1], '')
local count = version and redis.call('HLEN', KEYS[1]) - 1 or 0
if count ~= tonumber(ARGV[1]) or (version or '0') ~= ARGV[2] then
    return false
end
if math.max(count, redis.call('ZCARD', KEYS[2])) > tonumber(ARGV[3]) then
    return redis.error_reply('ERR too many hearts to repair at once')
end
local rows = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[2])
for at = 1, #rows, 2 do
    if rows[at] ~= '' then
        redis.call('ZADD', KEYS[2], 0, rows[at + 1] .. '\\31' .. rows[at])
    end
end
return {count, version or 0}
""")
"""KEYS m, o; ARGV count and version as seen, most hearts -> {count, version}, or nil: not as seen."""


def escaped(prefix: str) -> str:
    """A prefix for SCAN's MATCH, where some characters mean something."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in prefix)
