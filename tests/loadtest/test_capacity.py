"""From a sweep to a number of nodes."""

from __future__ import annotations

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, SettingsError
from heartcast.loadtest import capacity as model
from heartcast.loadtest.target import Target
from heartcast.loadtest.usl import Interval, Intervals, Usl


def step(n: int, per_s: float, p99_ms: float, cpu_ms: float | None = 0.1) -> model.Step:
    return model.Step(
        n=n,
        per_s=per_s,
        mean_ms=n / per_s * 1000,
        p99_ms=p99_ms,
        failed=0,
        server_cpu_ms=cpu_ms,
        tester_cpu=0.1,
    )


def measured(**changes) -> model.Capacity:
    around = Interval(0.0, 1.0)
    fields = {
        "of": "push",
        "url": "http://127.0.0.1:8080",
        "machine": "a machine",
        "began_at": "2026-11-20T08:15:30.125Z",
        "steps": [step(1, 1_000, 2), step(4, 3_000, 10), step(16, 6_000, 40), step(32, 6_500, 90)],
        "law": Usl(gamma=1_100, alpha=0.1, beta=0.0, sse=1.0, largest_n=32),
        "intervals": Intervals(around, around, around),
        "hold_out": step(48, 6_600, 150),
        "predicted_per_s": 6_930,
    }
    return model.Capacity(**{**fields, **changes})


def test_the_articles_figures_come_out_of_the_articles_formula() -> None:
    # 12 cores x 0.7 / 0.57 ms x 1000 = 14,737 requests/s.
    assert model.formula_per_s(12, 0.57) == pytest.approx(14_737, abs=1)


def test_little_says_how_many_are_in_flight() -> None:
    assert model.in_flight(2_000, 25) == 50


def test_the_miss_is_what_the_prediction_promised_too_much() -> None:
    assert measured().miss == pytest.approx(0.05)


def test_a_node_is_planned_with_a_share_of_what_kept_the_bound() -> None:
    plan = model.plan(measured(), per_s=100_000, p99_ms=50)
    assert plan.measured_per_s == 6_000
    assert plan.per_node == pytest.approx(4_200)
    assert plan.nodes == 24
    assert "16 in flight" in plan.by
    assert plan.in_flight == pytest.approx(11.2)
    assert plan.formula_per_s == pytest.approx(7_000)


def test_a_wider_bound_needs_no_more_nodes() -> None:
    tight, wide = [model.plan(measured(), per_s=100_000, p99_ms=p99).nodes for p99 in (15, 200)]
    assert tight == 48
    assert wide < tight


def test_a_bound_that_no_load_kept_is_refused_with_what_was_best() -> None:
    with pytest.raises(InvalidInput, match=r"the best was 2\.0 ms at 1,000 requests/s"):
        model.plan(measured(), per_s=1, p99_ms=0.5)


def test_without_the_servers_processor_time_the_formula_stays_silent() -> None:
    steps = [step(n, 1_000 * n, 1, None) for n in (1, 2, 4, 8, 16)]
    assert model.plan(measured(steps=steps), per_s=1, p99_ms=50).formula_per_s is None


def test_what_was_measured_reads_back(tmp_path) -> None:
    file = tmp_path / "capacity.json"
    model.write(measured(), file)
    assert model.read(file) == measured()


def test_a_missing_file_says_what_to_do(tmp_path) -> None:
    with pytest.raises(SettingsError, match="measure first: heartcast bench capacity --json"):
        model.read(tmp_path / "none.json")


def test_another_file_is_refused(tmp_path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SettingsError, match="was not written by heartcast bench capacity"):
        model.read(tmp_path / "x.json")


def test_loads_are_eight_equal_steps_up_to_the_largest() -> None:
    assert model.loads(32) == [4, 8, 12, 16, 20, 24, 28, 32]
    assert len(set(model.loads(17))) == 8


def test_too_small_a_sweep_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 16"):
        model.loads(15)


@pytest.mark.parametrize("of", ["push", "hearts", "publish"])
async def test_a_real_server_is_swept_fitted_and_checked(server, of) -> None:
    found = await model.measure(Target.parse(server.url), SystemClock(), of=of, largest=16, seconds=0.15)
    assert [s.n for s in found.steps] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert found.hold_out.n == 24
    assert not any(s.failed for s in found.steps)
    # Little's law holds of what was measured: in flight = rate x latency.
    last = found.steps[-1]
    assert model.in_flight(last.per_s, last.mean_ms) == pytest.approx(16, rel=0.35)
    assert found.cpu_ms is not None
