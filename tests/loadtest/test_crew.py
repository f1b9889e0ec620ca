"""Several tester processes are one load: nothing is counted twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import InvalidInput, Unavailable
from heartcast.core.quantiles import Histogram
from heartcast.loadtest.crew import Heard, added, bench_with, parts
from heartcast.loadtest.meter import Quantiles
from heartcast.loadtest.run import Second
from heartcast.loadtest.scenario import KINDS, Scenario, of
from heartcast.loadtest.target import Target
from heartcast.testing.server import running

LOAD = {"seconds": 2.0, "warmup_s": 0.5, "rate_per_s": 200.0}
BOUNDS = {"late_ms": 10_000.0}


def fanout(**fields: object) -> Scenario:
    return of("fanout", {"subscribers": 40, "channels": 4, "load": LOAD, "bounds": BOUNDS, **fields})


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 16))
def test_the_parts_of_a_scenario_add_up_to_the_whole(kind: str, processes: int) -> None:
    whole = of(kind, {"channels": 19} if kind in {"fanout", "slow"} else {})

    shares = parts(whole, processes)

    for name in ("subscribers", "channels", "users", "targets", "watchers", "authors"):
        if hasattr(whole, name):
            assert sum(getattr(share, name) for share in shares) == getattr(whole, name)
    assert sum(share.load.rate_per_s for share in shares) == pytest.approx(whole.load.rate_per_s)
    assert sum(share.sockets for share in shares) == whole.sockets
    assert len({share.seed for share in shares}) == processes


def test_what_cannot_be_shared_out_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="channels: 4 cannot be shared out among 5 processes"):
        parts(fanout(), 5)


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1), min_size=1, max_size=4))
def test_quantiles_of_a_second_are_those_of_all_latencies_together(latencies: list[list[int]]) -> None:
    heard, whole = [], Histogram()
    for one in latencies:
        histogram = Histogram()
        for value in one:
            histogram.add(value)
            whole.add(value)
        heard.append(_heard(histogram))

    assert added(heard).deliveries == Quantiles.of(whole)


def _heard(histogram: Histogram) -> Heard:
    quantiles = Quantiles.of(histogram)
    second = Second(
        at_s=1,
        offered=1,
        answered=1,
        refused=0,
        delivered=1,
        listening=1,
        requests=quantiles,
        deliveries=quantiles,
        tester_cpu=0.1,
        server_cpu=None,
        server_rss_bytes=None,
    )
    return Heard(second, histogram, histogram, {})


def test_two_processes_deliver_all_and_their_seconds_hold_the_whole_load() -> None:
    with running("--in-memory") as server:
        report = bench_with(2, Target.parse(server.url), fanout())

    assert report.is_passed, report.checks
    assert report.owed == report.delivered == report.offered * 10
    assert max(second.listening for second in report.seconds) == 40
    assert report.deliveries.count == sum(count for _, count in report.histogram)
    assert report.offered_per_s == pytest.approx(200, rel=0.35)
    assert report.options["subscribers"] == 40


async def test_faults_met_by_two_processes_are_counted_exactly(frame_proxy) -> None:
    shares = {"drop": 0.01, "double": 0.01, "corrupt": 0.01}
    async with frame_proxy(shares) as proxy:
        report = await asyncio.to_thread(bench_with, 2, Target.parse(proxy.url), fanout())

    found = {kind: report.counts[kind] for kind in ("lost", "duplicate", "damaged")}
    assert found == {kind: proxy.planted[kind] for kind in found}
    assert all(found.values())
    assert not report.is_passed


def test_a_process_that_is_killed_ends_the_run_with_a_report_of_the_others() -> None:
    def kill_one() -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    class View:
        def follow(self, run: object) -> None: ...
        def phase(self, text: str) -> None: ...
        def second(self, second: Second) -> None:
            if second.at_s == 0:
                threading.Thread(target=kill_one).start()

    with running("--in-memory") as server:
        report = bench_with(2, Target.parse(server.url), fanout(), view=View())  # type: ignore[arg-type]

    assert report.ended_by == "a process of the tester ended in the middle of the load"
    assert not report.is_passed
    assert report.delivered > 0
    assert not multiprocessing.active_children()


def test_what_one_process_notes_is_said_to_be_of_that_one() -> None:
    whole = of(
        "push", {"users": 40, "offline_share": 0.1, "churn_per_s": 2.0, "load": LOAD, "bounds": BOUNDS}
    )

    with running("--in-memory") as server:
        report = bench_with(2, Target.parse(server.url), whole)

    assert report.is_passed, report.checks
    assert any(note.startswith("Each process: 2 of 20 users were away") for note in report.notes)
    assert report.counts["recovered"] > 0


def test_a_server_that_is_not_there_is_said_once() -> None:
    with pytest.raises(Unavailable, match="no server answers at"):
        bench_with(2, Target.parse("http://127.0.0.1:9"), fanout())

    assert not multiprocessing.active_children()
