"""The ``Idempotency-Key`` header: what is a key, and whose it is.

What a key means (that a request which is sent again is answered, not done again) is up to
those who keep the records; how it is read and marked is the same everywhere.
"""

from __future__ import annotations

from heartcast.api.route import Call
from heartcast.core.errors import InvalidInput

HEADER = b"idempotency-key"
MAX_KEY_BYTES = 255
REPLAYED = ((b"idempotent-replayed", b"true"),)
"""Headers of an answer that was given before."""


def key_of(call: Call) -> str | None:
    """The key of a request; None: it has none.

    Raises:
        InvalidInput: code ``invalid_idempotency_key``; it is no key.
    """
    raw = call.header(HEADER)
    return None if raw is None else key_in(raw)


def key_in(raw: bytes) -> str:
    """The key in a header.

    Raises:
        As ``key_of``.
    """
    # The draft wants a quoted string; most clients send a bare token.
    text = raw.decode("latin-1").strip()
    key = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if not 1 <= len(key) <= MAX_KEY_BYTES or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"an Idempotency-Key is 1 to {MAX_KEY_BYTES} printable ASCII characters",
            code="invalid_idempotency_key",
        )
    return key


def owner_of(call: Call) -> str:
    """Whose key it is: the same text of somebody else is another key."""
    return "\0" if call.identity.is_server else call.identity.user or ""
