"""Who hearts like a script: budgets and a rule of speed, asked once per heart.

A verdict is never told to the one it is about. A heart that is judged abusive is *shadowed*:
its giver sees it, nobody else does, and the public count does not move. So a script cannot
find out where the border is, and a person who was judged wrongly is not turned away; an
operator can see why.

The questions are asked from the narrow to the wide, and the first that says no ends it. So
whoever has used up an own budget uses up nothing of the network's: an office behind one
address does not pay for the one colleague who runs a script.

Nothing here reads a clock or looks anything up; the caller says who it is and when.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from heartcast.hearts.options import AbuseOptions
from heartcast.resilience.limits.generations import Generations
from heartcast.resilience.limits.keyed import KeyedBucket
from heartcast.resilience.limits.limit import Limit

_MAX_KEYS = 200_000
"""Users, devices, networks and targets remembered, each; see ``KeyedBucket`` for what is beyond."""
_RECENT = 200

REASONS = ("velocity", "user", "device", "prefix", "visitors", "target")


class Giver(NamedTuple):
    """Who gives a heart, as far as is known."""

    user: str
    device: str
    """"" when the browser has no signed name."""
    prefix: str
    """The network, /24 or /64; "" when it is not known."""
    is_visitor: bool
    """Whether the user is nobody but a device."""


class Judged(NamedTuple):
    """One shadowed heart, for operators."""

    at_ms: int
    reason: str
    giver: Giver
    target_id: str


class Velocity:
    """Too many hearts in a row with too little time between them.

    A person reads, or at least moves a hand, between two hearts. A run of ``run`` hearts, each
    less than ``gap_s`` after the one before, is a script's; it stays one until it has rested.
    """

    def __init__(self, run: int, gap_s: float, rest_s: float) -> None:
        self._run = run
        self._gap_ns = round(gap_s * 1e9)
        self._rest_ns = round(rest_s * 1e9)
        self._seen = Generations(self._rest_ns, _MAX_KEYS)

    def is_over(self, user: str, now_ns: int) -> bool:
        """Whether this heart of the user belongs to a run that is too long."""
        slot = self._seen.slot(user, now_ns)
        known: tuple[int, int] | None = slot.young.get(user) or slot.old.get(user)
        if known is None:
            # Full of users: newcomers are not judged by their speed.
            if self._seen.has_room(slot):
                slot.young[user] = (now_ns, 1)
            return False
        last_ns, length = known
        since_ns = now_ns - last_ns
        is_caught = length >= self._run
        length = length + 1 if since_ns < (self._rest_ns if is_caught else self._gap_ns) else 1
        slot.young[user] = (now_ns, min(length, self._run))
        return is_caught and length > 1

    def tend(self, now_ns: int) -> None:
        """Forget a little of what is idle."""
        self._seen.tend(now_ns)


class AbuseGuard:
    """Judges hearts. One event loop at a time."""

    def __init__(self, options: AbuseOptions) -> None:
        self._velocity = Velocity(options.velocity_run, options.velocity_gap_s, options.velocity_rest_s)
        self._user = _bucket(options.per_user)
        self._device = _bucket(options.per_device)
        self._prefix = _bucket(options.per_prefix)
        self._visitors = _bucket(options.visitors_per_prefix)
        self._target = _bucket(options.per_target) if options.per_target else None
        self.judged = 0
        """Hearts that were looked at."""
        self.shadowed = dict.fromkeys(REASONS, 0)
        """Hearts that do not count, by reason."""
        self.recent: deque[Judged] = deque(maxlen=_RECENT)
        """The last ones, newest at the end."""

    def judge(self, giver: Giver, target_id: str, *, now_ns: int, now_ms: int) -> str | None:
        """Judge one heart, which is counted against its giver's budgets.

        Args:
            now_ns: Monotonic time in nanoseconds.
            now_ms: Wall time in milliseconds, for the record.

        Returns:
            Why it is shadowed, one of ``REASONS``; None when it counts.
        """
        self.judged += 1
        reason = self._reason(giver, target_id, now_ns)
        if reason is not None:
            self.shadowed[reason] += 1
            self.recent.append(Judged(now_ms, reason, giver, target_id))
        return reason

    def _reason(self, giver: Giver, target_id: str, now_ns: int) -> str | None:
        if self._velocity.is_over(giver.user, now_ns):
            return "velocity"
        if self._user.admit_key(giver.user, now_ns):
            return "user"
        if giver.device and self._device.admit_key(giver.device, now_ns):
            return "device"
        if giver.prefix:
            # Names of devices cost nothing: a network's visitors share a budget of their own, and
            # inventing more of them takes nothing from its people who are signed in.
            if giver.is_visitor:
                if self._visitors.admit_key(giver.prefix, now_ns):
                    return "visitors"
            elif self._prefix.admit_key(giver.prefix, now_ns):
                return "prefix"
        if self._target is not None and self._target.admit_key(target_id, now_ns):
            return "target"
        return None

    def tend(self, now_ns: int) -> None:
        """Forget a little of what is idle; called several times a second."""
        self._velocity.tend(now_ns)
        for bucket in (self._user, self._device, self._prefix, self._visitors, self._target):
            if bucket is not None:
                bucket.generations.tend(now_ns)


def _bucket(text: str) -> KeyedBucket:
    return KeyedBucket(Limit.parse(text), max_keys=_MAX_KEYS)
