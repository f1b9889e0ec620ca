"""REST of dead letters: pushes that could not be rendered or that made their worker fail."""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.push_post import PushAccepted
from heartcast.api.route import Answer, Call, Identity, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, InvalidInput, StoreUnavailable
from heartcast.push.dead import Letter
from heartcast.push.model import Extra
from heartcast.push.service import PushService

_PATH = "/api/v1/dead-letters"
MAX_PAGE = 200
_encode = msgspec.json.Encoder().encode


class DeadLetter(msgspec.Struct, frozen=True):
    """A push that ended as dead, with all that is needed to look at it."""

    id: str
    user_id: int | str
    template: str
    """``name@version``."""
    payload: msgspec.Raw
    reason: str
    """``rendering`` or ``worker_crashed``."""
    detail: str
    """What the error said."""
    timestamp: str
    """When the push was accepted."""
    died_at: str


class DeadLetters(msgspec.Struct, frozen=True):
    """A page of dead letters, oldest first."""

    items: list[DeadLetter]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of dead letters."""
    api = _DeadApi(service)
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=api.list,
            summary="Dead letters, oldest first.",
            tag="push",
            answers={200: DeadLetters},
            parameters=(
                Parameter(name="cursor", summary="Where the page before ended."),
                Parameter(name="limit", summary=f"1 to {MAX_PAGE}; 50 when left out.", type=int),
                Parameter(name="user_id", summary="Only those of this user."),
            ),
        ),
        Route(
            method="GET",
            path=f"{_PATH}/{{id}}",
            handler=api.get,
            summary="One dead letter.",
            tag="push",
            answers={200: DeadLetter},
        ),
        Route(
            method="POST",
            path=f"{_PATH}/{{id}}/retry",
            handler=tickets.guard(f"POST {_PATH}/{{id}}/retry", api.retry),
            summary="Send a dead letter again, as a new push.",
            tag="push",
            answers={202: PushAccepted},
        ),
    ]


class _DeadApi:
    def __init__(self, service: PushService) -> None:
        self._service = service

    def list(self, call: Call) -> Answer:
        _must_be_server(call.identity)
        values = call.query_values()
        limit = limit_of(values.get("limit", ["50"])[0])
        cursor, [user] = values.get("cursor", [""])[0], values.get("user_id", [None])[:1]
        letters = self._service.dead.page(cursor, limit + 1, user)
        more = letters[limit - 1].id if len(letters) > limit else None
        return Answer(200, _encode(DeadLetters([shown(letter) for letter in letters[:limit]], more)))

    def get(self, call: Call) -> Answer:
        _must_be_server(call.identity)
        return Answer(200, _encode(shown(self._service.dead.find(call.params["id"]))))

    def retry(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call.identity)
        letter = self._service.dead.find(call.params["id"])
        payload = msgspec.json.decode(letter.payload)
        # The active version, which may have been mended since.
        name = letter.template.rpartition("@")[0]
        extra = letter.extra or Extra()
        again = Extra(
            priority=extra.priority,
            category=extra.category,
            locale=extra.locale,
            retry_of=letter.id,
            routes=extra.routes,
            fallback=extra.fallback,
            fallback_ms=extra.fallback_ms,
        )
        taken = self._service.intake.take(letter.user_id, name, payload, again)
        push, _ = taken
        accepted = PushAccepted(
            push.id, letter.user_id, name, "queued", self._service.shard_of(push), rfc3339(push.accepted_ms)
        )
        answer = Answer(202, _encode(accepted))
        gone = self._service.dead.take(letter.id)
        done = partial(self._retried, call, ticket, letter, answer)
        self._service.intake.submit((taken,), [gone, *ticket.notes(answer)], done)
        return None

    def _retried(
        self, call: Call, ticket: Ticket, letter: Letter, answer: Answer, error: StoreUnavailable | None
    ) -> None:
        if error is not None:
            self._service.dead.put_back(letter)
            refuse(call, ticket, error)
            return
        ticket.keep(answer)
        call.respond(answer)


def shown(letter: Letter) -> DeadLetter:
    """A letter as it is answered."""
    return DeadLetter(
        letter.id, letter.user_id, letter.template, letter.payload, letter.reason, letter.detail,
        rfc3339(letter.accepted_ms), rfc3339(letter.died_ms),
    )  # fmt: skip


def limit_of(text: str) -> int:
    """A page size, 1 to 200.

    Raises:
        InvalidInput: it is none.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidInput(f"limit must be a number from 1 to {MAX_PAGE}, got {text[:20]!r}")
    return int(text)


def _must_be_server(identity: Identity) -> None:
    if not identity.is_server:
        raise Forbidden("only the operator's own servers may do this")
