"""Watching the counts of many targets on one connection.

A client names its targets, up to 500 in one call, and is answered with their counts. What
changes then comes as publications of ``hearts:<target>``, as if it had subscribed to each:
every target at most once per ``hearts.live_interval_s``, encoded once for all who watch it,
by tracking or by a subscription.

    rpc "track"    {"targets": ["a", "b"]}  ->  {"counts": [{"target_id", "count", "version"}, …]}
    rpc "untrack"  {"targets": ["a"]}       ->  {}
    GET /api/v1/stream?target=a&target=b        the same as server-sent events

What is tracked does not count as a channel of the connection; it has a limit of its own. A
repeated call tracks nothing twice, and its answer is how a client that was away catches up.
Counts and changes may overtake each other: the greater version is the newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from heartcast.api.body import decoder
from heartcast.core.errors import Forbidden, InvalidInput, StoreUnavailable
from heartcast.core.names import check_id
from heartcast.hearts.live import channel_of
from heartcast.hearts.model import KIND, Count
from heartcast.hearts.service import HeartService
from heartcast.realtime.hub import Hub
from heartcast.realtime.namespaces import Mode, may_subscribe
from heartcast.realtime.recovery import Joined
from heartcast.realtime.session import Session
from heartcast.wire.codec import subscribe_line, unsubscribe_line
from heartcast.wire.envelopes import INTERNAL, LIMIT_EXCEEDED, UNSUBSCRIBED_BY_SERVER, Refusal

MAX_TARGETS = 500
"""In one call: their counts make an answer of some 40 KB."""


class TrackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which targets are meant."""

    targets: list[str]


class Tracked(msgspec.Struct, frozen=True):
    """Counts of what is tracked from now on, in the order asked."""

    counts: list[Count]
    stale: bool | msgspec.UnsetType = msgspec.UNSET
    """True: the store is away, and these are the last known ones. What changes comes all the same."""


TrackedDone = Callable[[Tracked | StoreUnavailable], None]

_decode = decoder(TrackBody)
_encode = msgspec.json.Encoder().encode


class Tracking:
    """Who tracks what. One for all connections.

    Args:
        limit: Targets that one connection may track.
    """

    def __init__(self, hub: Hub, hearts: HeartService, limit: int) -> None:
        self._hub = hub
        self._hearts = hearts
        self.limit = limit
        hub.rpc["track"] = self._track
        hub.rpc["untrack"] = self._untrack

    def check(self, targets: Sequence[str], user: str | None, mode: Mode, pointer: str = "/targets") -> None:
        """Return when this user may track these targets.

        Raises:
            InvalidInput: there are none or too many for one call, or one may not be an id.
            Forbidden: code ``channel_forbidden``; counts are not for this user.
        """
        if not 1 <= len(targets) <= MAX_TARGETS:
            raise InvalidInput(f"must be 1 to {MAX_TARGETS} targets, got {len(targets)}", pointer=pointer)
        for at, target_id in enumerate(targets):
            channel = channel_of(check_id(target_id, f"{pointer}/{at}"))
            if not may_subscribe(self._hub.options_of(channel), channel, user, mode):
                raise Forbidden("this caller may not watch counts", code="channel_forbidden")

    def start(self, session: Session, targets: Sequence[str], done: TrackedDone) -> None:
        """Let a session watch these targets.

        Args:
            done: Called once, at once or later, with the counts as they were after the session
                began to watch. After an error it watches all the same.
        """
        for target_id in targets:
            channel = channel_of(target_id)
            if session.room(channel) is None:
                self._hub.join(session, channel, None, _joined, is_tracked=True)

        def counted(counts: list[Count] | StoreUnavailable) -> None:
            if isinstance(counts, list):
                done(Tracked(counts))
                return
            known = self._hearts.last_known(targets, KIND)
            done(counts if known is None else Tracked(known[0], stale=True))

        self._hearts.counts(targets, KIND, counted)

    def is_beyond_limit(self, session: Session, targets: Sequence[str]) -> bool:
        """Whether the session would track too many with these."""
        new = {target_id for target_id in targets if session.room(channel_of(target_id)) is None}
        return len(session.tracked or ()) + len(new) > self.limit

    def _track(self, session: Session, data: bytes, done: Callable[[bytes | Refusal], None]) -> None:
        targets = _decode(data).targets
        self.check(targets, session.user, self._hub.mode)
        if self.is_beyond_limit(session, targets):
            done(LIMIT_EXCEEDED._replace(message=f"limit exceeded: a connection tracks {self.limit} targets"))
            return
        before = set(session.tracked or ())

        def answer(tracked: Tracked | StoreUnavailable) -> None:
            done(_encode(tracked) if isinstance(tracked, Tracked) else INTERNAL)

        # Stock clients show publications of those channels only that they were told of.
        self.start(session, targets, answer)
        session.push_lines([subscribe_line(room.channel, {}) for room in (session.tracked or set()) - before])

    def _untrack(self, session: Session, data: bytes, done: Callable[[bytes | Refusal], None]) -> None:
        told = []
        for target_id in _decode(data).targets[:MAX_TARGETS]:
            room = session.room(channel_of(target_id))
            if room is not None and room in (session.tracked or ()):
                self._hub.leave(session, room)
                told.append(unsubscribe_line(room.channel, *UNSUBSCRIBED_BY_SERVER))
        session.push_lines(told)
        done(b"{}")


def _joined(answer: Joined | Refusal) -> None:
    """Nothing to say: all counts come in one answer."""
