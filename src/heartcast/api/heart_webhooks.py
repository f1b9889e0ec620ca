"""REST of the webhooks of events: how they are doing, replay, and switching on again."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from heartcast.api.body import decoder
from heartcast.api.route import Answer, Call, Headers, Route
from heartcast.core.errors import Forbidden, NotFound
from heartcast.hearts.webhooks import Webhook

_PATH = "/api/v1/event-webhooks"
_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
_encode = msgspec.json.Encoder().encode


class WebhookShown(msgspec.Struct, frozen=True):
    """A webhook and how far it is."""

    name: str
    host: str
    """Of its URL, whose rest may be a secret."""
    is_disabled: bool
    """Whether it answered 410; ``enable`` switches it on."""
    cursor: str
    """Behind the last event that it took."""
    lag: int
    """Events that it has yet to take."""
    delivered: int
    """Events taken since the server started."""
    failures: int
    """Tries since the last success."""
    last_error: str
    missed: int
    """Times since the start that events were trimmed before it took them."""


class WebhooksShown(msgspec.Struct, frozen=True):
    """All webhooks of events."""

    items: list[WebhookShown]


class ReplayAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on."""

    after: str = ""
    """A cursor; left out: the oldest event that is kept."""


_decode_replay = decoder(ReplayAsked)


def routes(webhooks: Mapping[str, Webhook]) -> list[Route]:
    """The routes of the webhooks of events; only for the operator's own servers."""

    def find(call: Call) -> Webhook:
        _check(call)
        webhook = webhooks.get(call.params["name"])
        if webhook is None:
            raise NotFound("there is no webhook of this name; hearts.webhooks.endpoints has them")
        return webhook

    def all_(call: Call) -> Answer:
        _check(call)
        return Answer(200, _encode(WebhooksShown([_shown(one) for one in webhooks.values()])), _NO_STORE)

    async def replay(call: Call) -> Answer:
        webhook = find(call)
        await webhook.replay(_decode_replay(call.body or b"{}").after)
        return Answer(202, _encode(_shown(webhook)), _NO_STORE)

    async def enable(call: Call) -> Answer:
        webhook = find(call)
        await webhook.enable()
        return Answer(200, _encode(_shown(webhook)), _NO_STORE)

    return [
        Route(
            method="GET",
            path=_PATH,
            handler=all_,
            summary="The webhooks of events, and how they are doing.",
            tag="hearts",
            answers={200: WebhooksShown},
        ),
        Route(
            method="POST",
            path=f"{_PATH}/{{name}}/replay",
            handler=replay,
            summary="Post events again, or skip some: go on behind a cursor.",
            tag="hearts",
            body=ReplayAsked,
            answers={202: WebhookShown},
        ),
        Route(
            method="POST",
            path=f"{_PATH}/{{name}}/enable",
            handler=enable,
            summary="Switch a webhook on again that answered 410.",
            tag="hearts",
            answers={200: WebhookShown},
        ),
    ]


def _check(call: Call) -> None:
    if not call.identity.is_server:
        raise Forbidden("only the operator's own servers may do this")


def _shown(webhook: Webhook) -> WebhookShown:
    return WebhookShown(
        webhook.name, urlsplit(webhook.url).hostname or "", webhook.is_disabled, webhook.cursor, webhook.lag,
        webhook.delivered, webhook.failures, webhook.last_error, webhook.missed,
    )  # fmt: skip
