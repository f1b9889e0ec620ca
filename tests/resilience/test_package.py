"""The kit as others meet it: imports without the server, metrics as stock dashboards expect them."""

import contextlib
import subprocess
import sys
from random import Random

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

import heartcast.resilience
from heartcast.resilience import (
    AdaptiveTimeout,
    Backoff,
    BreakerPolicy,
    Bulkhead,
    Circuit,
    Hedge,
    KeyedBucket,
    Limit,
    Policy,
    Priority,
    Registry,
    Retry,
    RetryBudget,
    Shedder,
    Throttle,
    TokenBucket,
)
from heartcast.resilience.metrics import ResilienceCollector

QUICKSTART = """
import asyncio
from heartcast.resilience import Backoff, Bulkhead, Circuit, Limit, Policy, Retry, TokenBucket

policy = Policy(retry=Retry(Backoff(attempts=3)), limit=TokenBucket(Limit.parse("100/s burst 20")),
                circuit=Circuit("profiles"), bulkhead=Bulkhead(64), timeout=0.5, deadline_s=2.0)

@policy
async def profile(user: str) -> str:
    return user.upper()

print(asyncio.run(profile("ada")))
"""


def test_the_kit_imports_and_works_without_the_server_redis_and_prometheus() -> None:
    code = QUICKSTART + (
        "import sys\n"
        "heavy = {'uvicorn', 'litestar', 'redis', 'prometheus_client'}\n"
        "heavy |= {'uvloop', 'picows', 'structlog', 'rich', 'click'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr, done.returncode) == ("ADA\n", "", 0)


def test_what_is_exported_exists_and_is_sorted_as_the_linter_sorts() -> None:
    names = heartcast.resilience.__all__
    assert all(hasattr(heartcast.resilience, name) for name in names)
    assert len(set(names)) == len(names)


def scrape(names: str) -> list[str]:
    breakers, limiter = Registry(random=Random(1)), KeyedBucket(Limit.parse("1/h"))
    for partition in ("a", "b"):
        breaker = breakers.get("profiles", partition, now_ns=0)
        for n in range(20):
            permit = breaker.enter(0)
            if permit > 0:
                (breaker.fail if partition == "b" and n % 2 else breaker.ok)(permit, 0)
    for _ in range(3):
        limiter.admit_key("user-4711", 0)
    registry = CollectorRegistry()
    registry.register(
        ResilienceCollector(
            breakers=breakers, bulkheads={"db": Bulkhead(5)}, limiters={"hearts": limiter}, names=names
        )
    )
    return generate_latest(registry).decode().splitlines()


def test_metrics_have_resilience4js_names_and_meaning_when_asked_to() -> None:
    lines = scrape("resilience4j")

    for line in (
        'resilience4j_circuitbreaker_state{name="profiles",state="open"} 1.0',
        'resilience4j_circuitbreaker_state{name="profiles",state="closed"} 0.0',
        'resilience4j_circuitbreaker_calls_seconds_count{kind="failed",name="profiles"} 10.0',
        'resilience4j_circuitbreaker_calls_seconds_sum{kind="failed",name="profiles"} 0.0',
        'resilience4j_circuitbreaker_failure_rate{name="profiles"} 25.0',
        'resilience4j_bulkhead_max_allowed_concurrent_calls{name="db"} 5.0',
        'resilience_limiter_refused_total{name="hearts"} 2.0',
    ):
        assert line in lines


async def policy_at_work() -> Policy:
    """Four calls: at once, after a retry, in vain, and too late; each kind once."""
    ends = iter([None, OSError(), None, *[OSError()] * 3, *[TimeoutError()] * 3])
    policy = Policy(
        retry=Retry(Backoff(first_s=0.0001, max_s=0.0001), budget=RetryBudget(floor_per_s=9)),
        limit=TokenBucket(Limit.parse("1/h burst 100")),
        circuit=Circuit("profiles", BreakerPolicy(min_calls=1000)),
        bulkhead=Bulkhead(7),
        timeout=AdaptiveTimeout(now_ns=0),
    )

    @policy
    async def call() -> None:
        if (error := next(ends)) is not None:
            raise error

    for _ in range(4):
        with contextlib.suppress(OSError):
            await call()
    return policy


async def test_every_layer_of_a_policy_shows_what_it_did_under_the_policys_name() -> None:
    policy, shedder = await policy_at_work(), Shedder()
    shedder.update(2.0)
    shedder.refuses(Priority.BEST_EFFORT)
    registry = CollectorRegistry()
    registry.register(
        ResilienceCollector(
            policies={"profiles": policy},
            limiters={"mails": Throttle("1/s burst 5")},
            hedges={"reads": Hedge(0.1)},
            shedders={"port": shedder},
            names="resilience4j",
        )
    )
    lines = generate_latest(registry).decode().splitlines()

    for line in (
        'resilience4j_retry_calls_total{kind="successful_without_retry",name="profiles"} 1.0',
        'resilience4j_retry_calls_total{kind="successful_with_retry",name="profiles"} 1.0',
        'resilience4j_retry_calls_total{kind="failed_with_retry",name="profiles"} 2.0',
        'resilience4j_timelimiter_calls_total{kind="successful",name="profiles"} 2.0',
        'resilience4j_timelimiter_calls_total{kind="failed",name="profiles"} 4.0',
        'resilience4j_timelimiter_calls_total{kind="timeout",name="profiles"} 3.0',
        'resilience4j_circuitbreaker_calls_seconds_count{kind="failed",name="profiles"} 7.0',
        'resilience4j_bulkhead_available_concurrent_calls{name="profiles"} 7.0',
        'resilience4j_ratelimiter_available_permissions{name="profiles"} 91.0',
        'resilience4j_ratelimiter_available_permissions{name="mails"} 5.0',
        'resilience4j_ratelimiter_waiting_threads{name="mails"} 0.0',
        'resilience_timeout_seconds{name="profiles"} 1.0',
        'resilience_hedges_started_total{name="reads"} 0.0',
        'resilience_retry_budget_refused_total{name="profiles"} 0.0',
        'resilience_shed_total{name="port",priority="best_effort"} 1.0',
        'resilience_shed_total{name="port",priority="critical"} 0.0',
    ):
        assert line in lines


def test_no_user_and_no_key_is_ever_a_label() -> None:
    for names in ("resilience", "resilience4j"):
        text = "\n".join(scrape(names))
        assert "4711" not in text
        assert 'partition="' not in text
