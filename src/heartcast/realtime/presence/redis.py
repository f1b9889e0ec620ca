"""Presence of all nodes together, in Redis or Valkey.

For each channel, all in one slot:

    {hc:c7}:who:<channel>          hash: client to user
    {hc:c7}:users:<channel>        hash: user to the number of its clients
    {hc:c7}:nodes:<channel>        sorted set: node to the time in ms at which it is taken for dead
    {hc:c7}:at:<node>:<channel>    set: the clients of one node

The sizes of the first two are the counts, so asking costs nothing, whoever is there.
Every node renews its own entry and compares the number of its clients; when the server
missed something, the node's part is written anew. Whoever asks or renews first after a
node's time is over removes that node's clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log.redis import Names
from heartcast.realtime.presence import MAX_PAGE, Counted, Counts, Member, Members, Paged
from heartcast.realtime.rounds import Rounds

_LEASE_S = 30.0
_RENEW_S = 10.0
"""Two renewals may fail before a node is taken for dead."""
_MEMBERS_PER_CALL = 500
_CLEARED_PER_CALL = 5_000

# KEYS: who, users, nodes. ARGV of all scripts: time in ms ('' takes the server's), ms of a
# lease, what stands before a node's name in the key of its clients, what stands behind it.
_BEGIN = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lease = tonumber(ARGV[2])
local function at(node) return ARGV[3] .. node .. ARGV[4] end
local function gone(client)
  local user = redis.call('HGET', KEYS[1], client)
  if user then
    redis.call('HDEL', KEYS[1], client)
    if redis.call('HINCRBY', KEYS[2], user, -1) <= 0 then redis.call('HDEL', KEYS[2], user) end
  end
end
local function clear(node, most)
  for _, client in ipairs(redis.call('SPOP', at(node), most)) do gone(client) end
  return redis.call('SCARD', at(node)) == 0
end
local function renew(node)
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + lease), node)
  for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3], at(node)}) do redis.call('PEXPIRE', key, 2 * lease) end
end
local function sweep()
  local dead = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1)[1]
  if dead and clear(dead, 5000) then redis.call('ZREM', KEYS[3], dead) end
end
"""

# ARGV 5: node, then client and user of each that enters.
_ENTER = Script(
    _BEGIN
    + """
for i = 6, #ARGV, 2 do
  if redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1)
  end
  redis.call('SADD', at(ARGV[5]), ARGV[i])
end
renew(ARGV[5])
"""
)

# ARGV 5: node, 6: client.
_LEAVE = Script(
    _BEGIN
    + """
if redis.call('SREM', at(ARGV[5]), ARGV[6]) == 1 then gone(ARGV[6]) end
"""
)

# ARGV 5: node. Gives the number of its clients.
_RENEW = Script(_BEGIN + "sweep() renew(ARGV[5]) return redis.call('SCARD', at(ARGV[5]))")

# ARGV 5: node. As many at a time as block nobody for long.
_CLEAR = Script(_BEGIN + "clear(ARGV[5], 5000)")

_COUNT = Script(_BEGIN + "sweep() return {redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[2])}")

# ARGV 5: length of the page.
_PAGE = Script(
    _BEGIN
    + """
sweep()
local page, cursor = {}, '0'
for _ = 1, 8 do
  local scanned = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', ARGV[5])
  for _, part in ipairs(scanned[2]) do page[#page + 1] = part end
  cursor = scanned[1]
  if cursor == '0' or #page >= 2 * ARGV[5] then break end
end
return page
"""
)

SCRIPTS = (_ENTER, _LEAVE, _RENEW, _CLEAR, _COUNT, _PAGE)


class RedisPresence:
    """Implements ``Presence``. Make it on a running loop, ``start`` and ``stop`` it.

    Args:
        pipe: Made with ``SCRIPTS``; whoever made it closes it.
        members: Everyone who is in a channel in this process.
        node: A name that no other process of the installation has.
        now_ms: Wall time; None: the server's own, which all nodes share.
        renew_s: Seconds between renewals, > 0.
    """

    def __init__(
        self,
        pipe: RedisPipe,
        members: Members,
        *,
        node: str,
        names: Names | None = None,
        now_ms: Callable[[], int] | None = None,
        renew_s: float = _RENEW_S,
    ) -> None:
        self._pipe = pipe
        self._members = members
        self._node = node
        self._names = names or Names()
        self._now_ms = now_ms
        self._here: dict[str, int] = {}
        """Clients of this node, by channel."""
        self._unsure: set[str] = set()
        """Channels of which the server may have missed something."""
        self._renewals = Rounds(lambda: list(self._here), self._renew, renew_s)
        self.renewals = 0
        """Renewals that the server took."""
        self.repairs = 0
        """Times that this node's part of a channel was written anew."""

    def start(self) -> None:
        self._renewals.start()

    def stop(self) -> None:
        self._renewals.stop()

    def enter(self, channel: str, member: Member) -> None:
        self._here[channel] = self._here.get(channel, 0) + 1
        self._write(_ENTER, channel, *member)

    def leave(self, channel: str, member: Member) -> None:
        left = self._here[channel] - 1
        if left:
            self._here[channel] = left
        else:
            del self._here[channel]
        self._write(_LEAVE, channel, member.client)

    def count(self, channel: str, done: Counted) -> None:
        self._run(
            _COUNT,
            channel,
            [],
            lambda reply: done(reply if isinstance(reply, StoreUnavailable) else Counts(*reply)),
        )

    def page(self, channel: str, done: Paged) -> None:
        def replied(reply: Any) -> None:
            if isinstance(reply, StoreUnavailable):
                done(reply)
            else:
                done([Member(client, user) for client, user in zip(reply[::2], reply[1::2], strict=True)])

        self._run(_PAGE, channel, [MAX_PAGE], replied)

    def _write(self, script: Script, channel: str, *arguments: str) -> None:
        def replied(reply: Any) -> None:
            if isinstance(reply, StoreUnavailable):
                self._unsure.add(channel)

        self._run(script, channel, [self._node, *arguments], replied)

    def _renew(self, channel: str) -> None:
        # Replies come in the order of the commands: the server knows exactly these now.
        expected = self._here.get(channel, 0)

        def replied(reply: Any) -> None:
            if isinstance(reply, StoreUnavailable):
                self._unsure.add(channel)
                return
            self.renewals += 1
            if reply != expected or channel in self._unsure:
                self._repair(channel, reply)

        self._run(_RENEW, channel, [self._node], replied)

    def _repair(self, channel: str, known: int) -> None:
        self.repairs += 1
        self._unsure.discard(channel)
        for _ in range(known // _CLEARED_PER_CALL + 1):
            self._write(_CLEAR, channel)
        members = list(self._members(channel))
        for start in range(0, len(members), _MEMBERS_PER_CALL):
            some = members[start : start + _MEMBERS_PER_CALL]
            self._write(_ENTER, channel, *[text for member in some for text in member])

    def _run(
        self, script: Script, channel: str, arguments: list[str | int], replied: Callable[[Any], None]
    ) -> None:
        names = self._names
        self._pipe.send(
            pack(
                "EVALSHA",
                script.sha,
                3,
                *(names.of(kind, channel) for kind in ("who", "users", "nodes")),
                "" if self._now_ms is None else self._now_ms(),
                int(_LEASE_S * 1000),
                f"{names.slot(channel)}at:",
                f":{channel}",
                *arguments,
            ),
            replied,
        )
