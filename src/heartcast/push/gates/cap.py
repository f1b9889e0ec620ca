"""How many pushes a user gets: per user, and per user and category, whatever the route.

Each cap is a dual limiter: an exact sliding window as the hard limit and a token bucket
that smooths what is inside of it. A push must be admitted by the user's cap and by its
category's, or it counts against neither.

The limiters live in memory. What they counted is noted in the journal with a time, and
counted again at start, so that a restart gives nobody a second helping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from heartcast.push.gates import Gate, Verdict
from heartcast.push.journal import Note
from heartcast.push.model import Priority, Push, State
from heartcast.push.options import CapOptions
from heartcast.resilience.limits import KeyedLimiter, dual_limiter
from heartcast.resilience.limits.limit import Limit

KIND = "c:"
_MS_NS = 1_000_000
_SUPPRESSED = Verdict(State.SUPPRESSED, "cap")


class _Cap:
    """One limiter and what to do when it refuses."""

    __slots__ = ("defers", "limiter", "window_ms")

    def __init__(self, options: CapOptions) -> None:
        self.limiter: KeyedLimiter = dual_limiter(options.cap, options.smooth)
        self.defers = options.mode == "defer"
        self.window_ms = Limit.parse(options.cap).period_ns // _MS_NS


class Caps:
    """All caps of the settings.

    Args:
        per_user: For everything that a user gets; None: no cap.
        per_category: Beside it, by category.
        note: Given what must be remembered.
    """

    def __init__(
        self,
        per_user: CapOptions | None,
        per_category: Mapping[str, CapOptions],
        note: Callable[[Note], None],
    ) -> None:
        # "" is no category that a push could name.
        self._caps = {category: _Cap(options) for category, options in per_category.items()}
        if per_user is not None:
            self._caps[""] = _Cap(per_user)
        self._note = note

    def gate(self) -> Gate | None:
        """The gate; None when nothing is capped."""
        return Gate("cap", self._ask, self._count) if self._caps else None

    def restore(self, notes: Iterable[Note]) -> None:
        """Count again what an earlier process counted."""
        for note in sorted(notes, key=lambda note: int(note.value or b"0")):
            _, category, user, _ = note.key.split("\0")
            if cap := self._caps.get(category):
                cap.limiter.admit(user, int(note.value or b"0") * _MS_NS)

    def _of(self, push: Push) -> list[tuple[str, _Cap]]:
        if push.asked.priority is Priority.CRITICAL:
            return []
        names = ("", push.asked.category) if push.asked.category else ("",)
        return [(name, cap) for name in names if (cap := self._caps.get(name))]

    def _ask(self, push: Push, now_ms: int) -> Verdict | None:
        wait_ms, defers = 0, True
        for _, cap in self._of(push):
            decision = cap.limiter.peek(push.user, now_ms * _MS_NS)
            if not decision.allowed:
                wait_ms = max(wait_ms, int(decision.retry_after_s * 1000) + 1)
                defers = defers and cap.defers
        if not wait_ms:
            return None
        return Verdict(State.DEFERRED, "cap", now_ms + wait_ms) if defers else _SUPPRESSED

    def _count(self, push: Push, now_ms: int) -> None:
        for category, cap in self._of(push):
            cap.limiter.admit(push.user, now_ms * _MS_NS)
            key = "\0".join((KIND, category, push.user, push.id))
            self._note(Note(key, b"%d" % now_ms, now_ms + cap.window_ms))
