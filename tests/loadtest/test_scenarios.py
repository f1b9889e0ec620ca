"""Every kind of scenario against a real server, small."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from heartcast.loadtest.bench import bench
from heartcast.loadtest.scenario import of
from heartcast.loadtest.sessions.binary import BinarySubscriber
from heartcast.loadtest.sessions.kinds import KINDS
from heartcast.loadtest.target import Target

SHORT = {"seconds": 2.5, "warmup_s": 0.5}
BUSY = {"late_ms": 3_000.0}


async def run(server, kind: str, **choices):
    choices.setdefault("bounds", BUSY)
    return await bench(Target.parse(server.url), of(kind, choices))


@pytest.mark.parametrize("sessions", ["json", "binary"])
async def test_pushes_arrive_once_in_order_and_leave_the_inbox_when_acknowledged(server, sessions) -> None:
    report = await run(
        server,
        "push",
        sessions=sessions,
        users=40,
        offline_share=0.1,
        churn_per_s=10.0,
        load={**SHORT, "rate_per_s": 200.0},
    )
    assert report.is_passed, report.checks
    assert report.delivered == report.owed > 300
    assert report.counts["recovered"] > 0
    assert report.reconnects > 5


@pytest.mark.parametrize("sessions", ["json", "binary"])
async def test_pushes_in_batches_come_in_bursts_and_are_acknowledged_by_their_place(server, sessions) -> None:
    report = await run(
        server,
        "push",
        users=40,
        offline_share=0.0,
        churn_per_s=4.0,
        batch=20,
        burst=5,
        cumulative=True,
        sessions=sessions,
        load={**SHORT, "rate_per_s": 1_000.0},
    )
    assert report.is_passed, (report.checks, report.examples)
    assert report.delivered == report.owed > 1_500
    assert report.owed % 20 == 0, "a batch that was not full stays at home"


async def test_without_acknowledgements_every_push_is_still_kept_and_that_is_no_fault(server) -> None:
    report = await run(
        server,
        "push",
        users=10,
        acknowledge=False,
        churn_per_s=0.0,
        offline_share=0.0,
        load={**SHORT, "rate_per_s": 50.0},
    )
    assert report.is_passed, report.checks
    assert "unacknowledged" not in [check.name for check in report.checks]


async def test_a_stream_of_events_continues_where_it_broke_and_misses_no_push(server) -> None:
    report = await run(
        server,
        "push",
        sessions="sse",
        acknowledge=False,
        users=20,
        offline_share=0.2,
        churn_per_s=5.0,
        load={**SHORT, "rate_per_s": 100.0},
    )
    assert report.is_passed, report.checks
    assert report.delivered == report.owed > 150
    assert report.counts["recovered"] > 0
    assert report.reconnects > 2


async def test_what_a_binary_session_does_not_acknowledge_is_seen_to_be_kept(server) -> None:
    deaf = type("Deaf", (BinarySubscriber,), {"__slots__": (), "acknowledge": lambda self, push_ids: None})
    with patch.dict(KINDS, {"binary": deaf}):
        report = await run(
            server,
            "push",
            sessions="binary",
            users=2,
            churn_per_s=0.0,
            offline_share=0.0,
            load={**SHORT, "seconds": 4.0, "rate_per_s": 200.0},
        )
    # More than one answer can carry: the rest of an inbox follows as pushes.
    assert report.counts["unacknowledged"] == report.delivered > 650


async def test_hearts_are_counted_exactly(server) -> None:
    report = await run(
        server, "hearts", targets=50, users=30, undo_share=0.3, load={**SHORT, "rate_per_s": 400.0}
    )
    assert report.is_passed, report.checks
    assert report.owed == report.delivered > 100


async def test_hearts_in_batches_are_counted_exactly(server) -> None:
    report = await run(
        server, "hearts", targets=50, users=300, batch=20, load={**SHORT, "rate_per_s": 2_000.0}
    )
    assert report.is_passed, report.checks
    assert report.owed == report.delivered > 1_000


async def test_the_whole_loop_ends_with_exact_counts_everywhere(server) -> None:
    report = await run(
        server, "mixed", targets=30, watchers=30, authors=10, load={**SHORT, "rate_per_s": 150.0}
    )
    assert report.is_passed, (report.checks, report.examples)
    assert report.deliveries.count > 20


async def test_after_a_storm_everyone_is_back_and_has_missed_nothing(server) -> None:
    report = await run(
        server,
        "storm",
        subscribers=200,
        channels=4,
        at_s=1.0,
        within_s=0.5,
        load={"seconds": 3.0, "warmup_s": 0.5, "rate_per_s": 40.0},
    )
    assert report.is_passed, report.checks
    assert report.counts["recovered"] > 50
    assert report.reconnects == 200
    assert any("listening again" in note for note in report.notes)


async def test_readers_that_stall_lose_nothing_in_silence(server) -> None:
    report = await run(
        server,
        "slow",
        subscribers=40,
        at_s=0.5,
        stall_s=1.0,
        load={"seconds": 3.0, "warmup_s": 0.5, "rate_per_s": 100.0},
    )
    assert report.is_passed, report.checks
    assert any("stood still" in note for note in report.notes)


async def test_two_runs_with_one_seed_ask_for_the_same(server) -> None:
    first, second = [
        await run(server, "fanout", subscribers=10, channels=2, load={**SHORT, "rate_per_s": 60.0})
        for _ in range(2)
    ]
    assert first.offered == second.offered
    assert first.owed == second.owed


async def test_a_bound_that_is_not_met_fails_the_run(server) -> None:
    report = await run(
        server,
        "fanout",
        subscribers=10,
        channels=2,
        load={**SHORT, "rate_per_s": 60.0},
        bounds={"p99_ms": 0.001},
    )
    assert not report.is_passed
    assert [check.name for check in report.checks if not check.is_met] == ["p99_ms"]


@pytest.mark.parametrize("kind", ["ramp", "step", "spike", "sweep"])
async def test_every_shape_of_load_is_sent_as_scheduled(server, kind) -> None:
    load = {"seconds": 2.0, "warmup_s": 0.5, "rate_per_s": 40.0, "shape": kind, "arrivals": "constant"}
    scenario = of("fanout", {"subscribers": 4, "channels": 2, "load": load, "bounds": BUSY})
    report = await bench(Target.parse(server.url), scenario)
    assert abs(report.offered - sum(piece.count for piece in scenario.load.schedule())) <= 1
    assert report.is_passed, report.checks
