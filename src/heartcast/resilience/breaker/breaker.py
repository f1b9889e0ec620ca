"""The circuit breaker's state machine: pure, told the time, never waiting.

Before a call ``enter`` gives a permit, a number above zero, or minus the nanoseconds to
wait. After it the permit is handed back with how it went. Permits count up, and every
change of state remembers the next one: a permit below it belongs to a time that is over
and decides nothing. So late results are harmless.

Calls that hang are seen while they hang: permits wait in order of their start, and one
that is older than ``slow_s`` is counted as slow there and then. While half open a few
probes pass, each with a lease; one that runs out counts as failed, so that a probe that
never returns cannot wedge the breaker.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from heartcast.resilience.breaker.policy import BreakerPolicy, State

_CLOSED = State.CLOSED
_NEVER = 1 << 200
_PASSING = (State.METRICS_ONLY, State.DISABLED)


class Change(NamedTuple):
    """One change of state, for listeners."""

    breaker: Breaker
    before: State
    after: State
    at_ns: int


class Breaker:
    """One dependency's breaker.

    Args:
        name: What metrics call it; never a user or key.
        random: Dice for the jitter of breaks.
    """

    __slots__ = (
        "_bad",
        "_breaks",
        "_closed_from",
        "_era",
        "_failure_ppm",
        "_good",
        "_hang_look_ns",
        "_in_flight",
        "_issued",
        "_last",
        "_lease_ns",
        "_listeners",
        "_look_ns",
        "_overdue",
        "_probing",
        "_random",
        "_since_ns",
        "_slow_ns",
        "_slow_ppm",
        "_until_ns",
        "failed",
        "failures",
        "failures_ns",
        "ignored",
        "late",
        "name",
        "policy",
        "refused",
        "slow",
        "state",
        "successes_ns",
        "transitions",
        "window",
    )

    def __init__(
        self, name: str, policy: BreakerPolicy | None = None, *, random: Random, now_ns: int = 0
    ) -> None:
        self.name = name
        self.policy = policy = policy or BreakerPolicy()
        self.window = policy.make_window(now_ns)
        self.state = State.CLOSED
        self._random = random
        self._slow_ns = round(policy.slow_s * 1e9)
        self._lease_ns = round(policy.lease_s * 1e9) or 4 * self._slow_ns
        # Parts per million: 0.07 * 100 is 7.000000000000001 in floats.
        self._failure_ppm = round(policy.failure_rate * 1_000_000)
        self._slow_ppm = round(policy.slow_rate * 1_000_000)
        self._last = 0
        self._era = 1
        self._closed_from = 1
        self._in_flight: dict[int, int] = {}
        self._overdue: set[int] = set()
        self._look_ns = self._hang_look_ns = 0
        self._since_ns = now_ns
        self._until_ns = 0
        self._breaks = 0
        self._issued = self._probing = self._good = self._bad = 0
        self._listeners: list[Callable[[Change], None]] = []
        self.failures = self.slow = self.ignored = 0
        self.successes_ns = self.failures_ns = 0
        """What they took in all; calls that were overdue are not in it."""
        self.refused = 0
        """Calls that were told to wait."""
        self.late = 0
        """Results of an earlier state, which decided nothing."""
        self.failed = 0
        """Listeners that raised; the others heard all the same."""
        self.transitions: dict[tuple[State, State], int] = {}

    def enter(self, now_ns: int) -> int:
        """A permit (> 0), or minus the nanoseconds until it is worth asking again.

        Whoever has a permit hands it back once: ``ok``, ``fail`` or ``ignore``.
        """
        # Never in the future unless closed, so that a good day costs one comparison.
        if now_ns >= self._look_ns:
            if now_ns < self._until_ns:
                self.refused += 1
                return now_ns - self._until_ns
            wait_ns = self._judge_hanging(now_ns)
            if wait_ns:
                self.refused += 1
                return -wait_ns
        self._last = permit = self._last + 1
        self._in_flight[permit] = now_ns
        return permit

    def ok(self, permit: int, now_ns: int) -> None:
        """The call went well. Handing a permit back twice does nothing."""
        started_ns = self._in_flight.pop(permit, None)
        window = self.window
        if started_ns is None or permit < self._closed_from or now_ns >= window.due_ns:
            self._finish(permit, started_ns, now_ns, False)
            return
        took_ns = now_ns - started_ns
        if took_ns > self._slow_ns:
            self._finish(permit, started_ns, now_ns, False)
            return
        self.successes_ns += took_ns
        window.calls += 1
        if window.failures or window.slow:
            # A good call can complete the minimum that a verdict needs.
            self._judge(now_ns)

    def fail(self, permit: int, now_ns: int) -> None:
        """The dependency failed."""
        self._finish(permit, self._in_flight.pop(permit, None), now_ns, True)

    def ignore(self, permit: int, now_ns: int) -> None:
        """The call says nothing about the dependency (cancelled, refused locally).

        A call that was slow when it was given up counts as slow all the same: a timeout
        outside must not hide a hang. A probe's place is free again.
        """
        started_ns = self._in_flight.pop(permit, None)
        if started_ns is not None and now_ns - started_ns > self._slow_ns:
            self._finish(permit, started_ns, now_ns, False)
            return
        if started_ns is None and permit not in self._overdue:
            return
        self.ignored += 1
        self._overdue.discard(permit)
        if permit >= self._era and started_ns is not None and self.state is State.HALF_OPEN:
            self._issued -= 1
            self._probing -= 1

    def _finish(self, permit: int, started_ns: int | None, now_ns: int, failed: bool) -> None:
        if started_ns is None:
            self._finish_overdue(permit, now_ns, failed)
            return
        took_ns = now_ns - started_ns
        slow = took_ns > self._slow_ns
        if failed:
            self.failures += 1
            self.failures_ns += took_ns
        else:
            self.successes_ns += took_ns
        self.slow += slow
        if permit < self._era:
            self.late += 1
        elif self.state is State.HALF_OPEN:
            self._verdict(now_ns, good=not failed and not slow)
        elif self.state is not State.DISABLED:
            self._count(now_ns, failed, slow)

    def _finish_overdue(self, permit: int, now_ns: int, failed: bool) -> None:
        """A call that was counted as slow while it ran, or a permit handed back twice."""
        if permit not in self._overdue:
            return
        self._overdue.discard(permit)
        self.failures += failed
        if permit < self._era:
            self.late += 1
        elif failed and self.state in (_CLOSED, State.METRICS_ONLY):
            self.window.turn(now_ns)
            self.window.add_failure()
            self._judge(now_ns)

    def _count(self, now_ns: int, failed: bool, slow: bool) -> None:
        self.window.turn(now_ns)
        self.window.add(failed, slow)
        self._judge(now_ns)

    def _judge_hanging(self, now_ns: int) -> int:
        """Notice calls that hang, and say how long a call has to wait."""
        if now_ns >= self._hang_look_ns:
            self._look(now_ns)
        return 0 if self.state is _CLOSED else self._ask(now_ns)

    def _look(self, now_ns: int) -> None:
        """Notice calls that hang. Looked for 20 times per ``slow_s``, at least every 50 ms."""
        self._hang_look_ns = now_ns + min(self._slow_ns // 20 + 1, 50_000_000)
        if self.state is _CLOSED:
            self._look_ns = self._hang_look_ns
        half_open = self.state is State.HALF_OPEN
        limit_ns = self._lease_ns if half_open else self._slow_ns
        for permit in self._oldest(now_ns - limit_ns):
            del self._in_flight[permit]
            self._overdue.add(permit)
            self.slow += 1
            if permit < self._era:
                continue
            if half_open:
                self._verdict(now_ns, good=False)
            elif self.state is not State.DISABLED:
                self._count(now_ns, False, True)
            if self.state is State.OPEN:
                return

    def _oldest(self, before_ns: int) -> list[int]:
        # Permits were given in order of time, so the overdue ones come first.
        oldest = []
        for permit, started_ns in self._in_flight.items():
            if started_ns >= before_ns:
                break
            oldest.append(permit)
        return oldest

    def _judge(self, now_ns: int) -> None:
        if self.state is _CLOSED and self._is_over():
            # Breaking again soon after it closed: the dependency is not well yet.
            again = self._breaks and now_ns - self._since_ns < round(self.policy.max_open_s * 1e9)
            self._breaks = self._breaks + 1 if again else 1
            self._open(now_ns)

    def _is_over(self) -> bool:
        window, policy = self.window, self.policy
        if window.calls < policy.min_calls:
            return False
        failing = window.failures * 1_000_000 >= self._failure_ppm * window.calls
        slow = window.slow * 1_000_000 > self._slow_ppm * window.calls
        return failing and slow if policy.trip == "all" else failing or slow

    def _open(self, now_ns: int) -> None:
        policy = self.policy
        wait_s = min(policy.open_s * 2.0 ** min(self._breaks - 1, 40), policy.max_open_s)
        wait_s *= 1 + policy.jitter * self._random.uniform(-1, 1)
        self._move(State.OPEN, now_ns)
        self._until_ns = now_ns + max(1, round(wait_s * 1e9))

    def _ask(self, now_ns: int) -> int:
        """0 when a call may pass in a state other than closed, otherwise the wait."""
        if self.state in _PASSING:
            return 0
        if self.state is State.FORCED_OPEN:
            return 1_000_000_000
        if self.state is State.OPEN:
            # It may have opened in this very call, by what was found to hang.
            if now_ns < self._until_ns:
                return self._until_ns - now_ns
            self._move(State.HALF_OPEN, now_ns)
        return self._ask_probe()

    def _ask_probe(self) -> int:
        if self._issued >= self.policy.probes or self._probing >= self.policy.probes_at_once:
            # Somebody's probe decides soon; a slow call's length is the longest that takes.
            return self._slow_ns
        self._issued += 1
        self._probing += 1
        return 0

    def _verdict(self, now_ns: int, *, good: bool) -> None:
        """Count a probe's answer; decide as soon as the rest cannot change it."""
        policy = self.policy
        self._probing -= 1
        if good:
            self._good += 1
            if self._good >= policy.probes_needed:
                self.window.clear(now_ns)
                self._move(State.CLOSED, now_ns)
            return
        self._bad += 1
        if self._bad > policy.probes - policy.probes_needed:
            self._breaks += 1
            self._open(now_ns)

    def force(self, state: State, now_ns: int) -> None:
        """An operator's word: any state. ``CLOSED`` begins with an empty window."""
        if state is State.OPEN:
            self._breaks = 1
            self._open(now_ns)
            return
        if state is State.CLOSED:
            self._breaks = 0
            self.window.clear(now_ns)
        self._move(state, now_ns)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Tell ``listener`` of every change of state."""
        self._listeners.append(listener)

    def _move(self, state: State, now_ns: int) -> None:
        before, self.state = self.state, state
        self._era = self._last + 1
        self._closed_from = self._era if state is _CLOSED else _NEVER
        self._look_ns = self._hang_look_ns if state is _CLOSED else 0
        self._issued = self._probing = self._good = self._bad = 0
        self._since_ns = now_ns
        self._until_ns = 0
        if before is state:
            return
        self.transitions[before, state] = self.transitions.get((before, state), 0) + 1
        for listener in self._listeners:
            try:
                listener(Change(self, before, state, now_ns))
            except Exception:
                self.failed += 1

    @property
    def successes(self) -> int:
        """Calls that went well: all that were let in and did not end in another way."""
        return self._last - self.in_flight - self.failures - self.ignored

    @property
    def in_flight(self) -> int:
        """Calls that hold a permit, those that hang included."""
        return len(self._in_flight) + len(self._overdue)
