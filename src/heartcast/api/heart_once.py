"""Idempotency-Key on writes of hearts: what is sent again with its key is answered, not done again.

A heart is a set, so a repeated POST alone does no harm. But a repetition that comes late may undo
what happened since: a heart that was taken back is there again. With a key it is answered as
the first time, whatever happened since (``HeartStore.once``).

Hearts that are shadowed are not remembered under their key: they count for nobody, and done
again they are what they were.
"""

from __future__ import annotations

from hashlib import blake2b

from heartcast.api.route import Answer, Call
from heartcast.core.errors import InvalidInput
from heartcast.hearts.model import Receipt

HEADER = b"idempotency-key"
MAX_KEY_BYTES = 255
_REPLAYED = ((b"idempotent-replayed", b"true"),)


def receipt_of(call: Call, scope: str, until_ms: int) -> Receipt | None:
    """The receipt of a request; None when it has no key.

    Args:
        scope: Method and path. The same key means nothing elsewhere, nor of somebody else.

    Raises:
        InvalidInput: code ``invalid_idempotency_key``; the key is no key.
    """
    raw = call.header(HEADER)
    if raw is None:
        return None
    who = "\0" if call.identity.is_server else call.identity.user or ""
    name = blake2b(f"{scope}\0{who}\0{_key(raw)}".encode(), digest_size=16).digest()
    asked = blake2b(call.query + b"\0" + call.body, digest_size=16).digest()
    return Receipt(name, asked, until_ms)


def replayed(answer: Answer) -> Answer:
    """The answer, marked as that of a request that was done before."""
    return answer._replace(headers=(*answer.headers, *_REPLAYED))


def _key(raw: bytes) -> str:
    # The draft wants a quoted string; most clients send a bare token.
    text = raw.decode("latin-1").strip()
    key = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if not 1 <= len(key) <= MAX_KEY_BYTES or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"an Idempotency-Key is 1 to {MAX_KEY_BYTES} printable ASCII characters",
            code="invalid_idempotency_key",
        )
    return key
