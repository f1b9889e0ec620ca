"""The comparison command, and two libraries as oracles for the arithmetic."""

import contextlib
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner
from interlock import CircuitBreaker as OracleBreaker
from interlock import Config
from interlock import State as OracleState
from pyrate_limiter import GCRA, Rate, StateBucket
from pyrate_limiter.abstracts.rate import RateItem

from heartcast.cli.bench_limits import limits
from heartcast.resilience.breaker import Breaker, BreakerPolicy, State
from heartcast.resilience.compare.algorithms import compare
from heartcast.resilience.limits import Limit, TokenBucket
from heartcast.testing import ManualClock

MS = 1_000_000


class OracleClock:
    """Their clock, in milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def now(self) -> int:
        return self.now_ms


def test_the_bucket_agrees_with_pyrate_limiters_gcra() -> None:
    dice, admitted = Random(1), 0
    for _ in range(30):
        # Emissions of whole milliseconds: their numbers are then exact too.
        every_ms, burst = dice.choice([1, 2, 5, 10]), dice.randint(1, 20)
        clock = OracleClock()
        oracle = StateBucket([Rate(1000 // every_ms, 1000, burst)], algorithm=GCRA(), clock=clock)
        ours = TokenBucket(Limit(limit=1000 // every_ms, burst=burst))
        for _ in range(400):
            clock.now_ms += dice.randint(0, 2 * every_ms)
            cost = dice.randint(1, min(3, burst))
            theirs = bool(oracle.put(RateItem("u", clock.now_ms, weight=cost)))
            assert (ours.admit(clock.now_ms * MS, cost) == 0) == theirs
            admitted += theirs

    assert 2000 < admitted < 11_000


def test_the_breaker_opens_on_the_same_call_as_interlock_does() -> None:
    opened = 0
    for seed in range(40):
        dice, clock = Random(seed), ManualClock()
        size, least, rate = dice.choice([5, 10, 50]), dice.randint(1, 5), dice.choice([0.3, 0.5, 0.8])
        config = Config(window_size=size, minimum_number_of_calls=least, failure_rate_threshold=rate)
        oracle = OracleBreaker(name="x", config=config)
        policy = BreakerPolicy(
            window="count", window_size=size, min_calls=least, failure_rate=rate, slow_rate=1.0
        )
        ours = Breaker("x", policy, random=Random(1))
        bad = dice.uniform(0.1, 0.9)
        for _ in range(200):
            fails = dice.uniform(0, 1) < bad
            permit = ours.enter(clock.monotonic_ns())
            if permit < 0:
                break
            (ours.fail if fails else ours.ok)(permit, clock.monotonic_ns())
            with contextlib.suppress(OSError):
                oracle.call_sync(raise_or_return, fails)
            assert (ours.state is State.OPEN) == (oracle.state is OracleState.OPEN)
        opened += ours.state is State.OPEN

    assert 10 < opened < 40


def raise_or_return(fails: bool) -> None:
    if fails:
        raise OSError("down")


def test_the_articles_table_comes_out_as_the_algorithms_promise() -> None:
    rows = {row.algorithm: row for row in compare()}

    assert rows["sliding window (log)"].worst_second == 1000
    assert rows["leaky bucket, queue 100"].worst_second <= 1001
    assert rows["token bucket"].worst_second in (1999, 2000)
    assert rows["token bucket, burst 100"].burst_admitted == pytest.approx(600, abs=2)
    assert rows["leaky bucket, queue 100"].wait_p99_ms == pytest.approx(100, rel=0.05)
    assert all(row.admitted_per_s == pytest.approx(1000, rel=0.01) for row in rows.values())
    assert all(0 < row.bytes_per_key < 700 for row in rows.values())


def test_the_command_prints_the_table_and_writes_figures_and_picture(tmp_path: Path) -> None:
    figures, picture = tmp_path / "limits.json", tmp_path / "limits.png"
    done = CliRunner().invoke(limits, ["--json", str(figures), "--plot", str(picture), "--rounds", "1"])

    assert done.exit_code == 0, done.output
    assert "token bucket" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    report = msgspec.json.decode(figures.read_bytes())
    assert report["missing"] == []
    assert {name.split()[0] for name in report["breakers_ns"]} == {
        "heartcast",
        "purgatory",
        "pybreaker",
        "interlock-cb",
    }


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "limits.json"
    done = CliRunner().invoke(
        limits, ["--json", str(missing), "--plot", str(tmp_path / "x.png"), "--rounds", "1"]
    )

    assert done.exit_code != 0
    assert str(done.exception).startswith(f"cannot write {missing}")
