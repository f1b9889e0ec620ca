"""The outbox in PostgreSQL: blocks of events, written in the transaction of their hearts.

Numbers of a sequence would be given before the commit: a reader could see 8 while 7 is not
committed yet, go on from there, and never see 7. So the last statement of every transaction
takes the next numbers from one row, whose lock it holds until it has committed. Whoever
comes next waits for that commit: order of numbers is order of commits, and a number that
is seen has all lower ones before it. A transaction that fails gives its numbers back.

The price is that nodes commit one after the other. Each commits whole groups, so what is
shared is a disk flush per group and not per heart. Every transaction locks this row last,
after its targets, so no two wait for each other in a circle.
"""

from __future__ import annotations

from heartcast.backends.postgres import Connection
from heartcast.hearts.model import Change, EventPage
from heartcast.hearts.store.event_blocks import BLOCKS_READ, blocks, events

SCRIPT = """
CREATE TABLE heartcast_event (
    first bigint PRIMARY KEY, last bigint NOT NULL, at_ms bigint NOT NULL, changes bytea NOT NULL
);
CREATE TABLE heartcast_outbox (
    epoch text NOT NULL, last bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO heartcast_outbox VALUES (substr(md5(random()::text || clock_timestamp()::text), 1, 16), 0);
"""

_NUMBER = "UPDATE heartcast_outbox SET last = last + $1 RETURNING last - $1"
_WRITE = """
INSERT INTO heartcast_event (first, last, at_ms, changes)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])
"""
_PAGE = """
SELECT first, at_ms, changes FROM heartcast_event
WHERE first >= coalesce((SELECT max(first) FROM heartcast_event WHERE first <= $1), 0) AND last >= $1
ORDER BY first LIMIT $2
"""
_KEPT = "SELECT min(first) FROM heartcast_event WHERE at_ms >= $1 OR last > $2"
_TRIM = """
WITH gone AS (DELETE FROM heartcast_event WHERE first < $1 RETURNING last - first + 1 AS events)
SELECT coalesce(sum(events), 0)::bigint FROM gone
"""


async def write(connection: Connection, changes: list[Change], at_ms: int) -> None:
    """Write the next events: the last statements of the transaction that is open."""
    last = await connection.fetchval(_NUMBER, len(changes))
    rows = list(blocks(changes, last, at_ms))
    await connection.execute(_WRITE, *(list(column) for column in zip(*rows, strict=True)))


async def page(connection: Connection, after: int, limit: int) -> EventPage:
    """As ``HeartStore.events``."""
    # Before the events: an event that is counted is then there to be read.
    epoch, last = await connection.fetchrow("SELECT epoch, last FROM heartcast_outbox")
    rows = await connection.fetch(_PAGE, after + 1, BLOCKS_READ)
    return EventPage(epoch, last, events(rows, after, limit))


async def trim(connection: Connection, before_ms: int, up_to: int) -> int:
    """As ``HeartStore.trim_events``; only whole blocks go, each with all in front of it."""
    kept = await connection.fetchval(_KEPT, before_ms, up_to)
    bound = kept if kept is not None else up_to + 1
    return int(await connection.fetchval(_TRIM, bound))
