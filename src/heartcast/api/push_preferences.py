"""REST of preferences: what a user wants, and when not.

A document is replaced as a whole. ``ETag`` names its content; a PUT with ``If-Match`` is
refused with 412 when somebody else was faster. Users may read and write their own.
"""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import status_problem
from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.route import Answer, Call, Route
from heartcast.core.errors import Forbidden, StoreUnavailable
from heartcast.core.names import user_text
from heartcast.push.journal import Change
from heartcast.push.preferences import EMPTY, Preferences, Wishes, preference_note, wishes_of
from heartcast.push.service import PushService

_PATH = "/api/v1/users/{id}/preferences"
_encode = msgspec.json.Encoder().encode
_decode = decoder(Preferences)


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of preferences."""
    api = _PreferencesApi(service)
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=api.get,
            summary="What a user wants; the empty document allows everything.",
            tag="users",
            answers={200: Preferences},
        ),
        Route(
            method="PUT",
            path=_PATH,
            handler=tickets.guard(f"PUT {_PATH}", api.put),
            summary="Replace what a user wants; If-Match guards against lost updates.",
            tag="users",
            body=Preferences,
            answers={200: Preferences},
        ),
        Route(
            method="DELETE",
            path=_PATH,
            handler=tickets.guard(f"DELETE {_PATH}", api.delete),
            summary="Forget what a user wanted.",
            tag="users",
            answers={204: None},
        ),
    ]


class _PreferencesApi:
    def __init__(self, service: PushService) -> None:
        self._service = service

    def get(self, call: Call) -> Answer:
        wishes = self._service.preferences.of(_user(call))
        headers = ((b"etag", wishes.tag.encode()),)
        if call.header(b"if-none-match") == wishes.tag.encode():
            return Answer(304, b"", headers)
        return Answer(200, _encode(wishes.document), headers)

    def put(self, call: Call, ticket: Ticket) -> Answer | None:
        user = _user(call)
        wishes = wishes_of(_decode(call.body))
        if refusal := self._mismatch(call, user):
            ticket.drop()
            return refusal
        answer = Answer(200, _encode(wishes.document), ((b"etag", wishes.tag.encode()),))
        self._write(call, ticket, user, wishes, answer)
        return None

    def delete(self, call: Call, ticket: Ticket) -> Answer | None:
        user = _user(call)
        if refusal := self._mismatch(call, user):
            ticket.drop()
            return refusal
        self._write(call, ticket, user, None, Answer(204))
        return None

    def _mismatch(self, call: Call, user: str) -> Answer | None:
        wanted = call.header(b"if-match")
        tag = self._service.preferences.of(user).tag.encode()
        tags = [] if wanted is None else [part.strip() for part in wanted.split(b",")]
        if wanted is None or tag in tags or (tags == [b"*"] and tag != EMPTY.tag.encode()):
            return None
        return status_problem(
            412,
            "the preferences were changed meanwhile; read them again",
            "precondition_failed",
            headers=((b"etag", tag),),
        )

    def _write(self, call: Call, ticket: Ticket, user: str, wishes: Wishes | None, answer: Answer) -> None:
        note = preference_note(user, wishes.document if wishes else None)
        change = Change(notes=[note, *self._service.topics.meet(user), *ticket.notes(answer)])
        # In memory at once, so that a second editor's If-Match sees it while the disk is busy.
        before = self._service.preferences.find(user)
        self._service.preferences.put(user, wishes)
        self._service.journal.write(
            change, partial(self._written, call, ticket, user, before, wishes, answer)
        )

    def _written(
        self,
        call: Call,
        ticket: Ticket,
        user: str,
        before: Wishes | None,
        wishes: Wishes | None,
        answer: Answer,
        error: StoreUnavailable | None,
    ) -> None:
        if error is not None:
            if self._service.preferences.find(user) is wishes:
                self._service.preferences.put(user, before)
            refuse(call, ticket, error)
            return
        ticket.keep(answer)
        call.respond(answer)


def _user(call: Call) -> str:
    user = user_text(call.params["id"], "")
    if not call.identity.may_act_for(user):
        raise Forbidden("these preferences are another user's")
    return user
