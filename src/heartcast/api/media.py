"""Which content types a request's body may have: JSON, said so, and not compressed.

A body without a content type is refused too. Browsers send ``text/plain``, forms and untyped
bodies across origins without asking first; insisting on JSON makes them ask (a CORS preflight).
"""

from __future__ import annotations

from heartcast.api.problems import status_problem
from heartcast.api.route import Answer, Headers

_JSON_TYPES = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)
_PLAIN_ONLY: Headers = ((b"accept-encoding", b"identity"),)
"""What would be taken: RFC 9110 §12.5.3 has the header for this answer."""


def media_type_problem(content_type: bytes | None, encoding: bytes | None = None) -> Answer | None:
    """The 415 for a request with a body of this Content-Type; None when it is plain JSON.

    Args:
        content_type: The header's value; None when the request has none.
        encoding: Value of Content-Encoding; None when the request has none.
    """
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        # Unpacking would let a small request cost a large one's memory.
        return status_problem(
            415, "the body must not be compressed", "unsupported_encoding", headers=_PLAIN_ONLY
        )
    if content_type in _JSON_TYPES:
        return None
    if content_type is not None and _is_json(content_type.lower()):
        return None
    return status_problem(
        415, "the body must be sent as content-type: application/json", "unsupported_media_type"
    )


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip()
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )
