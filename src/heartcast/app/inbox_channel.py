"""The push domain's inbox, in the words of the realtime domain.

Realtime asks a ``ChannelLog`` where a channel stands and what a client missed; for the
``inbox`` namespace the answer is the user's mailbox. What is handed out here counts as
an attempt to deliver, and what is not acknowledged is sent again by the push domain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heartcast.core.errors import StoreUnavailable
from heartcast.push.inbox import Kept, Mark, Missing
from heartcast.push.inbox import Since as InboxSince
from heartcast.push.model import Push
from heartcast.push.routes.realtime import Deliver, rendered, user_of
from heartcast.push.service import PushService
from heartcast.realtime.log import Appended, Complete, Gap, Position, Publication, Since


class DeliversPublications(Protocol):
    """What delivery needs of the hub."""

    def deliver(self, channel: str, publication: Publication) -> int:
        """Hand a publication to current subscribers; returns sessions reached."""
        ...


def deliver_by(hub: DeliversPublications) -> Deliver:
    """The hub, as the push domain calls it."""

    def deliver(channel: str, data: bytes, offset: int, tags: dict[str, str]) -> int:
        return hub.deliver(channel, Publication(data, offset, tags))

    return deliver


class InboxChannels:
    """Implements realtime's ``ChannelLog`` for the channels ``inbox:#<user>``."""

    def __init__(self, service: PushService) -> None:
        self._service = service

    announces = False

    def append(
        self,
        channel: str,
        data: bytes,
        tags: dict[str, str] | None,
        client: bytes | None,
        done: Appended,
        *,
        key: str | None = None,
    ) -> None:
        """Refuses: only a push, with its id and its account, gets into an inbox."""
        done(StoreUnavailable(f"{channel} takes pushes only: use POST /push", code="inbox_takes_pushes"))

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        """As the port says; without a position: the oldest unacknowledged pushes, and
        the place before them as the top, so that a client counts on from there."""
        user = user_of(channel)
        if position is None:
            self._service.delivery.catch_up(user, None, limit, _answer(done, is_from_start=True))
        else:
            self._service.delivery.catch_up(user, Mark(*position), limit, _answer(done, is_from_start=False))

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        """A page of what is not acknowledged; ``reverse``: the newest before ``after``, newest first."""
        answer = _answer(done, is_from_start=False)
        user, offset = user_of(channel), after.offset if after else 0
        if reverse:
            self._service.delivery.look(user, 0, _ALL, _backwards(offset, limit, answer))
        elif limit == 0:
            # A look at the top sends nothing, so it must not count as an attempt.
            self._service.delivery.look(user, offset, 0, answer)
        else:
            self._service.delivery.page(user, offset, limit, answer)


_ALL = 1 << 30
"""More than any mailbox holds."""


def _backwards(before: int, limit: int, answer: InboxSince) -> InboxSince:
    def turned(found: Kept | Missing) -> None:
        if isinstance(found, Kept):
            pushes = [push for push in reversed(found.pushes) if not before or push.offset < before]
            found = found._replace(pushes=pushes[:limit])
            for push in found.pushes:
                # Its device has it now: it can no longer be taken back.
                push.attempts += 1
        answer(found)

    return turned


def _answer(done: Since, *, is_from_start: bool) -> Callable[[Kept | Missing], None]:
    def answer(found: Kept | Missing) -> None:
        if isinstance(found, Missing):
            done(Gap(Position(*found.top)))
            return
        publications = [_publication(push) for push in found.pushes]
        done(Complete(publications, Position(*(found.start if is_from_start else found.top))))

    return answer


def _publication(push: Push) -> Publication:
    return Publication(rendered(push), push.offset, {"id": push.id})
