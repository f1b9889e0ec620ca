"""The ledger in Redis or Valkey, beside the hearts: of all nodes.

    c               string: the place
    ca user         hash: "target|kind" -> "points|at_ms|taken back"
    cb user         string: "points|day|awarded"
    ce user         list: the user's entries as JSON, oldest first; its places are their numbers

A page of events is one script, which compares the place first: all or nothing, and from one place.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe
from heartcast.hearts.ledger import Account, Award, AwardKey, Bookings, Books, Entry, Place
from heartcast.hearts.options import RedisOptions
from heartcast.hearts.store.redis_rows import SEPARATOR

WRITE = Script("""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
    return 0
end
for _, command in ipairs(cjson.decode(ARGV[3])) do
    redis.call(unpack(command))
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
""")
"""KEYS place; ARGV the place as seen, the new one, commands as JSON -> 1, or 0: it is another."""

_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode


class RedisLedger:
    """Implements ``LedgerStore``. Make it on a running loop and ``close`` it there.

    Args:
        url: ``redis://…``; never logged.
        options: Those of the hearts: prefix and timeout.
    """

    def __init__(self, url: str, options: RedisOptions) -> None:
        self._prefix = options.prefix
        self._pipe = RedisPipe(url, timeout_s=options.timeout_s, scripts=(WRITE,))

    def _key(self, what: str, user_id: str) -> str:
        return f"{self._prefix}{what}{SEPARATOR}{user_id}"

    async def place(self) -> Place | None:
        text = await self._pipe.ask("GET", f"{self._prefix}c")
        if not text:
            return None
        epoch, _, number = text.partition("-")
        return Place(epoch, int(number))

    async def read(self, keys: Collection[AwardKey], users: Collection[str]) -> Books:
        awards: dict[AwardKey, Award] = {}
        by_user: dict[str, list[AwardKey]] = {}
        for key in keys:
            by_user.setdefault(key.user_id, []).append(key)
        for user_id, asked in by_user.items():
            fields = [f"{key.target_id}{SEPARATOR}{key.kind}" for key in asked]
            found = await self._pipe.ask("HMGET", self._key("ca", user_id), *fields)
            awards |= {key: _award(text) for key, text in zip(asked, found, strict=True) if text is not None}
        accounts: dict[str, Account] = {}
        if users:
            found = await self._pipe.ask("MGET", *[self._key("cb", user_id) for user_id in users])
            accounts = {user: _account(text) for user, text in zip(users, found, strict=True) if text}
        return Books(awards, accounts)

    async def write(self, before: Place | None, after: Place, bookings: Bookings) -> bool:
        commands = [
            ["DEL", *[self._key(what, user_id) for what in ("ca", "cb", "ce")]] for user_id in bookings.erased
        ]
        for key, award in bookings.awards.items():
            field = f"{key.target_id}{SEPARATOR}{key.kind}"
            text = SEPARATOR.join(map(str, (award.points, award.at_ms, int(award.is_taken_back))))
            commands.append(["HSET", self._key("ca", key.user_id), field, text])
        for user_id, account in bookings.accounts.items():
            text = SEPARATOR.join(map(str, (account.points, account.day, account.awarded)))
            commands.append(["SET", self._key("cb", user_id), text])
        for user_id, entry in bookings.entries:
            commands.append(["RPUSH", self._key("ce", user_id), _encode(entry).decode()])
        seen = "" if before is None else f"{before.epoch}-{before.number}"
        asked = ("EVALSHA", WRITE.sha, 1, f"{self._prefix}c", seen, f"{after.epoch}-{after.number}")
        return bool(await self._pipe.ask(*asked, _encode(commands).decode()) == 1)

    async def account(self, user_id: str) -> Account:
        return (await self.read([], [user_id])).accounts.get(user_id, Account())

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        key = self._key("ce", user_id)
        last = (before or 1 + int(await self._pipe.ask("LLEN", key))) - 1
        first = max(1, last - limit + 1)
        if last < first:
            return []
        # An entry is never moved: its number is its place in the list, from 1.
        found: list[Any] = await self._pipe.ask("LRANGE", key, first - 1, last - 1)
        numbered = [
            msgspec.structs.replace(_decode_entry(text), number=number)
            for number, text in enumerate(found, first)
        ]
        return numbered[::-1]

    async def close(self) -> None:
        await self._pipe.close()


def _award(text: str) -> Award:
    points, at_ms, is_taken_back = map(int, text.split(SEPARATOR))
    return Award(points, at_ms, bool(is_taken_back))


def _account(text: str) -> Account:
    return Account(*map(int, text.split(SEPARATOR)))
