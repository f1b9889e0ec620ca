"""Giving and taking hearts: the rules above the store, and the news of what changed.

Plain functions with a ``done`` callback, like the store's: the hot path makes no task.
An event is published only for a real change, and only after the store said that it is
durable, so no view can show a heart that a crash takes away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple

from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.errors import Conflict, InvalidInput, StoreUnavailable
from heartcast.hearts.gate import Gate
from heartcast.hearts.last_known import LastKnown
from heartcast.hearts.model import (
    HIDDEN,
    KIND,
    Cause,
    Count,
    Heart,
    HeartChanged,
    HeartKey,
    Once,
    Outcome,
    Receipt,
    Recount,
    Step,
)
from heartcast.hearts.shadow import SeenDone, Shadows, hidden, joined, shown
from heartcast.hearts.store import CountsDone, Done, HeartStore, OnceDone


class Gates(NamedTuple):
    """The two ways to a store: a full disk stops writes and no reads."""

    reads: Gate
    writes: Gate


class HeartService:
    """Hearts of all kinds.

    Args:
        store: Where they are kept; its owner closes it.
        clock: Says when a heart was made.
        bus: Where changes are announced.
        kinds: The kinds that may be given.
        undo_window_s: Seconds within which a heart may be taken back; 0: for ever.
        gates: The ways to the store for reads and for writes; None: it cannot fail.
        last_known: Told every count that is read; None: nobody remembers them.
        has_shadows: Whether some hearts may be shadowed (``hearts.shadow``). Without it nobody
            pays for looking.
    """

    def __init__(
        self,
        store: HeartStore,
        clock: Clock,
        bus: Bus[HeartChanged],
        kinds: Collection[str] = (KIND,),
        *,
        undo_window_s: float = 0.0,
        has_shadows: bool = False,
        gates: Gates | None = None,
        last_known: LastKnown | None = None,
    ) -> None:
        self._store = store
        self._now_ms = clock.wall_ms
        self._publish = bus.publish
        self._kinds = frozenset(kinds)
        self.gates = gates
        self._last_known = last_known
        self._undo_window_ms = round(undo_window_s * 1000)
        self._shadows = Shadows(store) if has_shadows else None
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

        if self.gates is None:
            self._store.add(keys, self._now_ms(), finish)
        elif (guarded := self.gates.writes.enter(finish)) is not None:
            self._store.add(keys, self._now_ms(), guarded)

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        """As ``HeartStore.load``."""

        def finish(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, list):
                self._announce(keys, result, 1)
            done(result)

        self._store.load(keys, times_ms, finish, cause)

    def add_shadowed(self, key: HeartKey, done: Done) -> None:
        """Heart a target so that only the user sees it; ``done`` is told what ``add`` would tell.

        A heart that is there already and counts stays as it is.
        """
        shadows = self._shadows
        assert shadows is not None, "has_shadows"

        def knows(result: list[bool] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                done(result)
            elif result[0]:
                self.add((key,), done)
            else:
                shadows.add(key, self._now_ms(), done)

        self._store.hearted(key.user_id, [key.target_id], key.kind, knows)

    def remove(self, keys: Sequence[HeartKey], done: Done, cause: Cause = "user") -> None:
        """Take these hearts back. Arguments and ``done`` as in ``HeartStore.add``."""

        def finish(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, list):
                self._announce(keys, result, -1)
                if self._shadows is not None:
                    self._shadows.remove(keys, self._now_ms(), result, done, cause)
                    return
            done(result)

        if self.gates is None:
            self._store.remove(keys, self._now_ms(), finish, cause)
        elif (guarded := self.gates.writes.enter(finish)) is not None:
            self._store.remove(keys, self._now_ms(), guarded, cause)

    def once(self, receipt: Receipt, steps: Sequence[Step], done: OnceDone) -> None:
        """Give and take back these hearts if that was not done before.

        Arguments and ``done`` as in ``HeartStore.once``; at most 500 steps.
        """
        asked = steps if self._shadows is None else _with_hidden(steps)

        def finish(result: Once | InvalidInput | StoreUnavailable) -> None:
            if isinstance(result, Once):
                if not result.is_repeated:
                    self._announce_steps(asked, result.outcomes)
                if len(asked) > len(steps):
                    result = Once(_joined(steps, result.outcomes), result.is_repeated)
            done(result)

        if self.gates is None:
            self._store.once(receipt, asked, self._now_ms(), finish)
        elif (guarded := self.gates.writes.enter(finish)) is not None:
            self._store.once(receipt, asked, self._now_ms(), guarded)

    async def is_known(self, receipt: Receipt | None) -> bool:
        """Whether what is asked with this receipt was done before, so that nothing forbids it now.

        Raises:
            InvalidInput, StoreUnavailable: as ``HeartStore.recall``.
        """
        return receipt is not None and await self._store.recall(receipt, self._now_ms()) is not None

    def _announce_steps(self, steps: Sequence[Step], outcomes: list[Outcome]) -> None:
        # What is shadowed is nobody's news.
        pairs = [
            pair for pair in zip(steps, outcomes, strict=True) if not pair[0].key.kind.startswith(HIDDEN)
        ]
        for is_add, run in groupby(pairs, key=lambda pair: pair[0].is_add):
            some = list(run)
            self._announce(
                [step.key for step, _ in some], [outcome for _, outcome in some], 1 if is_add else -1
            )

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
        if self.gates is None:
            self._store.counts(target_ids, kind, done)
            return

        def finish(result: list[Count] | StoreUnavailable) -> None:
            if self._last_known is not None and isinstance(result, list):
                self._last_known.learn(result, kind)
            done(result)

        if (guarded := self.gates.reads.enter(finish)) is not None:
            self._store.counts(target_ids, kind, guarded)

    def last_known(self, target_ids: Sequence[str], kind: str) -> tuple[list[Count], int] | None:
        """What ``LastKnown.find`` says, for when ``counts`` could not answer."""
        return None if self._last_known is None else self._last_known.find(target_ids, kind)

    def degraded(self) -> list[str]:
        """What does not work now as it should: ``hearts_reads``, ``hearts_writes``; [] when all is well."""
        if self.gates is None:
            return []
        return [gate.breaker.name for gate in self.gates if not gate.is_closed]

    def seen_by(self, user_id: str, counts: list[Count], kind: str, done: SeenDone) -> None:
        """Counts as one user sees them, each with whether the user hearts that target.

        Args:
            counts: What ``counts`` answered just now.
        """

        def found(hearted: list[bool] | StoreUnavailable) -> None:
            if isinstance(hearted, StoreUnavailable):
                done(hearted)
            elif self._shadows is not None:
                self._shadows.seen_by(user_id, counts, hearted, kind, done)
            else:
                done(list(zip(counts, hearted, strict=True)))

        self._store.hearted(user_id, [count.target_id for count in counts], kind, found)

    @property
    def has_undo_window(self) -> bool:
        """Whether ``check_undo`` ever refuses."""
        return self._undo_window_ms > 0

    async def check_undo(self, key: HeartKey) -> None:
        """Return when this heart may be taken back now, or is not there.

        Raises:
            Conflict: code ``undo_window_over``; it has been there for too long.
        """
        if not self._undo_window_ms:
            return
        hearts = await self.page(
            target_id=key.target_id, user_id=key.user_id, kind=key.kind, after="", limit=1
        )
        if hearts and self._now_ms() - hearts[0].created_ms >= self._undo_window_ms:
            window_s = self._undo_window_ms // 1000
            raise Conflict(
                f"a heart can be taken back within {window_s} s, and this one is older",
                code="undo_window_over",
            )

    async def find(self, heart_id: str) -> Heart | None:
        """As ``HeartStore.find``."""
        heart = await self._store.find(heart_id)
        return None if heart is None else shown(heart)

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        """As ``HeartStore.page``. A user's shadowed hearts are in the user's own lists only."""
        hearts = await self._store.page(
            target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
        )
        if self._shadows is None or user_id is None:
            return hearts
        return await self._shadows.page(
            hearts, target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
        )

    @property
    def is_durable(self) -> bool:
        """Whether what was answered survives this process."""
        return self._store.is_durable

    async def stored(self, user_id: str, kind: str, limit: int) -> list[Heart]:
        """A user's first hearts of one kind exactly as they are kept, hidden kinds by their names."""
        return await self._store.page(target_id=None, user_id=user_id, kind=kind, after="", limit=limit)

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        """As ``HeartStore.recount``."""
        return await self._store.recount(target_ids, kind)

    async def kinds(self) -> list[str]:
        """As ``HeartStore.kinds``: also those that may not be given any more."""
        return await self._store.kinds()

    def now_ms(self) -> int:
        """Wall time in milliseconds, by the clock that dates hearts."""
        return self._now_ms()


def _with_hidden(steps: Sequence[Step]) -> list[Step]:
    """Taking a heart back takes it back also where it is shadowed."""
    asked = []
    for step in steps:
        asked.append(step)
        if not step.is_add:
            asked.append(Step(False, hidden(step.key)))
    return asked


def _joined(steps: Sequence[Step], outcomes: list[Outcome]) -> list[Outcome]:
    told = iter(outcomes)
    return [next(told) if step.is_add else joined(next(told), next(told)) for step in steps]
