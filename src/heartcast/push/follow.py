"""Where delivery stands with one connected user."""

from __future__ import annotations

from heartcast.core.wheel import Timer
from heartcast.push.model import Push


class Follow:
    """How far the pushes of one user have gone out, and when to look again."""

    __slots__ = ("channel", "cursor", "held", "later_ms", "pause_s", "sent", "timer")

    def __init__(self, channel: str, sent: int, pause_s: float) -> None:
        self.channel = channel
        """The user's own."""
        self.sent = sent
        """Highest offset that went out, to any session."""
        self.held: list[Push] | None = None
        """Pushes that wait for others to go out with; None: there are none."""
        self.cursor: int | None = None
        """While making up for a lost position: the offset up to which everything went out again;
        None: nothing is behind."""
        self.timer: Timer | None = None
        """When the wheel will call back for this user; None only while it does."""
        self.pause_s = pause_s
        """Seconds until what is not acknowledged goes out again."""
        self.later_ms: dict[str, int] = {}
        """Pushes that a client could not take, by id: the wall time from which it may."""

    def due_ms(self, push: Push) -> float:
        """Wall time at which a push that nobody acknowledged goes out again."""
        later_ms = self.later_ms.get(push.id)
        return push.attempted_ms + self.pause_s * 1000 if later_ms is None else later_ms
