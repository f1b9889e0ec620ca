"""Breakers, limits and bulkheads for Prometheus, read at scrape time: no cost per call.

With ``names="resilience4j"`` the families have resilience4j's names and semantics, so
that dashboards made for it work: one gauge per state that is 0 or 1, rates in percent
and -1 while there are too few calls. Labels are names of dependencies and limits, never
users or keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from heartcast.resilience.breaker import Breaker, Registry, State
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.limits import KeyedBucket, KeyedLimiter

Names = Literal["resilience", "resilience4j"]
Family = CounterMetricFamily | GaugeMetricFamily


class ResilienceCollector(Collector):
    """Register it with a ``CollectorRegistry``.

    Args:
        breakers: All breakers of the process; partitions of one dependency are added up.
        bulkheads: By name.
        limiters: By name.
    """

    def __init__(
        self,
        *,
        breakers: Registry | None = None,
        bulkheads: dict[str, Bulkhead] | None = None,
        limiters: dict[str, KeyedBucket | KeyedLimiter] | None = None,
        names: Names = "resilience",
    ) -> None:
        self._breakers = breakers
        self._bulkheads = bulkheads or {}
        self._limiters = limiters or {}
        stock = names == "resilience4j"
        self._breaker = "resilience4j_circuitbreaker" if stock else "resilience_breaker"
        self._bulkhead = "resilience4j_bulkhead" if stock else "resilience_bulkhead"

    def collect(self) -> Iterator[Family]:
        yield from self._collect_breakers()
        yield from self._collect_bulkheads()
        yield from self._collect_limiters()

    def _collect_breakers(self) -> Iterator[Family]:
        state = GaugeMetricFamily(
            f"{self._breaker}_state", "1 for the present state.", labels=["name", "state"]
        )
        calls = CounterMetricFamily(f"{self._breaker}_calls", "Calls by outcome.", labels=["name", "kind"])
        refused = CounterMetricFamily(
            f"{self._breaker}_not_permitted_calls", "Calls kept away.", labels=["name"]
        )
        buffered = GaugeMetricFamily(
            f"{self._breaker}_buffered_calls", "Calls in the window.", labels=["name", "kind"]
        )
        slow = GaugeMetricFamily(f"{self._breaker}_slow_calls", "Slow calls in the window.", labels=["name"])
        failure_rate = GaugeMetricFamily(
            f"{self._breaker}_failure_rate", "Percent; -1: too few.", labels=["name"]
        )
        slow_rate = GaugeMetricFamily(
            f"{self._breaker}_slow_call_rate", "Percent; -1: too few.", labels=["name"]
        )
        for name, breakers in self._by_name().items():
            worst = max(breakers, key=lambda breaker: _SEVERITY[breaker.state]).state
            for known in State:
                state.add_metric([name, known.name.lower()], float(known is worst))
            for kind, field in (("successful", "successes"), ("failed", "failures"), ("ignored", "ignored")):
                calls.add_metric([name, kind], sum(getattr(breaker, field) for breaker in breakers))
            refused.add_metric([name], sum(breaker.refused for breaker in breakers))
            held = sum(breaker.window.calls for breaker in breakers)
            failed = sum(breaker.window.failures for breaker in breakers)
            late = sum(breaker.window.slow for breaker in breakers)
            buffered.add_metric([name, "successful"], held - failed)
            buffered.add_metric([name, "failed"], failed)
            slow.add_metric([name], late)
            enough = any(breaker.window.calls >= breaker.policy.min_calls for breaker in breakers)
            failure_rate.add_metric([name], 100 * failed / held if enough else -1)
            slow_rate.add_metric([name], 100 * late / held if enough else -1)
        yield from (state, calls, refused, buffered, slow, failure_rate, slow_rate)

    def _by_name(self) -> dict[str, list[Breaker]]:
        by_name: dict[str, list[Breaker]] = {}
        for (dependency, _), breaker in self._breakers or ():
            by_name.setdefault(dependency, []).append(breaker)
        return by_name

    def _collect_bulkheads(self) -> Iterator[Family]:
        free = GaugeMetricFamily(
            f"{self._bulkhead}_available_concurrent_calls", "Free places.", labels=["name"]
        )
        most = GaugeMetricFamily(f"{self._bulkhead}_max_allowed_concurrent_calls", "Places.", labels=["name"])
        for name, bulkhead in self._bulkheads.items():
            free.add_metric([name], max(0, bulkhead.limit - bulkhead.in_flight))
            most.add_metric([name], bulkhead.limit)
        yield from (free, most)

    def _collect_limiters(self) -> Iterator[Family]:
        refused = CounterMetricFamily("resilience_limiter_refused", "Requests told to wait.", labels=["name"])
        overflow = CounterMetricFamily(
            "resilience_limiter_overflow", "Decided without a state.", labels=["name"]
        )
        keys = GaugeMetricFamily("resilience_limiter_keys", "States kept.", labels=["name"])
        for name, limiter in self._limiters.items():
            refused.add_metric([name], limiter.refused)
            overflow.add_metric([name], limiter.overflowed)
            keys.add_metric([name], len(limiter.generations))
        yield from (refused, overflow, keys)


# With several partitions the dependency shows its worst one.
_SEVERITY = {
    State.DISABLED: 0,
    State.METRICS_ONLY: 1,
    State.CLOSED: 2,
    State.HALF_OPEN: 3,
    State.OPEN: 4,
    State.FORCED_OPEN: 5,
}
