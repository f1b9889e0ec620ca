"""From a sweep to a number of nodes."""

from __future__ import annotations

import msgspec
import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError, InvalidInput, SettingsError
from heartcast.loadtest import capacity as model
from heartcast.loadtest.sweep import Step, across, levels_of, loads, requests_of, sweep
from heartcast.loadtest.target import Target
from heartcast.loadtest.usl import Interval, Intervals, Usl


def step(n: int, per_s: float, p99_ms: float, cpu_ms: float | None = 0.1) -> Step:
    return Step(
        n=n,
        per_s=per_s,
        mean_ms=n / per_s * 1000,
        p99_ms=p99_ms,
        answers=1_000,
        failed=0,
        server_cpu_ms=cpu_ms,
        tester_cpu=0.1,
        error=0.01,
        waited=0.0,
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
        "scatter": 0.01,
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
    assert loads(32) == [4, 8, 12, 16, 20, 24, 28, 32]
    assert len(set(loads(17))) == 8


def test_too_small_a_sweep_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 16"):
        loads(15)


def swept(*per_s: float, n: int = 8) -> list[Step]:
    return [step(n, rate, 1.0) for rate in per_s]


def test_a_round_that_was_slow_as_a_whole_moves_no_load() -> None:
    steady = [swept(100, 100, 100, n=4), swept(150, 150, 150, n=8), swept(180, 180, 180, n=12)]
    disturbed = [swept(100, 60, 100, n=4), swept(150, 90, 150, n=8), swept(180, 108, 180, n=12)]
    levels = levels_of(disturbed)
    assert levels == pytest.approx([1, 0.6, 1])
    assert [across(load, levels).per_s for load in disturbed] == pytest.approx(
        [across(load, [1, 1, 1]).per_s for load in steady]
    )


def test_one_disturbed_moment_of_a_load_does_not_count() -> None:
    assert across(swept(100, 30, 101, 99, 100), [1, 1, 1, 1, 1]).per_s == 100


def on_a_law(**changes) -> list[Step]:
    law = Usl(gamma=10_000, alpha=0.2, beta=0.0005, sse=0, largest_n=32)
    return [msgspec.structs.replace(step(n, law.throughput(n), 1.0), **changes) for n in [*loads(32), 48]]


def test_what_lies_on_a_law_foretells_the_load_that_was_held_out() -> None:
    *seen, held = on_a_law()
    law = model.law_of([*seen, held], fitted=len(seen))
    assert law.throughput(held.n) == pytest.approx(held.per_s, rel=1e-6)


def test_loads_on_no_curve_are_refused_with_how_far_they_lie_off() -> None:
    steps = on_a_law()
    wild = [
        msgspec.structs.replace(each, per_s=each.per_s * (1.4 if k % 2 else 0.7))
        for k, each in enumerate(steps)
    ]
    with pytest.raises(HeartcastError, match=r"no curve fits what was measured: the loads lie \d+% off"):
        model.law_of(wild, fitted=8)


def test_a_load_whose_rounds_differ_too_much_is_refused_with_what_is_known_of_it() -> None:
    with pytest.raises(HeartcastError, match="with 4 in flight is known to 16% only"):
        model.law_of(on_a_law(error=0.08), fitted=8)


def test_the_error_of_a_load_is_that_of_its_median() -> None:
    assert across(swept(90, 95, 100, 105, 110), [1] * 5).error == pytest.approx(0.0415, abs=1e-3)
    assert across(swept(100, 100, 100, 100, 10), [1] * 5).error == 0


def test_refusals_of_the_server_are_no_capacity() -> None:
    with pytest.raises(HeartcastError, match="with 4 in flight the server refused 20 requests"):
        model.law_of(on_a_law(failed=20), fitted=8)


def test_a_busy_tester_is_not_mistaken_for_a_slow_server() -> None:
    with pytest.raises(HeartcastError, match="the tester used 98% of its core"):
        model.law_of(on_a_law(tester_cpu=0.98), fitted=8)


@pytest.mark.parametrize("of", ["push", "hearts", "publish"])
async def test_a_real_server_is_swept(server, of) -> None:
    # What such short loads give is not fitted here: on a busy machine it is refused, and rightly.
    target = Target.parse(server.url)
    seen, held = await sweep(target, SystemClock(), of=of, largest=16, seconds=0.3, rounds=1)
    assert [s.n for s in seen] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert held.n == 24
    assert not any(s.failed for s in [*seen, held])
    # Little's law holds of what was measured: in flight = rate x latency. The rate leaves out the time in
    # which the machine did something else, the latency has it.
    per_s = held.per_s * (1 - held.waited)
    assert model.in_flight(per_s, held.mean_ms) == pytest.approx(24, rel=0.5)
    assert held.server_cpu_ms is not None


def test_a_sweep_gives_every_heart_of_another_user() -> None:
    following = requests_of(Target.parse("http://127.0.0.1:1"), "hearts")
    users = set()
    for _ in range(2_000):
        head, _, body = following().partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        users.add(msgspec.json.decode(body)["user_id"])
    assert len(users) == 2_000


def test_a_sweep_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="there is no sweep of 'pings'"):
        requests_of(Target.parse("http://127.0.0.1:1"), "pings")
