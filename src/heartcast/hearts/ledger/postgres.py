"""The ledger in PostgreSQL, beside the hearts: of all nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from heartcast.backends.postgres import Connection
from heartcast.hearts.ledger import Account, Award, AwardKey, Bookings, Books, Entry, Place
from heartcast.hearts.store.postgres_link import Links

SCRIPT = """
CREATE TABLE heartcast_place (name text PRIMARY KEY, epoch text NOT NULL, number bigint NOT NULL);
CREATE TABLE heartcast_award (
    user_id text COLLATE "C" NOT NULL, target_id text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
    points bigint NOT NULL, at_ms bigint NOT NULL, is_taken_back boolean NOT NULL,
    PRIMARY KEY (user_id, target_id, kind)
);
CREATE TABLE heartcast_entry (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text COLLATE "C" NOT NULL,
    target_id text NOT NULL, kind text NOT NULL, points bigint NOT NULL, reason text NOT NULL,
    at_ms bigint NOT NULL, event text NOT NULL
);
CREATE INDEX heartcast_entry_user ON heartcast_entry (user_id, number);
CREATE TABLE heartcast_account (
    user_id text COLLATE "C" PRIMARY KEY, points bigint NOT NULL, day bigint NOT NULL, awarded bigint NOT NULL
);
"""

_CONNECTIONS = 2
_LOCK = 0x63726564_6974  # "credit"

_PLACE = "SELECT epoch, number FROM heartcast_place WHERE name = 'credit'"
_MOVE = """
INSERT INTO heartcast_place VALUES ('credit', $1, $2)
ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, number = excluded.number
"""
_AWARDS = """
SELECT user_id, target_id, kind, points, at_ms, is_taken_back FROM heartcast_award
JOIN unnest($1::text[], $2::text[], $3::text[]) v (user_id, target_id, kind) USING (user_id, target_id, kind)
"""
_ACCOUNTS = "SELECT user_id, points, day, awarded FROM heartcast_account WHERE user_id = ANY($1::text[])"
_PUT_AWARDS = """
INSERT INTO heartcast_award
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[])
ON CONFLICT (user_id, target_id, kind) DO UPDATE
SET points = excluded.points, at_ms = excluded.at_ms, is_taken_back = excluded.is_taken_back
"""
_PUT_ACCOUNTS = """
INSERT INTO heartcast_account SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
ON CONFLICT (user_id) DO UPDATE
SET points = excluded.points, day = excluded.day, awarded = excluded.awarded
"""
_PUT_ENTRIES = """
INSERT INTO heartcast_entry (user_id, target_id, kind, points, reason, at_ms, event)
SELECT user_id, target_id, kind, points, reason, at_ms, event
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
WITH ORDINALITY v (user_id, target_id, kind, points, reason, at_ms, event, at) ORDER BY at
"""
_ENTRIES = """
SELECT number, target_id, kind, points, reason, at_ms, event FROM heartcast_entry
WHERE user_id = $1 AND ($2::bigint = 0 OR number < $2) ORDER BY number DESC LIMIT $3
"""

T = TypeVar("T")


class PostgresLedger:
    """Implements ``LedgerStore``. ``heartcast migrate`` makes its tables with those of the hearts.

    Args:
        timeout_s: Longest wait for one answer of the server, seconds.
    """

    def __init__(self, dsn: str, timeout_s: float) -> None:
        self._links = Links(dsn, timeout_s, _CONNECTIONS)

    async def _ask(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._links.ask(query)

    async def place(self) -> Place | None:
        return await self._ask(_place)

    async def read(self, keys: Collection[AwardKey], users: Collection[str]) -> Books:
        async def run(connection: Connection) -> Books:
            awards = await connection.fetch(_AWARDS, *_columns(list(keys), 3))
            accounts = await connection.fetch(_ACCOUNTS, list(users))
            return Books(
                {AwardKey(*row[:3]): Award(*row[3:]) for row in map(tuple, awards)},
                {row[0]: Account(*row[1:]) for row in map(tuple, accounts)},
            )

        return await self._ask(run)

    async def write(self, before: Place | None, after: Place, bookings: Bookings) -> bool:
        async def run(connection: Connection) -> bool:
            async with connection.transaction():
                # There may be no row yet that could be locked.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                if await _place(connection) != before:
                    return False
                await _book(connection, bookings)
                await connection.execute(_MOVE, *after)
                return True

        return await self._ask(run)

    async def account(self, user_id: str) -> Account:
        return (await self.read([], [user_id])).accounts.get(user_id, Account())

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        async def run(connection: Connection) -> list[Entry]:
            return [Entry(*row) for row in await connection.fetch(_ENTRIES, user_id, before, limit)]

        return await self._ask(run)

    async def close(self) -> None:
        await self._links.close()


async def _place(connection: Connection) -> Place | None:
    row = await connection.fetchrow(_PLACE)
    return None if row is None else Place(*row)


async def _book(connection: Connection, bookings: Bookings) -> None:
    if bookings.erased:
        for table in ("award", "entry", "account"):
            statement = f"DELETE FROM heartcast_{table} WHERE user_id = ANY($1::text[])"  # noqa: S608 - ours
            await connection.execute(statement, list(bookings.erased))
    if bookings.awards:
        awards = [(*key, one.points, one.at_ms, one.is_taken_back) for key, one in bookings.awards.items()]
        await connection.execute(_PUT_AWARDS, *_columns(awards, 6))
    if bookings.accounts:
        accounts = [(user, one.points, one.day, one.awarded) for user, one in bookings.accounts.items()]
        await connection.execute(_PUT_ACCOUNTS, *_columns(accounts, 4))
    if bookings.entries:
        entries = [
            (user, one.target_id, one.kind, one.points, one.reason, one.at_ms, one.event)
            for user, one in bookings.entries
        ]
        await connection.execute(_PUT_ENTRIES, *_columns(entries, 7))


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[at] for row in rows] for at in range(width)]
