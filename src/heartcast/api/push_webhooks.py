"""REST of webhooks: who pushes can be posted to.

A secret is shown once, in the answer to the request that made it. To replace one without a
gap, PUT the endpoint with both, the new one first; when the receiver believes the new one,
PUT it with that alone.
"""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.route import Answer, Call, Route
from heartcast.backends.webhook import new_secret
from heartcast.core.errors import Forbidden, StoreUnavailable
from heartcast.push.journal import Change
from heartcast.push.routes import RouteHealth
from heartcast.push.routes.options import Webhook
from heartcast.push.service import PushService
from heartcast.push.webhooks import Endpoint, webhook_note

_PATH = "/api/v1/webhooks"
_encode = msgspec.json.Encoder().encode


class WebhookBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint is; it is replaced as a whole."""

    url: str
    """Where to; https, unless the server allows private addresses."""
    secrets: list[str] | None = None
    """``whsec_…``, one to four. Left out: those it has, or one that is made here."""
    categories: list[str] = []
    """Categories of pushes that it is for; empty: all."""
    user_id: int | str | None = None
    """The one user whose pushes it is for; null: everyone's."""
    disabled: bool = False
    """Whether nothing is posted to it."""


class WebhookState(msgspec.Struct, frozen=True, omit_defaults=True):
    """An endpoint, and how it is doing."""

    name: str
    url: str
    categories: list[str]
    user_id: int | str | None
    disabled: bool
    """Set here, or because it answered 410."""
    secrets: int
    """How many sign."""
    is_fixed: bool
    """Whether it is one of the settings', and cannot be changed here."""
    batch_size: int
    """Pushes that may leave as one POST."""
    waiting: int
    """Pushes that wait for their turn, or are under way."""
    error_rate: float
    """Share of the last seconds' POSTs that failed."""
    circuit: str
    """closed, open or half_open."""
    secret: str | None = None
    """The secret that was made by this request; it is not shown again."""


class WebhookPage(msgspec.Struct, frozen=True):
    """All endpoints, by name."""

    items: list[WebhookState]


_decode = decoder(WebhookBody)


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of webhooks."""
    api = _WebhookApi(service)
    one = f"{_PATH}/{{name}}"
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=api.page,
            summary="All webhooks, and how they are doing.",
            tag="push",
            answers={200: WebhookPage},
        ),
        Route(
            method="GET",
            path=one,
            handler=api.get,
            summary="One webhook, and how it is doing.",
            tag="push",
            answers={200: WebhookState},
        ),
        Route(
            method="PUT",
            path=one,
            handler=tickets.guard(f"PUT {one}", api.put),
            summary="Make or replace a webhook.",
            tag="push",
            body=WebhookBody,
            answers={201: WebhookState, 200: WebhookState},
        ),
        Route(
            method="DELETE",
            path=one,
            handler=tickets.guard(f"DELETE {one}", api.delete),
            summary="Take a webhook away; what waits for it falls back or dies.",
            tag="push",
            answers={204: None},
        ),
    ]


class _WebhookApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._book = service.webhooks

    def page(self, call: Call) -> Answer:
        _must_be_server(call)
        return Answer(200, _encode(WebhookPage([self._state(endpoint) for endpoint in self._book])))

    def get(self, call: Call) -> Answer:
        _must_be_server(call)
        return Answer(200, _encode(self._state(self._book.get(call.params["name"]))))

    def put(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call)
        name, body = call.params["name"], _decode(call.body)
        before = self._book.find(name)
        secrets, made = body.secrets, None
        if secrets is None and before is not None:
            secrets = before.webhook.secrets
        elif secrets is None:
            made = new_secret()
            secrets = [made]
        endpoint = self._book.ready(
            name,
            Webhook(
                url=body.url, secrets=secrets, categories=body.categories, user_id=body.user_id,
                disabled=body.disabled,
            ),
        )  # fmt: skip
        status = 200 if before else 201
        answer = Answer(status, _encode(self._state(endpoint, made)))
        # A secret is shown once: what is kept for whoever repeats the request does not have it.
        kept = answer if made is None else Answer(status, _encode(self._state(endpoint)))
        self._write(call, ticket, name, endpoint, answer, kept)
        return None

    def delete(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call)
        name = call.params["name"]
        self._book.get(name)
        self._book.check_changeable(name)
        self._write(call, ticket, name, None, Answer(204), Answer(204))
        return None

    def _write(
        self, call: Call, ticket: Ticket, name: str, endpoint: Endpoint | None, answer: Answer, kept: Answer
    ) -> None:
        note = webhook_note(name, endpoint.webhook if endpoint else None)
        change = Change(notes=[note, *ticket.notes(kept)])
        self._service.journal.write(
            change, partial(self._written, call, ticket, name, endpoint, answer, kept)
        )

    def _written(
        self,
        call: Call,
        ticket: Ticket,
        name: str,
        endpoint: Endpoint | None,
        answer: Answer,
        kept: Answer,
        error: StoreUnavailable | None,
    ) -> None:
        if error is not None:
            refuse(call, ticket, error)
            return
        # Only now: what it was before would be back after a crash.
        self._book.put(name, endpoint)
        ticket.keep(kept)
        call.respond(answer)

    def _state(self, endpoint: Endpoint, made: str | None = None) -> WebhookState:
        webhook = endpoint.webhook
        health = self._health(endpoint.name)
        return WebhookState(
            endpoint.name, webhook.url, webhook.categories, webhook.user_id, webhook.disabled,
            len(webhook.secrets), endpoint.is_fixed, health.batch_size, health.waiting,
            round(health.error_rate, 4), health.circuit, made,
        )  # fmt: skip

    def _health(self, name: str) -> RouteHealth:
        route = f"webhook:{name}"
        for health in self._service.posts.health():
            if health.name == route:
                return health
        return RouteHealth(route, 1, 0, 0.0, "closed")


def _must_be_server(call: Call) -> None:
    if not call.identity.is_server:
        raise Forbidden("only the operator's own servers may see and change webhooks")
