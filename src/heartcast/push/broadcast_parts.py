"""Broadcasts on many nodes: what one is stands in the commons, and each shard runs its own part.

A part goes through the users of its shard exactly as a broadcast of one server does, with its
place and its figures in the shard's journal, so a node that takes the shard over goes on where
the last one was cut off. Pausing, resuming and cancelling change the commons; every part follows.
A part does nothing to others and ends by itself; the broadcast is done when all its parts are.

A part whose record were forgotten would begin anew. So it is kept until the broadcast is taken
out of the commons, which ``app.gathered_broadcasts`` does when all is over for long enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from heartcast.core.errors import HeartcastError, Overloaded
from heartcast.core.hashing import shard_of
from heartcast.push.broadcast import WHAT, Broadcast, Pace, Reached, Status, What, what_in
from heartcast.push.broadcasts import BUSY_S, FEEDING, MOST_QUEUED, PAGE, REFUSED_S, TRICKLE, Broadcasts
from heartcast.push.commons import Commons
from heartcast.push.journal import Note
from heartcast.push.model import Push

LEAST_PAGE = 16
"""Users served in one turn by a part: a page is a call of the server, too."""


class Directory(Broadcasts):
    """All broadcasts as the commons have them. It serves nobody; parts follow it."""

    def __init__(self, commons: Commons, **parts: Any) -> None:
        super().__init__(**parts)
        self.on_change: Callable[[What], None] = lambda what: None
        """Told of each broadcast that is new, or has another status."""
        self.on_gone: Callable[[str], None] = lambda broadcast_id: None
        self._paces: dict[str, Pace] = {}
        commons.follow(WHAT, self._learn)

    def whats(self) -> list[What]:
        """What there is, as it is now."""
        return [broadcast.what for broadcast in self._all.values()]

    def pace(self, what: What) -> Pace:
        """The pace that the parts at this node share."""
        return self._paces.setdefault(what.id, Pace(what.per_s))

    def forget(self, now_ms: int) -> None:
        """What is over is known to its parts alone."""

    def _learn(self, note: Note) -> None:
        broadcast_id = note.key[len(WHAT) :]
        if note.value is None:
            self._all.pop(broadcast_id, None)
            self._paces.pop(broadcast_id, None)
            self.on_gone(broadcast_id)
        else:
            what = what_in(note.value)
            self._all[broadcast_id] = Broadcast(what)
            self.on_change(what)

    def _wake(self) -> None:
        """Nobody is served here."""

    def _make_room(self) -> None:
        raise Overloaded("as many broadcasts are kept as may be", retry_after_s=60, code="broadcasts_full")


class Parts(Broadcasts):
    """The parts of all broadcasts that one shard has to run.

    Args:
        directory: What they are parts of.
        shard: Which shard this is.
        shards: How many there are.
        share: How much of a rate is this node's, 0 to 1.
        is_sure: Whether it is known what became of every page that was written.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        shard: int,
        shards: int,
        share: Callable[[], float],
        is_sure: Callable[[], bool],
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self._directory = directory
        self._shard = shard
        self._shards = shards
        self._share_of_node = share
        self._is_sure = is_sure
        self._beginning: set[str] = set()
        # All parts together do in a second what one broadcast would.
        self._page = max(LEAST_PAGE, PAGE // shards)
        self._busy_s = BUSY_S * self._page * shards / PAGE
        self._most_queued = max(2 * self._page, MOST_QUEUED // shards)
        self._trickle = max(1, TRICKLE // shards)

    def start(self) -> None:
        """Go on with what is not over, as the commons have it now."""
        known = {what.id for what in self._directory.whats()}
        for broadcast_id in [id_ for id_ in self._all if id_ not in known]:
            self._drop(broadcast_id)
        for part in self._all.values():
            part.pace = self._directory.pace(part.what)
        for what in self._directory.whats():
            self.adopt(what)
        super().start()

    def adopt(self, what: What) -> None:
        """Run this shard's part as the broadcast is now. Repeating it changes nothing."""
        if self._is_stopped or what.id in self._beginning:
            return
        part = self._all.get(what.id)
        if part is None:
            self._beginning.add(what.id)
            self.begin(self._new(msgspec.structs.replace(what)), (), partial(self._adopted, what.id))
        elif (status := _wanted(part, what.status)) is not None:
            self.set_status(part, status, lambda: (), partial(self._adopted, what.id))

    def drop(self, broadcast_id: str) -> None:
        """The broadcast is no longer kept."""
        if broadcast_id in self._all:
            self._drop(broadcast_id)

    def arrived(self, push: Push) -> None:
        """A push was found whose page was written although the answer was lost: its user has it."""
        part = self._all.get(push.asked.broadcast)
        if part is not None and push.user > part.reached.cursor:
            part.reached = Reached(push.user, part.reached.accepted + 1)

    def by_status(self) -> Counter[str]:
        """Each broadcast is counted at one of its shards."""
        mine = (part for id_, part in self._all.items() if home_of(id_, self._shards) == self._shard)
        return Counter(part.what.status.value for part in mine)

    def forget(self, now_ms: int) -> None:
        """See above."""

    def _new(self, what: What) -> Broadcast:
        broadcast = Broadcast(what)
        broadcast.pace = self._directory.pace(what)
        return broadcast

    def _may_serve(self) -> bool:
        return self._is_sure()

    def _share(self) -> float:
        return self._share_of_node()

    def _adopted(self, broadcast_id: str, error: HeartcastError | None) -> None:
        self._beginning.discard(broadcast_id)
        if error is not None and not self._is_stopped:
            self._loop.call_later(REFUSED_S, partial(self._again, broadcast_id))
        elif error is None:
            # It may have changed while this was written.
            self._again(broadcast_id)

    def _again(self, broadcast_id: str) -> None:
        for what in self._directory.whats():
            if what.id == broadcast_id:
                self.adopt(what)


def home_of(broadcast_id: str, shards: int) -> int:
    """The shard whose owner looks after a broadcast as a whole."""
    return shard_of(broadcast_id, shards)


def _wanted(part: Broadcast, status: Status) -> Status | None:
    """The status that a part must enter when its broadcast has this one; None: it stays as it is."""
    own = part.what.status
    if status is Status.CANCELLED:
        return None if own is status or part.is_over else status
    if own in FEEDING and status is Status.PAUSED:
        return status
    if own is Status.PAUSED and status in FEEDING:
        return Status.RUNNING
    return None
