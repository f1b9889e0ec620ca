"""A canary: what this node publishes must come back to it, or it wants no traffic.

Once a second a word goes out on each of the ways that pushes and publications take between nodes,
and comes back by the same subscription that everything else comes by. A connection that looks
alive and brings nothing (a subscription that the server lost, a proxy that swallows) shows nowhere
else: commands are answered, and clients hear nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.cluster.post import Post
from heartcast.realtime.hub import Hub

EVERY_S = 1.0
SILENCE_S = 5.0
"""A word that is not back after so long is lost: a pub/sub connection that broke is there again within
a second or two, and what was published meanwhile is healed."""
SUBJECT = "operation.canary"


class Canary:
    """This node's words to itself, by the post and by the broker of channels.

    Args:
        node: Id of this node.
        now_s: Monotonic.
    """

    def __init__(self, node: str, post: Post, hub: Hub, now_s: Callable[[], float]) -> None:
        self._node = node
        self._post = post
        self._hub = hub
        self._now_s = now_s
        self._heard_s: dict[str, float] = {}
        post.on(SUBJECT, lambda sender, body, answer: self._heard("between nodes"))
        hub.listen_for_canary(f"canary:{node}", lambda: self._heard("on channels"))

    def start(self) -> None:
        """Say the first words, and go on."""
        now_s = self._now_s()
        self._heard_s = dict.fromkeys(("between nodes", "on channels"), now_s)
        self._speak()

    def _speak(self) -> None:
        self._hub.after(EVERY_S, self._speak)
        self._post.tell(self._node, SUBJECT, b"")
        self._hub.send_canary()

    def _heard(self, way: str) -> None:
        self._heard_s[way] = self._now_s()

    def why_not(self) -> str | None:
        """One sentence while what is published here does not come back; None while it does."""
        for way, heard_s in self._heard_s.items():
            if (silent_s := self._now_s() - heard_s) > SILENCE_S:
                return f"what this node publishes {way} has not come back to it for {silent_s:.0f} s"
        return None
