"""Streams as Redis Streams: any Redis client may read them beside us.

    {hc:stream:news}               the stream; an entry has one field, ``data``, JSON
    {hc:stream:news}:once:<hash>   "<fingerprint> <id>" of a publication with a key

A group is a consumer group of that stream; we read as the consumer ``heartcast``. Others
use XREADGROUP and XACK on the same key, as other consumers of the same group or with
groups of their own. ``idle_s`` holds for all of them: what any consumer leaves
unacknowledged so long is given to whoever reads through us next.

Nothing is trimmed by MAXLEN, which would drop what nobody has read. A full stream drops
what every group has acknowledged, our own groups and those of others alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from heartcast.backends.redis import RedisLink, Script
from heartcast.core.clock import Clock
from heartcast.streams import Entry, Group
from heartcast.streams.entry_id import parse
from heartcast.streams.options import StreamOptions
from heartcast.streams.refusals import fingerprint, key_reused, stream_full

CONSUMER = "heartcast"
TIMEOUT_S = 2.0
"""Longest wait for an answer of the server: nothing here is on a hot path."""

# KEYS: stream, record of the key. ARGV: data, most entries, oldest id that is kept,
# fingerprint ("": no key), ms that the record is kept.
_PUBLISH = Script("""
local function less(a, b)
  local ams, an = string.match(a, '(%d+)-(%d+)')
  local bms, bn = string.match(b, '(%d+)-(%d+)')
  if ams ~= bms then return tonumber(ams) < tonumber(bms) end
  return tonumber(an) < tonumber(bn)
end
if ARGV[4] ~= '' then
  local known = redis.call('GET', KEYS[2])
  if known then return known end
end
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[3])
local most = tonumber(ARGV[2])
if redis.call('XLEN', KEYS[1]) >= most then
  local floor
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local name, last
    for i = 1, #group, 2 do
      if group[i] == 'name' then name = group[i + 1] end
      if group[i] == 'last-delivered-id' then last = group[i + 1] end
    end
    local ms, n = string.match(last, '(%d+)-(%d+)')
    local first = redis.call('XPENDING', KEYS[1], name)[2] or (ms .. '-' .. string.format('%d', n + 1))
    if not floor or less(first, floor) then floor = first end
  end
  if floor then redis.call('XTRIM', KEYS[1], 'MINID', floor) end
  if redis.call('XLEN', KEYS[1]) >= most then return 'FULL' end
end
local id = redis.call('XADD', KEYS[1], '*', 'data', ARGV[1])
if ARGV[4] ~= '' then redis.call('SET', KEYS[2], ARGV[4] .. ' ' .. id, 'PX', ARGV[5]) end
return id
""")

# KEYS: stream. ARGV: group, consumer, most entries, idle ms. Answers {id, fields, deliveries} each.
_READ = Script("""
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
local found, count = {}, tonumber(ARGV[3])
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], '-', '+', count)) do
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], entry[1])
  if claimed[1] then found[#found + 1] = {claimed[1][1], claimed[1][2], entry[4] + 1} end
end
if #found < count then
  local new = redis.call(
    'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count - #found, 'STREAMS', KEYS[1], '>')
  if new then
    for _, entry in ipairs(new[1][2]) do found[#found + 1] = {entry[1], entry[2], 1} end
  end
end
return found
""")

# KEYS: stream. Answers its length and what it says of its groups.
_LOOK = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, {}} end
return {redis.call('XLEN', KEYS[1]), redis.call('XINFO', 'GROUPS', KEYS[1])}
""")


class RedisStreamStore:
    """Implements ``StreamStore``.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; never logged.
        prefix: In front of every key, inside the braces.
    """

    def __init__(self, url: str, options: StreamOptions, clock: Clock, *, prefix: str = "hc") -> None:
        self._link = RedisLink(url, timeout_s=TIMEOUT_S)
        self._options = options
        self._clock = clock
        self._prefix = prefix

    def key(self, topic: str) -> str:
        """Where the stream of a topic is."""
        return f"{{{self._prefix}:stream:{topic}}}"

    async def publish(self, topic: str, data: bytes, key: str = "") -> str:
        options, stream = self._options, self.key(topic)
        once = f"{stream}:once:{blake2b(key.encode(), digest_size=16).hexdigest()}"
        print_ = fingerprint(data) if key else ""
        oldest_ms = max(0, self._clock.wall_ms() - round(options.keep_s * 1000))
        answer = _text(
            await self._link.eval(
                _PUBLISH,
                [stream, once],
                [data, options.max_entries, f"{oldest_ms}-0", print_, round(options.keep_keys_s * 1000)],
            )
        )
        if answer == "FULL":
            raise stream_full(topic)
        known, _, id_ = answer.rpartition(" ")
        if known and known != print_:
            raise key_reused()
        return id_

    async def read(self, topic: str, group: str, count: int) -> list[Entry]:
        idle_ms = round(self._options.idle_s * 1000)
        found = await self._link.eval(_READ, [self.key(topic)], [group, CONSUMER, count, idle_ms])
        return [Entry(_text(id_), _data(fields), int(deliveries)) for id_, fields, deliveries in found]

    async def ack(self, topic: str, group: str, ids: Sequence[str]) -> int:
        wanted = [str(parse(id_)) for id_ in ids]
        return int(await self._link.run("XACK", self.key(topic), group, *wanted)) if wanted else 0

    async def look(self, topic: str) -> tuple[int, list[Group]]:
        length, said = await self._link.eval(_LOOK, [self.key(topic)], [])
        groups = [_group(dict(zip(map(_text, fields[::2]), fields[1::2], strict=True))) for fields in said]
        return int(length), sorted(groups)

    async def forget(self, topic: str, group: str) -> bool:
        _, groups = await self.look(topic)
        if all(known.name != group for known in groups):
            return False
        return bool(await self._link.run("XGROUP", "DESTROY", self.key(topic), group))

    async def close(self) -> None:
        await self._link.close()


def _group(said: dict[str, Any]) -> Group:
    # Without a value where entries were deleted in the middle, which we never do.
    lag = said.get("lag")
    return Group(_text(said["name"]), int(said["pending"]), None if lag is None else int(lag))


def _data(fields: list[Any]) -> bytes:
    """What we published; of what others did, their fields as one object."""
    named = dict(zip(map(_text, fields[::2]), fields[1::2], strict=True))
    data = named.get("data", b"") if len(named) == 1 else b""
    raw = data if isinstance(data, bytes) else str(data).encode()
    try:
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode({name: _text(value) for name, value in named.items()})
    return raw


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
