"""Working through a group of writes in memory, on top of what the database holds.

For stores that load what a group touches, decide everything here, and write back the
difference. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.hearts.model import Cause, Change, Heart, HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.store import OnceDone
from heartcast.hearts.store.receipts import Record

Result = list[Outcome] | Once | InvalidInput
"""Of one write; the last two are those of ``once``."""


class Write(msgspec.Struct, gc=False):
    """One call of ``add``, ``load``, ``remove`` or ``once``."""

    is_add: bool
    keys: Sequence[HeartKey]
    now_ms: int
    done: Callable[[Any], None]
    """``Done``, or of ``once`` ``OnceDone``."""
    cause: Cause = "user"
    times_ms: Sequence[int] | None = None
    """Of ``load``: when each heart was made."""
    receipt: Receipt | None = None
    """Of ``once``; its keys are those of ``steps``."""
    steps: Sequence[Step] = ()

    @staticmethod
    def once(receipt: Receipt, steps: Sequence[Step], now_ms: int, done: OnceDone) -> Write:
        return Write(False, [step.key for step in steps], now_ms, done, receipt=receipt, steps=steps)

    @property
    def added(self) -> Sequence[HeartKey]:
        """Keys that it adds."""
        return self.keys if self.is_add else [step.key for step in self.steps if step.is_add]


Name = tuple[str, str]
"""A target and a kind."""


class Target:
    """A target and kind, as it is after the writes worked through so far."""

    __slots__ = ("count", "saved_count", "saved_version", "tid", "version")

    def __init__(self, tid: int, count: int, version: int) -> None:
        self.tid = tid
        self.count = self.saved_count = count
        self.version = self.saved_version = version


class Difference(NamedTuple):
    """What has to be written."""

    gone: list[Heart]
    new: list[Heart]
    replaced: list[tuple[str, Heart]]
    """Id of the row as it is, and the heart that it becomes."""
    moved: list[Target]


class Group:
    """What one group of writes touches.

    Args:
        targets: By target and kind; those that do not exist are left out.
        before: The hearts that exist among the keys of the group.
        next_id: Makes ids of new hearts.
        keeps_events: Whether ``changes`` are noted.
        records: Those that there are of the group's receipts, by name.
    """

    def __init__(
        self,
        targets: dict[tuple[str, str], Target],
        before: dict[HeartKey, Heart],
        next_id: Callable[[], str],
        *,
        keeps_events: bool = False,
        records: dict[bytes, Record] | None = None,
    ) -> None:
        self._targets = targets
        self._before = before
        self._now: dict[HeartKey, Heart | None] = dict(before)
        self._next_id = next_id
        self._keeps_events = keeps_events
        self.changes: list[Change] = []
        """Every change of a membership so far, in order."""
        self._records = records or {}
        self.records: dict[bytes, Record] = {}
        """New records, by name."""

    def apply(self, write: Write) -> Result:
        """The result of one write, as if it had been made alone."""
        if write.receipt is not None:
            return self._once(write, write.receipt)
        return self._add(write) if write.is_add else self._remove(write)

    def _once(self, write: Write, receipt: Receipt) -> Once | InvalidInput:
        known = self.records.get(receipt.name) or self._records.get(receipt.name)
        if known is not None and not known.is_over(write.now_ms):
            return known.answer(receipt)
        outcomes: list[Outcome] = []
        for is_add, key in write.steps:
            one = Write(is_add, (key,), write.now_ms, write.done)
            outcomes += self._add(one) if is_add else self._remove(one)
        self.records[receipt.name] = Record(receipt, outcomes)
        return Once(outcomes, is_repeated=False)

    def _add(self, write: Write) -> list[Outcome]:
        times_ms = repeat(write.now_ms) if write.times_ms is None else write.times_ms
        now, outcomes = self._now, []
        for key, created_ms in zip(write.keys, times_ms, strict=False):
            target = self._targets[key[0], key[2]]
            heart = now.get(key)
            is_new = heart is None
            if heart is None:
                heart = now[key] = Heart(self._next_id(), key, created_ms)
                target.count += 1
                target.version += 1
                if self._keeps_events:
                    self._note(1, write.cause, heart, target)
            outcomes.append(Outcome(heart, target.count, target.version, is_new))
        return outcomes

    def _remove(self, write: Write) -> list[Outcome]:
        outcomes = []
        for key in write.keys:
            target = self._targets.get((key[0], key[2]))
            heart = self._now.get(key)
            if target is None:
                outcomes.append(Outcome(None, 0, 0, False))
                continue
            if heart is not None:
                self._now[key] = None
                target.count -= 1
                target.version += 1
                if self._keeps_events:
                    self._note(-1, write.cause, heart, target)
            outcomes.append(Outcome(heart, target.count, target.version, heart is not None))
        return outcomes

    def _note(self, delta: int, cause: Cause, heart: Heart, target: Target) -> None:
        heart_id, key, created_ms = heart
        self.changes.append(
            Change(delta, cause, key[0], key[1], key[2], heart_id, created_ms, target.count, target.version)
        )

    def difference(self) -> Difference:
        """What changed against the database."""
        gone, new, replaced = [], [], []
        for key, heart in self._now.items():
            was = self._before.get(key)
            if heart is was:
                continue
            if heart is None:
                assert was is not None
                gone.append(was)
            elif was is None:
                new.append(heart)
            else:
                replaced.append((was.id, heart))
        moved = [target for target in self._targets.values() if target.version != target.saved_version]
        return Difference(gone, new, replaced, moved)
