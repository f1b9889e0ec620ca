"""What outages do to the kit's parts and what these keep away from callers: simulated, in virtual time.

Nothing here depends on the machine. The tests of the kit ask the same functions.
"""

from __future__ import annotations

from collections import deque
from random import Random

from heartcast.resilience import Breaker, BreakerPolicy, Priority, RetryBudget, Shedder, State

_MS = 1_000_000
_SECOND = 1000 * _MS


def failing_seen_s() -> float:
    """Seconds until a breaker with the defaults opens at 100 requests/s that all fail."""
    breaker, now = _breaker(), 0
    while breaker.state is State.CLOSED:
        breaker.fail(breaker.enter(now), now)
        now += 10 * _MS
    return now / _SECOND


def hang_seen_s(slow_s: float = 1.0) -> float:
    """Seconds beyond ``slow_s`` until it opens when 100 requests/s never come back."""
    breaker, now = _breaker(slow_s=slow_s), 0
    while breaker.state is State.CLOSED:
        breaker.enter(now)
        now += 10 * _MS
    return now / _SECOND - slow_s


def share_of_load_on_the_dead(seconds: int = 600) -> float:
    """Share of 100 requests/s that reaches a dependency which stays dead."""
    breaker, reached = _breaker(), 0
    for now in range(0, seconds * _SECOND, 10 * _MS):
        permit = breaker.enter(now)
        if permit > 0:
            reached += 1
            breaker.fail(permit, now + _MS)
    return reached / (seconds * 100)


def amplification(seconds: int = 60) -> float:
    """Attempts per call with two retries wanted after each failure, all failing, under the budget."""
    budget, calls, retries = RetryBudget(), 0, 0
    for now in range(0, seconds * _SECOND, 10 * _MS):
        budget.call(now)
        calls += 1
        retries += sum(budget.take(now) for _ in range(2))
    return (calls + retries) / calls


def _breaker(slow_s: float = 1.0) -> Breaker:
    return Breaker("x", BreakerPolicy(slow_s=slow_s), random=Random(1))


def overload(shedder: Shedder | None, seconds: int = 60, capacity: int = 100) -> dict[str, float]:
    """A server that does ``capacity`` requests a second is offered three times as many.

    A request is worth something if it is answered within a second. Without shedding the
    queue is all there is; with it, what is turned away costs a hundredth of a request.

    Returns:
        ``goodput``, a share of the capacity, and ``critical``, a share of the critical
        tenth of the requests.
    """
    dice, clock_s = Random(5), 0.0
    queue: deque[tuple[Priority, float]] = deque()
    good = {Priority.CRITICAL: 0, Priority.NORMAL: 0}
    offered = {Priority.CRITICAL: 0, Priority.NORMAL: 0}
    for tick in range(seconds * 100):
        clock_s = tick / 100
        spent = 0.0
        for _ in range(capacity * 3 // 100 + (dice.uniform(0, 1) < 0.3) - (dice.uniform(0, 1) < 0.3)):
            priority = Priority.CRITICAL if dice.uniform(0, 1) < 0.1 else Priority.NORMAL
            offered[priority] += 1
            if shedder is not None and shedder.refuses(priority):
                spent += 0.01
            else:
                queue.append((priority, clock_s))
        work = capacity / 100 - spent
        while queue and work > 0:
            priority, came_s = queue.popleft()
            work -= 1
            good[priority] += clock_s - came_s <= 1
        if shedder is not None:
            # 20 in the queue, a fifth of a second, is what we call full.
            shedder.update(len(queue) / 20)
    return {
        "goodput": sum(good.values()) / (seconds * capacity),
        "critical": good[Priority.CRITICAL] / offered[Priority.CRITICAL],
    }


def figures() -> dict[str, float]:
    """All of them."""
    shed, alone = overload(Shedder()), overload(None)
    return {
        "all_failing_open_after_s": failing_seen_s(),
        "hang_open_after_slow_s": hang_seen_s(),
        "share_of_load_on_the_dead": share_of_load_on_the_dead(),
        "retry_amplification": amplification(),
        "overload_goodput": shed["goodput"],
        "overload_critical": shed["critical"],
        "overload_goodput_without_shedding": alone["goodput"],
    }
