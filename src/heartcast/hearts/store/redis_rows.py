"""How hearts lie in Redis, and the scripts that change them.

    m kind target   hash: user -> row; the field "" holds the version
    o kind target   sorted set: "row|user", the target's hearts, oldest first
    u kind user     sorted set: "row|target", the user's hearts, oldest first
    k               set: every kind
    e, ee           stream: events, and their epoch
    r name          a request that was done once, and its outcomes (``redis_receipts``)
    i               sorted set: "row|kind|target|user", all hearts

A row is the id's 26 characters and the time in milliseconds. Parts are joined by a
character that no id may hold. Scores are all 0, so that sets sort by member, and ids
sort by time.

Membership, count and version of a target are one key, hence in one slot: the count is
the size of the membership hash and not a number of its own, so it cannot drift from
it. One script call is one heart, and a script is all or nothing.
"""

from __future__ import annotations

from heartcast.backends.redis import Script
from heartcast.hearts.model import Heart, HeartKey

SEPARATOR = "\x1f"
ID_LENGTH = 26

_EVENT = """
redis.call('XADD', KEYS[5], '0-*', 'e', table.concat({DELTA, ARGV[5], ARGV[6], ARGV[3], ARGV[2], ARGV[1],
    row, version, redis.call('HLEN', KEYS[1]) - 1}, '\\31'))
"""
_ADD = """
local row = redis.call('HGET', KEYS[1], ARGV[1])
if row then
    return {0, row, redis.call('HLEN', KEYS[1]) - 1, redis.call('HGET', KEYS[1], '')}
end
row = ARGV[4]
redis.call('HSET', KEYS[1], ARGV[1], row)
redis.call('ZADD', KEYS[2], 0, row .. '\\31' .. ARGV[1])
redis.call('ZADD', KEYS[3], 0, row .. '\\31' .. ARGV[2])
redis.call('ZADD', KEYS[4], 0, row .. '\\31' .. ARGV[3] .. '\\31' .. ARGV[2] .. '\\31' .. ARGV[1])
local version = redis.call('HINCRBY', KEYS[1], '', 1)
"""
_ANSWER = "return {1, row, redis.call('HLEN', KEYS[1]) - 1, version}"
ADD = Script(_ADD + _ANSWER)
"""KEYS m, o, u, i; ARGV user, target, kind, row -> {changed, row, count, version}."""
ADD_NOTED = Script(_ADD + _EVENT.replace("DELTA", "1") + _ANSWER)
"""The same with an event. KEYS also e; ARGV also cause, time."""

_REMOVE = """
local version = redis.call('HGET', KEYS[1], '')
if not version then
    return {0, false, 0, 0}
end
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then
    return {0, false, redis.call('HLEN', KEYS[1]) - 1, version}
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], row .. '\\31' .. ARGV[1])
redis.call('ZREM', KEYS[3], row .. '\\31' .. ARGV[2])
redis.call('ZREM', KEYS[4], row .. '\\31' .. ARGV[3] .. '\\31' .. ARGV[2] .. '\\31' .. ARGV[1])
version = redis.call('HINCRBY', KEYS[1], '', 1)
"""
REMOVE = Script(_REMOVE + _ANSWER)
"""KEYS m, o, u, i; ARGV user, target, kind, "" -> {changed, row or nil, count, version}."""
REMOVE_NOTED = Script(_REMOVE + _EVENT.replace("DELTA", "-1") + _ANSWER)
"""The same with an event. KEYS also e; ARGV also cause, time."""

COUNTS = Script("""
local answer = {}
for at, key in ipairs(KEYS) do
    local version = redis.call('HGET', key, '')
    answer[2 * at - 1] = version and redis.call('HLEN', key) - 1 or 0
    answer[2 * at] = version or 0
end
return answer
""")
"""KEYS m … -> {count, version, …}: each pair is of one moment."""

HEARTED = Script("""
local answer = {}
for at, key in ipairs(KEYS) do
    answer[at] = redis.call('HEXISTS', key, ARGV[1])
end
return answer
""")
"""KEYS m …; ARGV user -> {0 or 1, …}."""


class Names:
    """The keys of one application.

    Args:
        prefix: In front of every key.
    """

    def __init__(self, prefix: str) -> None:
        self._members = f"{prefix}m{SEPARATOR}"
        self._of_target = f"{prefix}o{SEPARATOR}"
        self._of_user = f"{prefix}u{SEPARATOR}"
        self.all_hearts = f"{prefix}i"
        self.kinds = f"{prefix}k"
        self.events = f"{prefix}e"
        self.epoch = f"{prefix}ee"
        self._receipt = f"{prefix}r{SEPARATOR}"

    def members(self, target_id: str, kind: str) -> str:
        return f"{self._members}{kind}{SEPARATOR}{target_id}"

    def of_target(self, target_id: str, kind: str) -> str:
        return f"{self._of_target}{kind}{SEPARATOR}{target_id}"

    def of_user(self, user_id: str, kind: str) -> str:
        return f"{self._of_user}{kind}{SEPARATOR}{user_id}"

    def receipt(self, name: bytes) -> str:
        return self._receipt + name.hex()

    def of_heart(self, key: HeartKey) -> tuple[str, str, str, str]:
        """The four keys that one heart touches."""
        target_id, user_id, kind = key
        return (
            self.members(target_id, kind),
            self.of_target(target_id, kind),
            self.of_user(user_id, kind),
            self.all_hearts,
        )


def heart_of(row: str, key: HeartKey) -> Heart:
    """The heart of a row."""
    return Heart(row[:ID_LENGTH], key, int(row[ID_LENGTH:]))


def heart_of_all(member: str) -> Heart:
    """The heart of a member of the set of all hearts."""
    row, kind, target_id, user_id = member.split(SEPARATOR)
    return heart_of(row, HeartKey(target_id, user_id, kind))


def after(heart_id: str) -> str:
    """The lower bound of ZRANGEBYLEX for rows with greater ids; "" for all."""
    # Digits follow an id; this character sorts behind them.
    return f"({heart_id}\x7f" if heart_id else "-"
