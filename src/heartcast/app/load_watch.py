"""How full this process is, and what is let in accordingly.

Two signs, the worse of which counts: how late the event loop runs, and how long the answers that
are open are going to take at the pace of late. They are looked at by a timer. In a turn of the
loop that is long because much came at once the timer cannot run, so requests, too, have a look
now and then whether it is overdue.
"""

from __future__ import annotations

from collections import deque

from heartcast.core.clock import Clock
from heartcast.gateway.port import HttpPort
from heartcast.resilience.shedding import LoopLag, Shedder

# How long the open answers are going to take when we call ourselves full: a good disk's commits
# of a busy moment. At three times the capacity the wait settles at a little more than twice that.
_FULL_WAIT_S = 0.1
# So few are no load however slow they are: a store that hangs has a breaker of its own.
_FEW = 200
# A fifth of a second: commits come in groups, and a shorter one would see none, or two.
_LOOKS = 8


class Pace:
    """How long what is open will take, by how much was finished while there was more to do."""

    def __init__(self, now_s: float) -> None:
        self._busy: deque[tuple[int, float]] = deque(maxlen=_LOOKS)
        self._looked_s = now_s
        self._given = 0
        self._open = 0

    def wait_s(self, open_answers: int, given: int, now_s: float) -> float:
        """Seconds until as many are answered as are open now; 0 where there are few, or nobody knows.

        Args:
            given: All that were answered so far.
        """
        passed_s, done = now_s - self._looked_s, given - self._given
        # Only then is it a pace: with nothing left over, more might have been done.
        if min(self._open, open_answers) > _FEW and passed_s > 0:
            self._busy.append((done, passed_s))
        self._looked_s, self._given, self._open = now_s, given, open_answers
        if open_answers <= _FEW or not self._busy:
            return 0.0
        busy_s = sum(each_s for _, each_s in self._busy)
        return open_answers * busy_s / max(1, sum(each for each, _ in self._busy))


class LoadWatch:
    """Tells the shedder what it has to know."""

    def __init__(self, port: HttpPort, shedder: Shedder, lag: LoopLag, clock: Clock) -> None:
        self._port = port
        self._shedder = shedder
        self._lag = lag
        self._now_s = clock.monotonic_s
        self._pace = Pace(self._now_s())
        self._utilisation = 0.0
        self._nothing_normal = shedder.policy.normal + shedder.policy.reserve
        if self._nothing_normal == shedder.policy.critical:
            self._nothing_normal -= 1e-6
        self._first_late_s: float | None = None

    def look(self) -> None:
        """From the timer."""
        now_s, port = self._now_s(), self._port
        self._first_late_s = None
        self._lag.tick(now_s)
        wait_s = self._pace.wait_s(port.open_answers - port.patient, port.given, now_s)
        # However long: what is critical waits for no store and no queue.
        self._utilisation = min(wait_s / _FULL_WAIT_S, self._nothing_normal)
        self._shedder.update(self._utilisation, self._lag.standing_s)

    def peek(self) -> None:
        """From within a turn of the loop, after every so many requests."""
        late_s = self._lag.late_s(self._now_s())
        if self._first_late_s is None:
            # What was late before the first of them is a hiccup, or the look's business.
            self._first_late_s = late_s
        elif (longer_s := late_s - self._first_late_s) > self._lag.standing_s:
            self._shedder.update(self._utilisation, longer_s)
