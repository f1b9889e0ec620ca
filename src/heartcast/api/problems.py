"""Errors as RFC 9457 problem documents.

The one place that knows which HTTP status an error has. A problem looks like::

    {"type": "/problems/invalid_id", "title": "Unprocessable Content", "status": 422,
     "code": "invalid_id", "detail": "must not be empty",
     "errors": [{"pointer": "/target_id", "detail": "must not be empty"}]}

``code`` is what programs switch on; ``detail`` is for people and may change.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from heartcast.api.route import ANONYMOUS, Answer, Headers, Identity
from heartcast.core.errors import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    Gone,
    HeartcastError,
    InvalidInput,
    MalformedBody,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from heartcast.resilience.errors import LimitExceeded

PROBLEM_TYPE = b"application/problem+json"

# Most specific first: the first class that fits decides.
_STATUS: tuple[tuple[type[HeartcastError], int], ...] = (
    (MalformedBody, 400),
    (BodyTooLarge, 413),
    (InvalidInput, 422),
    (NotFound, 404),
    (Gone, 410),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Conflict, 409),
    (LimitExceeded, 429),
    (Unavailable, 503),
    (HeartcastError, 500),
)

# http.HTTPStatus has the names of RFC 7231 until Python 3.13.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    pointer: str
    """JSON pointer (RFC 6901) into the body; "" for the whole."""
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] = []


_encode = msgspec.json.Encoder().encode


def problem(error: HeartcastError) -> Answer:
    """The answer for an error that heartcast raised on purpose."""
    status = next(status for class_, status in _STATUS if isinstance(error, class_))
    errors = [FieldError(error.pointer, error.detail)] if isinstance(error, InvalidInput) else []
    headers: Headers = ()
    if isinstance(error, Unavailable):
        headers = ((b"retry-after", b"%d" % error.retry_after_s),)
    elif isinstance(error, Unauthenticated):
        headers = ((b"www-authenticate", b"Bearer"),)
    return status_problem(status, error.detail, error.code, errors=errors, headers=headers)


def problem_for(error: HeartcastError, identity: Identity) -> Answer:
    """The answer to a caller: who showed no credentials is asked for them before it is
    told that it may not do something."""
    if identity is ANONYMOUS and isinstance(error, Forbidden) and not isinstance(error, Unauthenticated):
        error = Unauthenticated("credentials are needed: Authorization: Bearer <token>, or X-API-Key: <key>")
    return problem(error)


def status_problem(
    status: int, detail: str, code: str, *, errors: list[FieldError] | None = None, headers: Headers = ()
) -> Answer:
    """A problem for a status that the protocol itself decided (404, 405, 413, …)."""
    document = Problem(f"/problems/{code}", _title(status), status, code, detail, errors or [])
    return Answer(status, _encode(document), headers, PROBLEM_TYPE)


def internal_problem() -> Answer:
    """The answer when a handler failed unexpectedly: it says nothing of the inside."""
    return status_problem(500, "heartcast failed to answer this request; its log says why", "internal")


def _title(status: int) -> str:
    return _TITLES.get(status) or HTTPStatus(status).phrase


def schema() -> dict[str, Any]:
    """JSON schema components of a problem, for the OpenAPI document."""
    _, components = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    return components
