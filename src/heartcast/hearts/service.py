"""Giving and taking hearts: the rules above the store, and the news of what changed.

Plain functions with a ``done`` callback, like the store's: the hot path makes no task.
An event is published only for a real change, and only after the store said that it is
durable, so no view can show a heart that a crash takes away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.hearts.model import KIND, Cause, Heart, HeartChanged, HeartKey, Outcome
from heartcast.hearts.store import CountsDone, Done, HeartedDone, HeartStore


class HeartService:
    """Hearts of all kinds.

    Args:
        store: Where they are kept; its owner closes it.
        clock: Says when a heart was made.
        bus: Where changes are announced.
        kinds: The kinds that may be given.
    """

    def __init__(
        self, store: HeartStore, clock: Clock, bus: Bus[HeartChanged], kinds: Collection[str] = (KIND,)
    ) -> None:
        self._store = store
        self._now_ms = clock.wall_ms
        self._publish = bus.publish
        self._kinds = frozenset(kinds)
        self.added = 0
        """Hearts made."""
        self.removed = 0
        """Hearts taken back."""
        self.unchanged = 0
        """Adds of hearts that were there, removes of hearts that were not."""

    def check_kind(self, kind: str, pointer: str = "/kind") -> str:
        """Return ``kind`` if it may be given.

        Raises:
            InvalidInput: it is not one of the configured kinds.
        """
        if kind not in self._kinds:
            known = ", ".join(sorted(self._kinds))
            raise InvalidInput(f"must be one of: {known}", pointer=pointer, code="unknown_kind")
        return kind

    def add(self, keys: Sequence[HeartKey], done: Done) -> None:
        """Heart these targets. Arguments and ``done`` as in ``HeartStore.add``."""

        def finish(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, list):
                self._announce(keys, result, 1)
            done(result)

        self._store.add(keys, self._now_ms(), finish)

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        """As ``HeartStore.load``."""

        def finish(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, list):
                self._announce(keys, result, 1)
            done(result)

        self._store.load(keys, times_ms, finish, cause)

    def remove(self, keys: Sequence[HeartKey], done: Done, cause: Cause = "user") -> None:
        """Take these hearts back. Arguments and ``done`` as in ``HeartStore.add``."""

        def finish(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, list):
                self._announce(keys, result, -1)
            done(result)

        self._store.remove(keys, self._now_ms(), finish, cause)

    def _announce(self, keys: Sequence[HeartKey], outcomes: list[Outcome], delta: int) -> None:
        changed = at = 0
        publish = self._publish
        for outcome in outcomes:
            if outcome.changed:
                changed += 1
                heart = outcome.heart
                assert heart is not None
                # heart[2] is created_ms: by place it costs half, and this runs per heart.
                publish(HeartChanged(keys[at], outcome.count, outcome.version, heart[2], delta))
            at += 1
        self.unchanged += at - changed
        if delta > 0:
            self.added += changed
        else:
            self.removed += changed

    def counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        """As ``HeartStore.counts``."""
        self._store.counts(target_ids, kind, done)

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        """As ``HeartStore.hearted``."""
        self._store.hearted(user_id, target_ids, kind, done)

    async def find(self, heart_id: str) -> Heart | None:
        """As ``HeartStore.find``."""
        return await self._store.find(heart_id)

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        """As ``HeartStore.page``."""
        return await self._store.page(
            target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
        )

    async def kinds(self) -> list[str]:
        """As ``HeartStore.kinds``: also those that may not be given any more."""
        return await self._store.kinds()

    def now_ms(self) -> int:
        """Wall time in milliseconds, by the clock that dates hearts."""
        return self._now_ms()
