"""The outbox in SQLite: blocks of events, written in the transaction of their hearts.

The one writer gives the numbers, so their order is the order of commits.
"""

from __future__ import annotations

import sqlite3

from heartcast.hearts.model import Change, EventPage
from heartcast.hearts.store.event_blocks import BLOCKS_READ, blocks, events

SCRIPT = """
CREATE TABLE event (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    changes BLOB NOT NULL);
CREATE TABLE outbox (epoch TEXT NOT NULL, trimmed INTEGER NOT NULL);
INSERT INTO outbox VALUES (lower(hex(randomblob(8))), 0)
"""
"""``trimmed``: the number of the last event that was dropped."""

_LAST = "SELECT max(coalesce((SELECT max(last) FROM event), 0), trimmed) FROM outbox"
# The block that holds the next event begins at or before it.
_PAGE = """
SELECT first, at_ms, changes FROM event
WHERE first >= coalesce((SELECT max(first) FROM event WHERE first <= :next), 0) AND last >= :next
ORDER BY first LIMIT :blocks
"""


def last_number(connection: sqlite3.Connection) -> int:
    """The number of the newest event, 0 when there never was one."""
    [last] = connection.execute(_LAST).fetchone()
    return int(last)


def write(connection: sqlite3.Connection, changes: list[Change], last: int, at_ms: int) -> None:
    """Write the events that follow number ``last``, in the transaction that is open."""
    connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", blocks(changes, last, at_ms))


def page(connection: sqlite3.Connection, after: int, limit: int) -> EventPage:
    """As ``HeartStore.events``."""
    [epoch] = connection.execute("SELECT epoch FROM outbox").fetchone()
    # Before the events: an event that is counted is then there to be read.
    last = last_number(connection)
    rows = connection.execute(_PAGE, {"next": after + 1, "blocks": BLOCKS_READ}).fetchall()
    return EventPage(epoch, last, events(rows, after, limit))


def trim(connection: sqlite3.Connection, before_ms: int, up_to: int) -> int:
    """As ``HeartStore.trim_events``, on the writer's connection; only whole blocks go."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # A block may only go with all in front of it, whatever a clock that stepped back wrote.
        [kept] = connection.execute(
            "SELECT coalesce(min(first), 0) FROM event WHERE at_ms >= ? OR last > ?", (before_ms, up_to)
        ).fetchone()
        bound = kept or last_number(connection) + 1
        [gone] = connection.execute(
            "SELECT coalesce(sum(last - first + 1), 0) FROM event WHERE first < ?", (bound,)
        ).fetchone()
        if gone:
            connection.execute("DELETE FROM event WHERE first < ?", (bound,))
            connection.execute("UPDATE outbox SET trimmed = ?", (bound - 1,))
        connection.execute("COMMIT")
        return int(gone)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
