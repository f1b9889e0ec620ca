"""What a proxy does wrong on purpose, the verdict finds, to the last message."""

from __future__ import annotations

import pytest

from heartcast.loadtest.bench import bench
from heartcast.loadtest.scenario import of
from heartcast.loadtest.target import Target

FANOUT = {
    "subscribers": 40,
    "channels": 8,
    "load": {"rate_per_s": 200.0, "seconds": 1.8, "warmup_s": 0.0},
    # Wide enough that a busy machine does not add late messages to the planted ones.
    "bounds": {"late_ms": 2_000.0},
}
KINDS = ("lost", "duplicate", "reordered", "damaged", "late")


def found(report) -> dict[str, int]:
    return {kind: report.counts[kind] for kind in KINDS}


def planted(proxy) -> dict[str, int]:
    return {kind: proxy.planted[kind] for kind in KINDS}


async def test_without_faults_the_proxy_is_not_noticed(frame_proxy) -> None:
    async with frame_proxy({}) as proxy:
        report = await bench(Target.parse(proxy.url), of("fanout", FANOUT))
    assert found(report) == dict.fromkeys(KINDS, 0)
    assert report.is_passed
    assert report.delivered == report.owed == proxy.messages > 1_000


async def test_a_subscription_that_is_refused_for_now_is_asked_for_again(frame_proxy) -> None:
    async with frame_proxy({}, refusals=15) as proxy:
        report = await bench(Target.parse(proxy.url), of("fanout", FANOUT))
    assert proxy.refusals == 0
    assert report.failures == {"100 internal server error": 15}
    assert report.is_passed
    assert report.delivered == report.owed > 1_000


@pytest.mark.parametrize(("fault", "kind"), [
    ("drop", "lost"), ("double", "duplicate"), ("swap", "reordered"), ("corrupt", "damaged"),
])  # fmt: skip
async def test_each_fault_is_found_to_the_exact_count(frame_proxy, fault, kind) -> None:
    async with frame_proxy({fault: 0.05}) as proxy:
        report = await bench(Target.parse(proxy.url), of("fanout", FANOUT))
    assert proxy.planted[kind] > 10
    assert found(report) == planted(proxy)
    assert not report.is_passed
    assert report.examples[kind]


@pytest.mark.parametrize("sessions", ["json", "binary", "sse"])
async def test_faults_of_all_kinds_at_once_are_told_apart_exactly(frame_proxy, sessions) -> None:
    shares = {"drop": 0.03, "double": 0.03, "swap": 0.03, "corrupt": 0.03}
    async with frame_proxy(shares) as proxy:
        report = await bench(Target.parse(proxy.url), of("fanout", {**FANOUT, "sessions": sessions}))
    assert min(proxy.planted.values()) > 5
    assert found(report) == planted(proxy)


@pytest.mark.parametrize("sessions", ["json", "binary", "sse"])
async def test_delayed_messages_are_late_and_out_of_order_to_the_exact_count(frame_proxy, sessions) -> None:
    async with frame_proxy({"delay": 0.03}, delay_s=3.0) as proxy:
        report = await bench(Target.parse(proxy.url), of("fanout", {**FANOUT, "sessions": sessions}))
    assert proxy.planted["late"] > 10
    assert found(report) == planted(proxy)
    assert report.delivered == report.owed
