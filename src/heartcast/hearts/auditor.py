"""Counts that are proven, all the time: targets are counted again one after the other.

A count can only drift from its rows by a fault of ours, or by the hand of another program.
Whoever looks for it only when somebody complains, looks too late. The auditor walks through
all targets, round after round, and compares. What differs is told by a metric and a log
line, and repaired by compare-and-set: a target that changed since it was counted is left
for the next round, never overwritten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import Recount
from heartcast.hearts.options import AuditorOptions
from heartcast.hearts.store import HeartStore

_SHARE = 0.05
"""Of the time: a large target that takes 50 ms to count is followed by a second of rest."""

_log = structlog.get_logger("heartcast")


class Auditor:
    """Walks through all targets of a store.

    Args:
        elapsed_s: A clock for how long a step took.
    """

    def __init__(
        self,
        store: HeartStore,
        options: AuditorOptions,
        elapsed_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._options = options
        self._elapsed_s = elapsed_s
        self._after = ""
        self._drift_so_far = 0
        self.drift = 0
        """Hearts by which counts differed from rows, up or down, in the last whole round."""
        self.rounds = 0
        """Times that all targets were counted."""
        self.recounted = 0
        """Targets counted."""
        self.drifted = 0
        """Targets whose count differed."""
        self.repaired = 0
        """Of those, how many were repaired."""

    async def step(self) -> list[Recount]:
        """Count the next few targets.

        Returns:
            Those that differ, as they were found.

        Raises:
            StoreUnavailable: the store cannot be read now; the same targets come next.
        """
        names, after = await self._store.targets(self._after, self._options.targets)
        found: list[Recount] = []
        for kind in sorted({kind for _, kind in names}):
            asked = [target_id for target_id, its_kind in names if its_kind == kind]
            recounts = await self._store.recount(asked, kind)
            self.recounted += len(recounts)
            found += [recount for recount in recounts if recount.drift]
        for recount in found:
            await self._mend(recount)
        self._after = after
        if not after:
            self.rounds += 1
            self.drift, self._drift_so_far = self._drift_so_far, 0
        return found

    async def _mend(self, recount: Recount) -> None:
        self.drifted += 1
        self._drift_so_far += abs(recount.drift)
        is_repaired = False
        if self._options.repairs:
            now = await self._store.repair(recount.target_id, recount.kind, recount.count, recount.version)
            is_repaired = now is not None
            self.repaired += is_repaired
        _log.error(
            "heart_count_drifted",
            target_id=recount.target_id,
            kind=recount.kind,
            count=recount.count,
            rows=recount.rows,
            repaired=is_repaired,
        )

    async def round(self, on_step: Callable[[int], None] = lambda _: None) -> list[Recount]:
        """Count all targets once, from the first.

        Args:
            on_step: Told of the targets counted so far.

        Raises:
            StoreUnavailable: as ``step``.
        """
        self._after = ""
        before, rounds = self.recounted, self.rounds
        found: list[Recount] = []
        while self.rounds == rounds:
            found += await self.step()
            on_step(self.recounted - before)
        return found

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            started_s = self._elapsed_s()
            try:
                await self.step()
            except StoreUnavailable:
                # Its own log says so; counting can wait.
                pass
            except Exception:
                _log.exception("auditor_fault")
            took_s = self._elapsed_s() - started_s
            await asyncio.sleep(max(self._options.every_s, took_s / _SHARE))
