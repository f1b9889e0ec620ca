"""REST of one user: the inbox, everything that is kept, and erasing it."""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.problems import problem
from heartcast.api.push_dead_letters import DeadLetter, limit_of, shown
from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.push_state import PushState, state_of
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput
from heartcast.core.names import user_text
from heartcast.push.inbox import Kept, Missing
from heartcast.push.model import Push
from heartcast.push.people import Erased, Person
from heartcast.push.preferences import Preferences
from heartcast.push.service import PushService

_PATH = "/api/v1/users/{id}"
_encode = msgspec.json.Encoder().encode


class InboxItem(msgspec.Struct, frozen=True):
    """A push that waits for its user's acknowledgement."""

    id: str
    offset: int
    data: msgspec.Raw
    """What clients get."""
    timestamp: str
    attempts: int


class UserInbox(msgspec.Struct, frozen=True):
    """What a user has not acknowledged, oldest first."""

    items: list[InboxItem]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


class UserExport(msgspec.Struct, frozen=True):
    """Everything that is kept of a user."""

    user_id: str
    preferences: Preferences
    pushes: list[PushState]
    dead_letters: list[DeadLetter]
    topics: list[str]
    """Topics that the user subscribes to."""


class UserErased(msgspec.Struct, frozen=True):
    """What was erased."""

    cancelled: int
    """Pushes that were waiting or in the inbox."""
    records: int
    """Records of pushes that had ended."""
    dead_letters: int


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of a user."""
    api = _UsersApi(service)
    return [
        Route(
            method="GET",
            path=f"{_PATH}/inbox",
            handler=api.inbox,
            summary="What a user has not acknowledged, oldest first.",
            tag="users",
            answers={200: UserInbox},
            parameters=(
                Parameter(name="cursor", summary="Where the page before ended."),
                Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
            ),
        ),
        Route(
            method="GET",
            path=f"{_PATH}/export",
            handler=api.export,
            summary="Everything that the push domain keeps of a user.",
            tag="users",
            answers={200: UserExport},
        ),
        Route(
            method="DELETE",
            path=f"{_PATH}/pushes",
            handler=tickets.guard(f"DELETE {_PATH}/pushes", api.erase),
            summary="Erase a user: waiting pushes, inbox, records, preferences, dead letters.",
            tag="users",
            answers={200: UserErased},
        ),
    ]


class _UsersApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._ttl_ms = round(service.options.ttl_s * 1000)

    def inbox(self, call: Call) -> Answer | None:
        user, values = _user(call), call.query_values()
        limit, cursor = limit_of(values.get("limit", ["50"])[0]), values.get("cursor", ["0"])[0]
        if not cursor.isdecimal() or len(cursor) > 18:
            raise InvalidInput(f"cursor is none of ours: {cursor[:20]!r}")
        is_own = not call.identity.is_server
        self._service.delivery.look(user, int(cursor), limit + 1, partial(self._looked, call, limit, is_own))
        return None

    def _looked(self, call: Call, limit: int, is_own: bool, found: Kept | Missing) -> None:
        pushes = found.pushes if isinstance(found, Kept) else []
        page = pushes[:limit]
        for push in page:
            # The user has seen it now: it can no longer be taken back.
            push.attempts += is_own
        items = [_item(push) for push in page]
        cursor = str(page[-1].offset) if len(pushes) > limit else None
        call.respond(Answer(200, _encode(UserInbox(items, cursor))))

    def export(self, call: Call) -> Answer | None:
        user = user_text(call.params["id"], "")
        if not call.identity.may_look_at(user):
            raise Forbidden("this is another user")
        self._service.people.find(user, partial(self._exported, call, user))
        return None

    def _exported(self, call: Call, user: str, found: Person | HeartcastError) -> None:
        if isinstance(found, HeartcastError):
            call.respond(problem(found))
            return
        service, gates = self._service, self._service.chain.names
        pushes = [
            state_of(push, service.shard_of(push), gates, self._ttl_ms, service.receipts.first(push.id))
            for push in found.pushes
        ]
        letters = [shown(letter) for letter in found.letters]
        call.respond(Answer(200, _encode(UserExport(user, found.preferences, pushes, letters, found.topics))))

    def erase(self, call: Call, ticket: Ticket) -> Answer | None:
        self._service.people.erase(_user(call), partial(self._erased, call, ticket))
        return None

    def _erased(self, call: Call, ticket: Ticket, done: Erased | HeartcastError) -> None:
        if isinstance(done, HeartcastError):
            refuse(call, ticket, done)
            return
        answer = Answer(200, _encode(UserErased(*done)))
        ticket.keep(answer)
        call.respond(answer)


def _item(push: Push) -> InboxItem:
    data = msgspec.Raw(push.data or b"null")
    return InboxItem(push.id, push.offset, data, rfc3339(push.accepted_ms), push.attempts)


def _user(call: Call) -> str:
    user = user_text(call.params["id"], "")
    if not call.identity.may_act_for(user):
        raise Forbidden("this is another user")
    return user
