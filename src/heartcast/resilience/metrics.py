"""All layers of the kit for Prometheus, read at scrape time: no cost per call.

With ``names="resilience4j"`` the families have resilience4j's names and semantics, so
that dashboards made for it work: one gauge per state that is 0 or 1, rates in percent
and -1 while there are too few calls, calls with their durations. What resilience4j does
not have keeps our name. Labels are names of dependencies and limits, never users or keys.

Not there: ``…_calls_seconds_max``, which would have to be forgotten at each scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from heartcast.core.clock import SystemClock
from heartcast.resilience.breaker import Breaker, Registry, State
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.hedge import Hedge
from heartcast.resilience.limits import KeyedBucket, KeyedLimiter, Throttle, TokenBucket
from heartcast.resilience.options import MetricNames
from heartcast.resilience.policy import Policy
from heartcast.resilience.retry import Retry
from heartcast.resilience.shedding import Priority, Shedder
from heartcast.resilience.timeout import AdaptiveTimeout

Limiter = KeyedBucket | KeyedLimiter | TokenBucket | Throttle
Family = CounterMetricFamily | GaugeMetricFamily | SummaryMetricFamily


class ResilienceCollector(Collector):
    """Register it with a ``CollectorRegistry``.

    Args:
        breakers: All breakers of the process; partitions of one dependency are added up.
        policies: By name; all of their layers are shown under it.
        bulkheads, limiters, retries, hedges, timeouts, shedders: By name, where they stand alone.
        now_ns: Monotonic time, for what is left in a bucket.
    """

    def __init__(
        self, *, breakers: Registry | None = None, policies: Mapping[str, Policy] | None = None,
        bulkheads: Mapping[str, Bulkhead] | None = None, limiters: Mapping[str, Limiter] | None = None,
        retries: Mapping[str, Retry] | None = None, hedges: Mapping[str, Hedge] | None = None,
        timeouts: Mapping[str, AdaptiveTimeout] | None = None,
        shedders: Mapping[str, Shedder] | None = None, names: MetricNames = "resilience",
        now_ns: Callable[[], int] = SystemClock.monotonic_ns,
    ) -> None:  # fmt: skip
        self._breakers = breakers
        self._policies = policies or {}
        self._bulkheads = bulkheads or {}
        self._limiters = limiters or {}
        self._retries = retries or {}
        self._hedges = hedges or {}
        self._timeouts = timeouts or {}
        self._shedders = shedders or {}
        self._is_stock = names == "resilience4j"
        self._now_ns = now_ns

    def collect(self) -> Iterator[Family]:
        scrape = _Scrape(is_stock=self._is_stock)
        for name, breakers in self._by_name().items():
            _add_breakers(scrape, name, breakers)
        for name, policy in self._policies.items():
            _add_policy(scrape, name, policy, self._now_ns())
        for name, bulkhead in self._bulkheads.items():
            _add_bulkhead(scrape, name, bulkhead)
        for name, limiter in self._limiters.items():
            _add_limiter(scrape, name, limiter, self._now_ns())
        for name, retry in self._retries.items():
            _add_retry(scrape, name, retry)
        for name, hedge in self._hedges.items():
            _add_hedge(scrape, name, hedge)
        for name, timeout in self._timeouts.items():
            _add_timeout(scrape, name, timeout)
        for name, shedder in self._shedders.items():
            _add_shedder(scrape, name, shedder)
        yield from scrape.families

    def _by_name(self) -> dict[str, list[Breaker]]:
        by_name: dict[str, list[Breaker]] = {}
        for (dependency, _), breaker in self._breakers or ():
            by_name.setdefault(dependency, []).append(breaker)
        for policy in self._policies.values():
            if policy.circuit is not None:
                by_name.setdefault(policy.circuit.breaker.name, []).append(policy.circuit.breaker)
        return by_name


# What resilience4j calls the families that it has, by what we call them.
_STOCK = {
    "breaker": "circuitbreaker",
    "limiter_available_permissions": "ratelimiter_available_permissions",
    "limiter_waiting": "ratelimiter_waiting_threads",
    "bulkhead_available_concurrent_calls": "bulkhead_available_concurrent_calls",
    "bulkhead_max_allowed_concurrent_calls": "bulkhead_max_allowed_concurrent_calls",
    "retry_calls": "retry_calls",
    "timeout_calls": "timelimiter_calls",
}


class _Scrape:
    """The families of one scrape, each made when its first value comes."""

    def __init__(self, *, is_stock: bool) -> None:
        self._is_stock = is_stock
        self._counts: dict[str, CounterMetricFamily] = {}
        self._gauges: dict[str, GaugeMetricFamily] = {}
        self._times: dict[str, SummaryMetricFamily] = {}

    @property
    def families(self) -> list[Family]:
        return [*self._gauges.values(), *self._counts.values(), *self._times.values()]

    def _name(self, name: str) -> str:
        stock = _STOCK.get(name)
        if stock is None and name.startswith("breaker_"):
            stock = name.replace("breaker", _STOCK["breaker"], 1)
        return f"resilience4j_{stock}" if self._is_stock and stock is not None else f"resilience_{name}"

    def count(self, name: str, words: str, value: float, /, **labels: str) -> None:
        full = self._name(name)
        if (family := self._counts.get(full)) is None:
            family = self._counts[full] = CounterMetricFamily(full, words, labels=list(labels))
        family.add_metric(list(labels.values()), value)

    def gauge(self, name: str, words: str, value: float, /, **labels: str) -> None:
        full = self._name(name)
        if (family := self._gauges.get(full)) is None:
            family = self._gauges[full] = GaugeMetricFamily(full, words, labels=list(labels))
        family.add_metric(list(labels.values()), value)

    def time(self, name: str, words: str, calls: int, seconds: float, /, **labels: str) -> None:
        full = self._name(name)
        if (family := self._times.get(full)) is None:
            family = self._times[full] = SummaryMetricFamily(full, words, labels=list(labels))
        family.add_metric(list(labels.values()), count_value=calls, sum_value=seconds)


def _add_breakers(scrape: _Scrape, name: str, breakers: list[Breaker]) -> None:
    worst = max(breakers, key=lambda breaker: _SEVERITY[breaker.state]).state
    for known in State:
        is_it = float(known is worst)
        scrape.gauge("breaker_state", "1 for the present state.", is_it, name=name, state=known.name.lower())

    def total(field: str) -> int:
        return sum(getattr(breaker, field) for breaker in breakers)

    words = "Calls by outcome, with how long they took."
    for kind, field in (("successful", "successes"), ("failed", "failures")):
        seconds = total(f"{field}_ns") / 1e9
        scrape.time("breaker_calls_seconds", words, total(field), seconds, name=name, kind=kind)
    scrape.time("breaker_calls_seconds", words, total("ignored"), 0.0, name=name, kind="ignored")
    scrape.count(
        "breaker_not_permitted_calls", "Calls kept away.", total("refused"), name=name, kind="not_permitted"
    )
    _add_windows(scrape, name, breakers)
    moves: dict[tuple[State, State], int] = {}
    for breaker in breakers:
        for move, times in breaker.transitions.items():
            moves[move] = moves.get(move, 0) + times
    for (before, after), times in moves.items():
        states = {"from": before.name.lower(), "to": after.name.lower()}
        scrape.count("breaker_transitions", "Changes of state.", times, name=name, **states)


def _add_windows(scrape: _Scrape, name: str, breakers: list[Breaker]) -> None:
    held = sum(breaker.window.calls for breaker in breakers)
    failed = sum(breaker.window.failures for breaker in breakers)
    late = sum(breaker.window.slow for breaker in breakers)
    enough = any(breaker.window.calls >= breaker.policy.min_calls for breaker in breakers)
    for kind, calls in (("successful", held - failed), ("failed", failed)):
        scrape.gauge("breaker_buffered_calls", "Calls in the window.", calls, name=name, kind=kind)
    scrape.gauge("breaker_slow_calls", "Slow calls in the window.", late, name=name)
    words = "Percent; -1: too few calls."
    scrape.gauge("breaker_failure_rate", words, 100 * failed / held if enough else -1, name=name)
    scrape.gauge("breaker_slow_call_rate", words, 100 * late / held if enough else -1, name=name)


def _add_policy(scrape: _Scrape, name: str, policy: Policy, now_ns: int) -> None:
    if policy.retry is not None:
        _add_retry(scrape, name, policy.retry)
    if policy.hedge is not None:
        _add_hedge(scrape, name, policy.hedge)
    if policy.limit is not None:
        _add_limiter(scrape, name, policy.limit, now_ns)
    if policy.bulkhead is not None:
        _add_bulkhead(scrape, name, policy.bulkhead)
    if isinstance(policy.timeout, AdaptiveTimeout):
        _add_timeout(scrape, name, policy.timeout)
    if policy.timeout is not None:
        for kind, calls in policy.attempts.items():
            scrape.count("timeout_calls", "Attempts by how they ended.", calls, name=name, kind=kind)


def _add_bulkhead(scrape: _Scrape, name: str, bulkhead: Bulkhead) -> None:
    free = max(0, bulkhead.limit - bulkhead.in_flight)
    scrape.gauge("bulkhead_available_concurrent_calls", "Free places.", free, name=name)
    scrape.gauge("bulkhead_max_allowed_concurrent_calls", "Places.", bulkhead.limit, name=name)
    scrape.gauge("bulkhead_waiting_calls", "Calls that wait for a place.", bulkhead.waiting, name=name)
    scrape.count("bulkhead_refused_calls", "Calls that found no place.", bulkhead.refused, name=name)


def _add_limiter(scrape: _Scrape, name: str, limiter: Limiter, now_ns: int) -> None:
    if isinstance(limiter, KeyedBucket | KeyedLimiter):
        scrape.count("limiter_refused", "Requests told to wait.", limiter.refused, name=name)
        scrape.count("limiter_overflow", "Decided without a state.", limiter.overflowed, name=name)
        scrape.gauge("limiter_keys", "States kept.", len(limiter.generations), name=name)
        return
    bucket = limiter.bucket if isinstance(limiter, Throttle) else limiter
    scrape.gauge("limiter_available_permissions", "Units there now.", bucket.left(now_ns), name=name)
    waiting = limiter.waiting if isinstance(limiter, Throttle) else 0
    scrape.gauge("limiter_waiting", "Callers that wait for their turn.", waiting, name=name)


def _add_retry(scrape: _Scrape, name: str, retry: Retry) -> None:
    for kind, outcome in (
        ("successful_without_retry", "first"),
        ("successful_with_retry", "retried"),
        ("failed_without_retry", "failed"),
        ("failed_with_retry", "failed_retried"),
    ):
        scrape.count("retry_calls", "Calls by how they ended.", retry.outcomes[outcome], name=name, kind=kind)
    refused = retry.budget.refused
    scrape.count("retry_budget_refused", "Retries that the budget did not allow.", refused, name=name)


def _add_hedge(scrape: _Scrape, name: str, hedge: Hedge) -> None:
    scrape.count("hedges_started", "Second calls made.", hedge.started, name=name)
    scrape.count("hedges_won", "Second calls whose answer was taken.", hedge.won, name=name)


def _add_timeout(scrape: _Scrape, name: str, timeout: AdaptiveTimeout) -> None:
    scrape.gauge("timeout_seconds", "The timeout that was learnt.", timeout.timeout_s, name=name)


def _add_shedder(scrape: _Scrape, name: str, shedder: Shedder) -> None:
    for priority in Priority:
        label = priority.name.lower()
        scrape.count("shed", "Requests turned away.", shedder.shed[priority], name=name, priority=label)


# With several partitions the dependency shows its worst one.
_SEVERITY = {
    State.DISABLED: 0,
    State.METRICS_ONLY: 1,
    State.CLOSED: 2,
    State.HALF_OPEN: 3,
    State.OPEN: 4,
    State.FORCED_OPEN: 5,
}
