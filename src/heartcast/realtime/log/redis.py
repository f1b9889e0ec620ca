"""The channel log in Redis or Valkey: one stream per channel, shared by all nodes.

Three keys in one slot, ``{hc:c7}`` for a channel that hashes to 7:

    {hc:c7}:life:<channel>   hash: e, the epoch; t, the top offset
    {hc:c7}:log:<channel>    stream, ids <offset>-0: b, the entry's text; m, its time in ms
    {hc:c7}:once:<channel> <key>   position of a publication that may be sent again

and the sharded pub/sub channel ``{hc:c7}:pub:<channel>``. Appending, publishing and
noting the key are one script, so that a publication is in the log exactly when it was
sent, and order in both is the same. The log survives as far as the server's own
persistence goes. A server that came back with less than a node has seen begins another
life: no offset ever stands for two publications in one epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any

import msgspec

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.errors import StoreUnavailable
from heartcast.core.hashing import hash64
from heartcast.realtime.log import Appended, Complete, Gap, Limits, Position, Publication, Since

SLOTS = 256
"""Hash tags that channels are spread over. A constant: another number would lose every log."""
_LIFE_S = 86_400.0
"""A channel that nobody publishes to or asks about is forgotten after so long, or after
twice its history TTL when that is more."""
_ONCE_MS = 300_000
"""A publication with a key is recognised for so long, as the server API promises."""

_encode = msgspec.json.Encoder().encode
_decode_tags = msgspec.json.Decoder(dict[str, str]).decode

# ARGV 1..6 of all scripts: a new epoch, ms that the channel's life lasts unused, ms that an
# entry is kept, the time in ms ('' takes the server's), and the position that this node has
# seen (offset, epoch; '' for none).
_BEGIN = """
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local life = redis.call('HMGET', KEYS[1], 'e', 't')
local epoch, top = life[1], tonumber(life[2] or '0')
if not epoch or (epoch == ARGV[6] and tonumber(ARGV[5]) > top) then
  epoch, top = ARGV[1], 0
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'e', epoch, 't', 0)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local function text(number) return string.format('%.0f', number) end
local function trim()
  while true do
    local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    if not first or tonumber(first[2][4]) > now - ARGV[3] then return end
    redis.call('XDEL', KEYS[2], first[1])
  end
end
"""

# ARGV 7: pub/sub channel, 8: entry, 9: history size, 10: ms that KEYS[3] is kept.
_APPEND = Script(
    _BEGIN
    + """
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  if known then
    local offset, of = string.match(known, '^(%d+) (.*)$')
    return {offset, of}
  end
end
top = top + 1
redis.call('HSET', KEYS[1], 't', text(top))
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[9], text(top) .. '-0', 'b', ARGV[8], 'm', text(now))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
trim()
local place = text(top) .. ' ' .. epoch
redis.call('SPUBLISH', ARGV[7], place .. '\\n' .. ARGV[8])
if KEYS[3] then redis.call('SET', KEYS[3], place, 'PX', ARGV[10]) end
return {text(top), epoch}
"""
)

# ARGV 7: offset asked after ('' asks for the top alone), 8: its epoch, 9: most that may be missing.
_SINCE = Script(
    _BEGIN
    + """
local answer = {text(top), epoch, 1}
if ARGV[7] == '' then return answer end
trim()
local after = tonumber(ARGV[7])
local missing = top - after
if ARGV[8] ~= epoch or missing < 0 or missing > tonumber(ARGV[9]) then return {text(top), epoch, 0} end
if missing == 0 then return answer end
local entries = redis.call('XRANGE', KEYS[2], text(after + 1) .. '-0', '+')
if #entries ~= missing then return {text(top), epoch, 0} end
for _, entry in ipairs(entries) do
  answer[#answer + 1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
"""
)

# ARGV 7: offset the page begins behind ('' for the beginning), 8: its epoch ('' for any),
# 9: length of the page (below 0: all), 10: 1 for newest first.
_HISTORY = Script(
    _BEGIN
    + """
local answer = {text(top), epoch, 1}
local after, limit = tonumber(ARGV[7]), tonumber(ARGV[9])
if after and ((ARGV[8] ~= '' and ARGV[8] ~= epoch) or after > top) then return {text(top), epoch, 0} end
if limit == 0 then return answer end
trim()
local command
if ARGV[10] == '1' then
  if after and after <= 1 then return answer end
  command = {'XREVRANGE', KEYS[2], after and text(after - 1) .. '-0' or '+', '-'}
else
  command = {'XRANGE', KEYS[2], after and text(after + 1) .. '-0' or '-', '+'}
end
if limit > 0 then
  command[5], command[6] = 'COUNT', ARGV[9]
end
for _, entry in ipairs(redis.call(unpack(command))) do
  answer[#answer + 1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
"""
)

SCRIPTS = (_APPEND, _SINCE, _HISTORY)

Witness = Callable[[str], Position | None]
"""The newest position this node has seen of a channel, None when it follows none."""


class Names:
    """What a channel's keys are called."""

    def __init__(self, prefix: str = "hc") -> None:
        self._prefix = prefix

    def slot(self, channel: str) -> str:
        """What all keys of a channel begin with."""
        return f"{{{self._prefix}:c{hash64(channel) % SLOTS}}}:"

    def of(self, kind: str, channel: str) -> str:
        # A channel's name may hold braces; only the first pair of a key counts.
        return f"{self.slot(channel)}{kind}:{channel}"


class RedisLog:
    """Implements ``ChannelLog``; what it appends is published with it.

    Args:
        pipe: Made with ``SCRIPTS``; whoever made it closes it.
        limits: History size and TTL of a channel.
        now_ms: Wall time that entries are dated with; None: the server's own, which all nodes share.
    """

    announces = True

    def __init__(
        self,
        pipe: RedisPipe,
        limits: Limits,
        *,
        names: Names | None = None,
        now_ms: Callable[[], int] | None = None,
        random: Random | None = None,
    ) -> None:
        self._pipe = pipe
        self._limits = limits
        self._names = names or Names()
        self._now_ms = now_ms
        self._random = random or SystemRandom()
        self.witness: Witness = lambda channel: None
        """Set by whoever follows channels."""

    def append(
        self,
        channel: str,
        data: bytes,
        tags: dict[str, str] | None,
        client: bytes | None,
        done: Appended,
        *,
        key: str | None = None,
    ) -> None:
        size = self._limits(channel)[0]
        names = self._names

        def replied(reply: Any) -> None:
            done(reply if isinstance(reply, StoreUnavailable) else Position(int(reply[0]), reply[1]))

        self._run(
            _APPEND,
            channel,
            [f"{names.of('once', channel)} {key}"] if key is not None else [],
            [names.of("pub", channel), entry_of(data, tags, client), size, _ONCE_MS],
            replied,
        )

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        asked = position if position is not None else Position(0, "")
        self._run(
            _SINCE,
            channel,
            [],
            ["" if position is None else asked.offset, asked.epoch, limit],
            lambda reply: done(_answer(reply)),
        )

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        begin = after if after is not None else Position(0, "")
        self._run(
            _HISTORY,
            channel,
            [],
            ["" if after is None else begin.offset, begin.epoch, limit, int(reverse)],
            lambda reply: done(_answer(reply)),
        )

    def remove(self, channel: str) -> None:
        """Forget a channel; positions in it become gaps."""
        names = self._names
        self._pipe.send(pack("DEL", names.of("life", channel), names.of("log", channel)), lambda reply: None)

    def _run(
        self,
        script: Script,
        channel: str,
        keys: list[str],
        arguments: list[str | int],
        replied: Callable[[Any], None],
    ) -> None:
        _, ttl_s = self._limits(channel)
        seen = self.witness(channel) or Position(0, "")
        names = self._names
        self._pipe.send(
            pack(
                "EVALSHA",
                script.sha,
                2 + len(keys),
                names.of("life", channel),
                names.of("log", channel),
                *keys,
                f"{self._random.getrandbits(40):010x}",
                int(max(_LIFE_S, 2 * ttl_s) * 1000),
                int(ttl_s * 1000),
                "" if self._now_ms is None else self._now_ms(),
                *seen,
                *arguments,
            ),
            replied,
        )


def entry_of(data: bytes, tags: dict[str, str] | None, client: bytes | None) -> str:
    """A publication without its offset, as text: tags, client and data, each on a line.

    All three are JSON on one line (``wire.codec.compact``), so lines need no lengths.
    """
    return f"{_encode(tags).decode() if tags else ''}\n{(client or b'').decode()}\n{data.decode()}"


def publication_of(entry: str, offset: int) -> Publication:
    """What ``entry_of`` wrote."""
    tags, client, data = entry.split("\n", 2)
    return Publication(
        data.encode(), offset, _decode_tags(tags) if tags else None, client.encode() if client else None
    )


def _answer(reply: Any) -> Complete | Gap | StoreUnavailable:
    if isinstance(reply, StoreUnavailable):
        return reply
    offset, epoch, is_whole, *entries = reply
    top = Position(int(offset), epoch)
    if not is_whole:
        return Gap(top)
    return Complete(
        [
            publication_of(entry, int(number.partition("-")[0]))
            for number, entry in zip(entries[::2], entries[1::2], strict=True)
        ],
        top,
    )
