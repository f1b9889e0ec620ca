"""The other nodes, as the server API asks them."""

from __future__ import annotations

from collections.abc import Callable

from heartcast.cluster.membership import Membership
from heartcast.cluster.post import Post
from heartcast.core.errors import StoreUnavailable

Asked = Callable[[list[bytes] | StoreUnavailable], None]


class OtherNodes:
    """Implements ``api.realtime.Others``."""

    def __init__(self, membership: Membership, post: Post) -> None:
        self._membership = membership
        self._post = post

    def ask(self, subject: str, body: bytes, done: Asked) -> None:
        """Ask them all; all answers, or the failure when one of them gave none."""
        me = self._membership.node
        others = [node.id for node in self._membership.nodes() if node.id != me]

        if not others:
            done([])
            return
        answers: list[bytes | StoreUnavailable] = []

        def answered(answer: bytes | StoreUnavailable) -> None:
            answers.append(answer)
            if len(answers) == len(others):
                whole = [answer for answer in answers if isinstance(answer, bytes)]
                missing = len(others) - len(whole)
                done(StoreUnavailable(f"{missing} of the other nodes did not answer") if missing else whole)

        for node in others:
            self._post.call(node, subject, body, answered)

    def on(self, subject: str, handler: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        self._post.on(subject, lambda sender, body, answer: handler(body, answer))
