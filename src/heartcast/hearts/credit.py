"""Credit for hearts: a ledger that pays each first heart once, whatever happens.

The award is keyed by user, target and kind for ever: taking a heart back and giving it again
pays nothing more, and neither does an event that is read twice. Days are UTC days of the
events, so that reading them later decides as reading them at once.

Only hearts that a person gave earn something; imported and merged ones do not. The entries
of a person who is erased are erased with the hearts.

``book`` is pure. Where the books are is ``hearts.ledger``.
"""

from __future__ import annotations

import msgspec

from heartcast.hearts.ledger import (
    Account,
    Award,
    AwardKey,
    Bookings,
    Books,
    Entry,
    LedgerStore,
    Place,
    Reason,
)
from heartcast.hearts.model import Change, HeartEvent
from heartcast.hearts.options import CreditOptions
from heartcast.hearts.outbox import Page, cursor_of

_DAY_MS = 86_400_000


class Balance(msgspec.Struct, frozen=True):
    """What a user has, and has earned today."""

    points: int
    awarded_today: int


class Ledger:
    """Rules, and what came of them. Implements ``following.Taker``.

    Args:
        store: Where the books are kept; its owner closes it.
    """

    def __init__(self, options: CreditOptions, store: LedgerStore) -> None:
        self._options = options
        self._store = store
        self.place = store.place

    async def take(self, before: tuple[str, int] | None, page: Page) -> bool:
        """As ``following.Taker.take``."""
        keys = {_key(event.change) for event in page.events if self._earns(event.change)}
        books = await self._store.read(keys, {key.user_id for key in keys})
        bookings = book(self._options, page.events, page.epoch, books)
        seen = None if before is None else Place(*before)
        return await self._store.write(seen, Place(page.epoch, page.number), bookings)

    def _earns(self, change: Change) -> bool:
        return change.cause == "user" and change.kind in self._options.points

    async def balance(self, user_id: str, now_ms: int) -> Balance:
        """What a user has.

        Raises:
            StoreUnavailable: the ledger cannot be read now.
        """
        account = await self._store.account(user_id)
        return Balance(account.points, _awarded(account, now_ms))

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        """A user's entries, newest first.

        Args:
            before: Only lower numbers; 0: from the newest.

        Raises:
            StoreUnavailable: as ``balance``.
        """
        return await self._store.entries(user_id, before, limit)


def book(options: CreditOptions, events: list[HeartEvent], epoch: str, books: Books) -> Bookings:
    """What these events change.

    Args:
        books: What there is of the awards and users that they name; changed along.
    """
    return _Booking(options, books).run(events, epoch)


class _Booking:
    """One page of events on its way into the books."""

    def __init__(self, options: CreditOptions, books: Books) -> None:
        self._options = options
        self._books = books
        self._bookings = Bookings()

    def run(self, events: list[HeartEvent], epoch: str) -> Bookings:
        for number, at_ms, change in events:
            if change.cause == "erase":
                self._erase(change.user_id)
            elif change.cause == "user" and change.kind in self._options.points:
                event = cursor_of(epoch, number)
                if change.delta > 0:
                    self._award(change, at_ms, event)
                else:
                    self._claw_back(change, at_ms, event)
        return self._bookings

    def _award(self, change: Change, at_ms: int, event: str) -> None:
        if _key(change) in self._books.awards:
            return
        points = self._options.points[change.kind]
        if cap := self._options.daily_cap:
            account = self._books.accounts.get(change.user_id, Account())
            points = min(points, max(0, cap - _awarded(account, at_ms)))
        self._set(_key(change), Award(points, at_ms))
        self._note(change, points, "award" if points else "cap", at_ms, event)

    def _claw_back(self, change: Change, at_ms: int, event: str) -> None:
        award = self._books.awards.get(_key(change))
        if award is None or award.is_taken_back or not award.points:
            return
        if award.at_ms > at_ms - round(self._options.clawback_within_s * 1000):
            self._set(_key(change), msgspec.structs.replace(award, is_taken_back=True))
            self._note(change, -award.points, "clawback", at_ms, event)

    def _set(self, key: AwardKey, award: Award) -> None:
        self._books.awards[key] = self._bookings.awards[key] = award

    def _note(self, change: Change, points: int, reason: Reason, at_ms: int, event: str) -> None:
        user_id = change.user_id
        entry = Entry(0, change.target_id, change.kind, points, reason, at_ms, event)
        self._bookings.entries.append((user_id, entry))
        account = _after(self._books.accounts.get(user_id, Account()), points, at_ms)
        self._books.accounts[user_id] = self._bookings.accounts[user_id] = account

    def _erase(self, user_id: str) -> None:
        for awards in (self._books.awards, self._bookings.awards):
            for key in [key for key in awards if key.user_id == user_id]:
                del awards[key]
        for accounts in (self._books.accounts, self._bookings.accounts):
            accounts.pop(user_id, None)
        self._bookings.entries = [entry for entry in self._bookings.entries if entry[0] != user_id]
        self._bookings.erased.add(user_id)


def _key(change: Change) -> AwardKey:
    return AwardKey(change.user_id, change.target_id, change.kind)


def _awarded(account: Account, at_ms: int) -> int:
    return account.awarded if account.day == at_ms // _DAY_MS else 0


def _after(account: Account, points: int, at_ms: int) -> Account:
    # What was taken back has been earned all the same: else un-heart and re-heart would lift the cap.
    day, earned = at_ms // _DAY_MS, max(0, points)
    if account.day < day:
        return Account(account.points + points, day, earned)
    # An event of a day before, by a clock that stepped back, counts for no day.
    awarded = account.awarded + earned if account.day == day else account.awarded
    return Account(account.points + points, account.day, awarded)
