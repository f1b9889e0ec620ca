"""Credit for hearts: a ledger that pays each first heart once, whatever happens.

The award is keyed by user, target and kind for ever: taking a heart back and giving it again
pays nothing more, and neither does an event that is read twice. Days are UTC days of the
events, so that reading them later decides as reading them at once.

Only hearts that a person gave earn something; imported and merged ones do not. The entries
of a person who is erased are erased with the hearts.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from heartcast.hearts.following import EffectsFile
from heartcast.hearts.model import Change, HeartEvent
from heartcast.hearts.options import CreditOptions
from heartcast.hearts.outbox import cursor_of

Reason = Literal["award", "cap", "clawback"]
_DAY_MS = 86_400_000


class Entry(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    number: int
    target_id: str
    kind: str
    points: int
    """Of an award >= 0, of a clawback <= 0; 0 when the day's cap was reached."""
    reason: Reason
    at_ms: int
    event: str
    """The event that made it; the cursor behind it."""


class Balance(msgspec.Struct, frozen=True):
    """What a user has, and has earned today."""

    points: int
    awarded_today: int


class Ledger:
    """Rules, and what came of them.

    Args:
        file: Where the ledger is kept.
    """

    def __init__(self, options: CreditOptions, file: EffectsFile) -> None:
        self._options = options
        self._file = file

    def take(self, connection: sqlite3.Connection, events: list[HeartEvent], epoch: str) -> None:
        """Book these events, in the transaction that is open."""
        for number, at_ms, change in events:
            if change.cause == "erase":
                _erase(connection, change.user_id)
            elif change.cause == "user" and change.kind in self._options.points:
                event = cursor_of(epoch, number)
                if change.delta > 0:
                    self._award(connection, change, at_ms, event)
                else:
                    self._claw_back(connection, change, at_ms, event)

    def _award(self, connection: sqlite3.Connection, change: Change, at_ms: int, event: str) -> None:
        wanted = self._options.points[change.kind]
        points = min(wanted, self._left_today(connection, change.user_id, at_ms, wanted))
        key = (change.user_id, change.target_id, change.kind)
        made = connection.execute(
            "INSERT OR IGNORE INTO award (user, target, kind, points, at_ms) VALUES (?, ?, ?, ?, ?)",
            (*key, points, at_ms),
        )
        if made.rowcount:
            _book(connection, change, points, "award" if points else "cap", at_ms, event)

    def _left_today(self, connection: sqlite3.Connection, user_id: str, at_ms: int, wanted: int) -> int:
        cap = self._options.daily_cap
        return max(0, cap - _awarded(connection, user_id, at_ms)) if cap else wanted

    def _claw_back(self, connection: sqlite3.Connection, change: Change, at_ms: int, event: str) -> None:
        taken = connection.execute(
            "UPDATE award SET is_taken_back = 1 WHERE user = ? AND target = ? AND kind = ?"
            " AND is_taken_back = 0 AND points > 0 AND at_ms > ? RETURNING points",
            (
                change.user_id,
                change.target_id,
                change.kind,
                at_ms - round(self._options.clawback_within_s * 1000),
            ),
        ).fetchone()
        if taken is not None:
            _book(connection, change, -taken[0], "clawback", at_ms, event)

    async def balance(self, user_id: str, now_ms: int) -> Balance:
        """What a user has.

        Raises:
            StoreUnavailable: the ledger cannot be read now.
        """

        def read(connection: sqlite3.Connection) -> Balance:
            row = connection.execute("SELECT points FROM balance WHERE user = ?", (user_id,)).fetchone()
            return Balance(row[0] if row else 0, _awarded(connection, user_id, now_ms))

        return await self._file.ask(read)

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        """A user's entries, newest first.

        Args:
            before: Only lower numbers; 0: from the newest.

        Raises:
            StoreUnavailable: as ``balance``.
        """

        def read(connection: sqlite3.Connection) -> list[Entry]:
            rows = connection.execute(
                "SELECT number, target, kind, points, reason, at_ms, event FROM entry"
                " WHERE user = ? AND (? = 0 OR number < ?) ORDER BY number DESC LIMIT ?",
                (user_id, before, before, limit),
            )
            return [Entry(*row) for row in rows]

        return await self._file.ask(read)


def _awarded(connection: sqlite3.Connection, user_id: str, at_ms: int) -> int:
    row = connection.execute(
        "SELECT awarded FROM balance WHERE user = ? AND day = ?", (user_id, at_ms // _DAY_MS)
    ).fetchone()
    return int(row[0]) if row else 0


def _book(
    connection: sqlite3.Connection, change: Change, points: int, reason: Reason, at_ms: int, event: str
) -> None:
    connection.execute(
        "INSERT INTO entry (user, target, kind, points, reason, at_ms, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (change.user_id, change.target_id, change.kind, points, reason, at_ms, event),
    )
    # What was taken back has been earned all the same: else un-heart and re-heart would lift the cap.
    connection.execute(
        "INSERT INTO balance VALUES (:user, :points, :day, :earned) ON CONFLICT (user) DO UPDATE SET"
        " points = points + :points, day = max(day, :day), awarded = CASE"
        " WHEN day < :day THEN :earned WHEN day = :day THEN awarded + :earned ELSE awarded END",
        {"user": change.user_id, "points": points, "day": at_ms // _DAY_MS, "earned": max(0, points)},
    )


def _erase(connection: sqlite3.Connection, user_id: str) -> None:
    for table in ("award", "entry", "balance"):
        connection.execute(f"DELETE FROM {table} WHERE user = ?", (user_id,))  # noqa: S608 - three names of ours
