"""The commons of push at a node of many: who changed something says so, and all look now and then.

An answer to whoever changed something waits until the other nodes know of it, or for a second:
then what was made at one node can be used at the next at once. A node that missed the word
finds the change when it looks by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from heartcast.cluster.membership import Membership
from heartcast.cluster.post import Post
from heartcast.core.errors import HeartcastError
from heartcast.push.commons import Commons, Done, Told
from heartcast.push.journal import Note

NEWS = "push.commons"
LOOK_S = 0.5
"""Between two looks for what is new."""
FORGET_LOOKS = 120
_PATIENCE_S = 1.0


class SharedCommons:
    """Implements ``Commons``: those of ``kept``, with word to the other nodes."""

    def __init__(
        self, kept: Commons, membership: Membership, post: Post, loop: asyncio.AbstractEventLoop,
        wall_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._kept = kept
        self._membership = membership
        self._post = post
        self._loop = loop
        self._wall_ms = wall_ms
        self._looking: asyncio.TimerHandle | None = None
        self._looks = 0
        self.follow: Callable[[str, Told], None] = kept.follow
        self.notes: Callable[[str, int], list[Note]] = kept.notes
        self.sync: Callable[[Done], None] = kept.sync
        self.forget: Callable[[int], None] = kept.forget
        post.on(NEWS, self._told)

    def write(self, notes: Sequence[Note], done: Done) -> None:
        self._kept.write(notes, partial(self._written, notes, done))

    def _written(self, notes: Sequence[Note], done: Done, error: HeartcastError | None) -> None:
        if error is not None or not notes:
            done(error)
            return
        me = self._membership.node
        others = [node.id for node in self._membership.nodes() if node.id != me]
        if others:
            self._post.call_each(others, NEWS, b"", lambda _: done(None), timeout_s=_PATIENCE_S)
        else:
            done(None)

    def _told(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        self._kept.sync(lambda error: answer(b""))

    async def caught_up(self) -> None:
        """Wait until all is known that was written before.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        known: asyncio.Future[None] = self._loop.create_future()

        def synced(error: HeartcastError | None) -> None:
            if known.cancelled():
                return
            if error is None:
                known.set_result(None)
            else:
                known.set_exception(error)

        self._kept.sync(synced)
        await known

    def start(self) -> None:
        """Begin to look."""
        self._looking = self._loop.call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        self.start()
        self._kept.sync(_ignore)
        self._looks += 1
        if self._looks % FORGET_LOOKS == 0:
            self._kept.forget(self._wall_ms())


def _ignore(error: HeartcastError | None) -> None:
    """The next look asks again."""
