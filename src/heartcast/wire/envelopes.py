"""Codes of the client protocol: what a client reads out of an error or a close.

The numbers are the Centrifugo protocol's, because the stock SDKs act on them: a
connection closed with 3000 to 3499 or 4000 to 4499 is opened again, with 3500 to 3999 or
4500 to 4999 it is not; an unsubscribe of 2500 and above is followed by a new subscribe;
an error with ``temporary`` is tried again.
"""

from __future__ import annotations

from typing import NamedTuple

from heartcast.core.errors import (
    Forbidden,
    HeartcastError,
    InvalidInput,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)


class Refusal(NamedTuple):
    """An error in answer to one command."""

    code: int
    message: str
    temporary: bool = False


class Disconnect(NamedTuple):
    """Why the server closes a connection."""

    code: int
    reason: str

    @property
    def is_retried(self) -> bool:
        """Whether a stock client connects again."""
        return 3000 <= self.code < 3500 or 4000 <= self.code < 4500


INTERNAL = Refusal(100, "internal server error", temporary=True)
UNAUTHORIZED = Refusal(101, "unauthorized")
UNKNOWN_CHANNEL = Refusal(102, "unknown channel")
PERMISSION_DENIED = Refusal(103, "permission denied")
METHOD_NOT_FOUND = Refusal(104, "method not found")
ALREADY_SUBSCRIBED = Refusal(105, "already subscribed")
LIMIT_EXCEEDED = Refusal(106, "limit exceeded")
BAD_REQUEST = Refusal(107, "bad request")
NOT_AVAILABLE = Refusal(108, "not available")
TOKEN_EXPIRED = Refusal(109, "token expired")
EXPIRED = Refusal(110, "expired")
TOO_MANY_REQUESTS = Refusal(111, "too many requests", temporary=True)
UNRECOVERABLE = Refusal(112, "unrecoverable position")

SHUTDOWN = Disconnect(3001, "shutdown")
SERVER_ERROR = Disconnect(3004, "internal server error")
CONNECTION_EXPIRED = Disconnect(3005, "connection expired")
SLOW = Disconnect(3008, "slow")
INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
FORCE_RECONNECT = Disconnect(3011, "force reconnect")
NO_PONG = Disconnect(3012, "no pong")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_COMMAND = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
FORCE_NO_RECONNECT = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT = Disconnect(3504, "connection limit")
FORBIDDEN_CONNECTION = Disconnect(3507, "permission denied")

UNSUBSCRIBED_BY_SERVER = Disconnect(2000, "server unsubscribe")
UNSUBSCRIBED_FOR_STATE = Disconnect(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED = Disconnect(2501, "subscription expired")

# Most specific first.
_OF_ERROR: tuple[tuple[type[HeartcastError], Refusal], ...] = (
    (Unauthenticated, UNAUTHORIZED),
    (Forbidden, PERMISSION_DENIED),
    (NotFound, UNKNOWN_CHANNEL),
    (InvalidInput, BAD_REQUEST),
    (Overloaded, TOO_MANY_REQUESTS),
    (Unavailable, INTERNAL),
)


def refusal(error: HeartcastError) -> Refusal:
    """What a client is told when a handler raised ``error``; its text goes along."""
    if error.code == "token_expired":
        return TOKEN_EXPIRED
    for class_, known in _OF_ERROR:
        if isinstance(error, class_):
            return known._replace(message=f"{known.message}: {error.detail}")
    return INTERNAL
