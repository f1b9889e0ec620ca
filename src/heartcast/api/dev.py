"""What exists in dev mode on loopback only: a token for whoever asks.

The demo page needs one to read its visitor's inbox. These routes are not in the table
of a server that anybody else can reach.
"""

from __future__ import annotations

import msgspec

from heartcast.api.auth import Authenticator
from heartcast.api.body import decoder
from heartcast.api.route import Answer, Call, Route
from heartcast.core.names import user_text

TTL_S = 24 * 3600.0


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose token."""

    user_id: int | str


class Token(msgspec.Struct, frozen=True):
    """A token, good for a day."""

    token: str


_decode = decoder(TokenRequest)
_encode = msgspec.json.Encoder().encode


def routes(authenticator: Authenticator) -> list[Route]:
    """The routes of dev mode."""

    def issue(call: Call) -> Answer:
        user = user_text(_decode(call.body).user_id)
        token = Token(authenticator.issue(user, ttl_s=TTL_S))
        return Answer(200, _encode(token), ((b"cache-control", b"no-store"),))

    return [
        Route(
            method="POST",
            path="/api/v1/dev/token",
            handler=issue,
            summary="A token for any user; in dev mode on loopback only.",
            tag="operation",
            body=TokenRequest,
            answers={200: Token},
        )
    ]
