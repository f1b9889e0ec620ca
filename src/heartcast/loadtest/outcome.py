"""What a run leaves behind, apart from its sockets: it can be sent to another process and added up."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from heartcast.core.quantiles import Histogram
from heartcast.loadtest.run import Run, Second
from heartcast.loadtest.scenario import Scenario
from heartcast.loadtest.target import usage_of
from heartcast.loadtest.verdict import Ledger

K = TypeVar("K")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Of one run, or of all the runs that were one load together."""

    name: str
    url: str
    scenario: Scenario
    seconds: list[Second]
    ledger: Ledger
    """Its counts and examples; the streams stay where they were sent."""
    acknowledges: bool
    offered: int
    unsent: int
    failed: int
    statuses: dict[int, int]
    requests: Histogram
    deliveries: Histogram
    openings: Histogram
    lag: Histogram
    """All in microseconds."""
    reconnects: int
    closes: dict[str, int]
    failures: dict[str, int]
    limit: str | None
    rss_bytes: int
    """Memory of the tester."""
    ended_by: str | None
    notes: list[str]


def outcome_of(run: Run) -> Outcome:
    """What a run that has ended leaves. Called once: it closes the record of openings."""
    # Openings are all of a run's, except where a scene asked for a part of them.
    run.audience.opening.is_warm = True
    run.audience.opening.turn()
    own = usage_of(os.getpid())
    ledger = Ledger(run.ledger.late_us)
    _add(ledger, run.ledger)
    return Outcome(
        name=run.name,
        url=run.target.url,
        scenario=run.scenario,
        seconds=run.seconds,
        ledger=ledger,
        acknowledges=run.audience.acknowledges,
        offered=run.offered,
        unsent=run.unsent,
        failed=run.failed,
        statuses=dict(run.pool.statuses),
        requests=run.requests.total,
        deliveries=run.deliveries.total,
        openings=run.audience.opening.total,
        lag=run.lag,
        reconnects=run.audience.reconnects,
        closes=run.audience.closes,
        failures=run.audience.failures,
        limit=run.audience.crowd.limit_met,
        rss_bytes=own.rss_bytes if own else 0,
        ended_by=run.ended_by,
        notes=run.notes,
    )


def together(parts: Sequence[Outcome], *, name: str, scenario: Scenario, seconds: list[Second]) -> Outcome:
    """The outcome of several runs that were one load.

    Args:
        parts: At least one.
        scenario: The whole of which each did a part.
        seconds: Theirs, added up: a second's quantiles cannot be, once they are read.
    """
    ledger = Ledger(parts[0].ledger.late_us)
    for part in parts:
        _add(ledger, part.ledger)
    return Outcome(
        name=name,
        url=parts[0].url,
        scenario=scenario,
        seconds=seconds,
        ledger=ledger,
        acknowledges=parts[0].acknowledges,
        offered=sum(part.offered for part in parts),
        unsent=sum(part.unsent for part in parts),
        failed=sum(part.failed for part in parts),
        statuses=_summed([part.statuses for part in parts]),
        requests=merged([part.requests for part in parts]),
        deliveries=merged([part.deliveries for part in parts]),
        openings=merged([part.openings for part in parts]),
        lag=merged([part.lag for part in parts]),
        reconnects=sum(part.reconnects for part in parts),
        closes=_summed([part.closes for part in parts]),
        failures=_summed([part.failures for part in parts]),
        limit=next((part.limit for part in parts if part.limit), None),
        rss_bytes=sum(part.rss_bytes for part in parts),
        ended_by=next((part.ended_by for part in parts if part.ended_by), None),
        notes=list(_attributed([part.notes for part in parts])),
    )


def merged(histograms: Sequence[Histogram]) -> Histogram:
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole


def _add(whole: Ledger, part: Ledger) -> None:
    whole.merge(part.counts, part.examples)
    whole.delivered += part.delivered
    whole.owed += part.owed
    whole.foreign += part.foreign


def _attributed(notes: Sequence[list[str]]) -> Iterator[str]:
    """Each note with who made it: its numbers are of that process alone."""
    for number, own in enumerate(notes, start=1):
        for note in own:
            if all(note in others for others in notes):
                if number == 1:
                    yield f"Each process: {note}"
            else:
                yield f"Process {number}: {note}"


def _summed(counts: Sequence[dict[K, int]]) -> dict[K, int]:
    whole: Counter[K] = Counter()
    for each in counts:
        whole.update(each)
    return dict(whole)
