"""The way to webhooks for one shard's service, where the services of a node share one.

Breakers, rates, sizes and connections belong to an endpoint, not to a shard: an endpoint that
hangs is found out once a node, and not once a shard. What belongs to the shard is who is told of
the outcome, and whether a POST may still leave: the lease is asked for again right before it.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.push.model import Push
from heartcast.push.routes import WEBHOOK, Done, Outcome, Result, RouteHealth
from heartcast.push.routes.webhook import WebhookRoute


class WebhookDoor:
    """Implements ``Route``.

    Args:
        posts: Shared by the services of this node.
        is_ours: Whether what belongs to the shard may leave now.
    """

    kind = WEBHOOK

    def __init__(self, posts: WebhookRoute, is_ours: Callable[[], bool]) -> None:
        self.posts = posts
        self._is_ours = is_ours
        self._is_closed = False
        self.done: Done = _nobody
        self.why_not: Callable[[Push, str], str] = posts.why_not

    def send(self, push: Push, route: str, now_ms: int) -> None:
        if self._is_closed:
            self.done(push, route, Outcome(Result.UNTRIED, "no_endpoint"), now_ms)
        else:
            self.posts.submit(push, route, now_ms, self._answered, self._may_send)

    def tick(self, now_ms: int) -> None:
        """Whoever made ``posts`` looks after what waits."""

    def health(self) -> list[RouteHealth]:
        """That of ``posts``, told by whoever made it."""
        return []

    def close(self) -> None:
        self._is_closed = True

    def _may_send(self) -> bool:
        return not self._is_closed and self._is_ours()

    def _answered(self, push: Push, route: str, outcome: Outcome, now_ms: int) -> None:
        # Whoever owns the shard now has the push, too, and hears an answer of its own.
        if not self._is_closed:
            self.done(push, route, outcome, now_ms)


def _nobody(push: Push, route: str, outcome: Outcome, now_ms: int) -> None:
    """Nobody has asked to be told."""
