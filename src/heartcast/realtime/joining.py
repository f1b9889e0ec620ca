"""One subscription on its way: the broker and the log were asked, the answer is still to come.

The log is asked when the broker brings what is published from then on, so that nothing
falls between the two. Until the answer comes the session is no member; what is
published meanwhile is kept in order and merged with the answer (``recovery``), so that
nothing is missed or sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log import ChannelLog, Complete, Gap, Position, Publication
from heartcast.realtime.recovery import Joined, join_cache, join_stream
from heartcast.realtime.room import Room
from heartcast.realtime.session import Session
from heartcast.wire.envelopes import INSUFFICIENT_STATE, INTERNAL, Refusal

if TYPE_CHECKING:
    from heartcast.realtime.hub import Hub

JoinDone = Callable[[Joined | Refusal], None]


class Joining:
    """One subscription on its way. ``watched`` sets it going."""

    __slots__ = (
        "_arrived",
        "_done",
        "_hub",
        "_log",
        "_position",
        "_room",
        "_session",
        "_tells",
        "_was_seeded",
    )

    def __init__(
        self,
        hub: Hub,
        room: Room,
        log: ChannelLog | None,
        session: Session,
        position: Position | None,
        done: JoinDone,
        tells: bool,
    ) -> None:
        self._hub = hub
        self._room = room
        self._log = log
        self._session = session
        self._position = position
        self._done = done
        self._tells = tells
        self._was_seeded = False
        self._arrived: list[Publication] = []
        if room.joining is None:
            room.joining = {}
        room.joining[session] = self._arrived

    def watched(self, failure: StoreUnavailable | None) -> None:
        """The broker's answer."""
        if failure is not None and not self._is_left():
            self._answered(failure)
        elif not self._is_left():
            self._ask()

    def _ask(self) -> None:
        channel, options = self._room.channel, self._room.options
        if self._is_left():
            return
        if self._log is None:
            self._finish(Joined(later=self._arrived))
        elif options.recovery == "cache":
            self._log.history(channel, None, 1, True, self._answered)
        else:
            self._log.since(channel, self._position, self._hub.options.recovery_limit, self._answered)

    def _is_left(self) -> bool:
        joining = self._room.joining
        return joining is None or joining.get(self._session) is not self._arrived

    def _answered(self, answer: Complete | Gap | StoreUnavailable) -> None:
        if self._is_left():
            return
        if isinstance(answer, StoreUnavailable):
            self._hub.leave(self._session, self._room)
            self._done(INTERNAL)
        elif self._room.options.recovery == "cache":
            self._answered_cache(answer)
        elif self._is_first_page(answer):
            self._begin_pages(answer)
        else:
            is_assured = self._room.options.delivery == "assured"
            asked = self._position is not None
            self._finish(join_stream(answer, self._arrived, was_recovering=asked, is_dense=not is_assured))

    def _answered_cache(self, answer: Complete | Gap) -> None:
        source, log = self._room.namespace.source, self._log
        is_empty = isinstance(answer, Complete) and not answer.publications and not self._arrived
        if source is not None and log is not None and is_empty and not self._was_seeded:
            self._was_seeded = True
            self._hub.fill_from_source(self._room, log, source, self._ask)
        else:
            self._finish(join_cache(answer, self._arrived))

    def _finish(self, joined: Joined) -> None:
        hub, room, session = self._hub, self._room, self._session
        # Every subscribe to a cache is answered as a recovery; few clients had lost anything.
        if joined.was_recovering and self._position is not None:
            hub.recovered += joined.recovered
            hub.unrecovered += not joined.recovered
        hub.admit(room, session, self._tells)
        hub.deliveries += len(joined.publications)
        self._done(joined)
        hub.push(session, room, joined.later)
        hub.tell(room, session, is_leave=False)

    # An inbox may hold more than one answer can carry: the rest follows as pushes,
    # page by page, and live publications wait behind it.

    def _is_first_page(self, answer: Complete | Gap) -> bool:
        return (
            self._room.options.delivery == "assured"
            and isinstance(answer, Complete)
            and len(answer.publications) >= self._hub.options.recovery_limit
        )

    def _begin_pages(self, answer: Complete | Gap) -> None:
        assert isinstance(answer, Complete)
        asked = self._position is not None
        self._done(Joined(answer.top, answer.publications, asked, recovered=asked))
        self._next_page(Position(answer.publications[-1].offset, answer.top.epoch))

    def _next_page(self, after: Position) -> None:
        def paged(answer: Complete | Gap | StoreUnavailable) -> None:
            if self._is_left():
                return
            if not isinstance(answer, Complete):
                self._session.close(INSUFFICIENT_STATE)
                return
            page = answer.publications
            self._hub.push(self._session, self._room, page)
            if len(page) >= self._hub.options.recovery_limit:
                self._next_page(Position(page[-1].offset, after.epoch))
            else:
                self._catch_up(page[-1].offset if page else after.offset)

        assert self._log is not None
        self._log.history(self._room.channel, after, self._hub.options.recovery_limit, False, paged)

    def _catch_up(self, last: int) -> None:
        fresh = [p for p in self._arrived if not p.offset or p.offset > last]
        self._hub.admit(self._room, self._session, self._tells)
        self._hub.push(self._session, self._room, fresh)
        self._hub.tell(self._room, self._session, is_leave=False)
