"""Idempotency-Key on writes of hearts: what is sent again with its key is answered, not done again.

A heart is a set, so a repeated POST alone does no harm. But a repetition that comes late may undo
what happened since: a heart that was taken back is there again. With a key it is answered as
the first time, whatever happened since (``HeartStore.once``).

Hearts that are shadowed are not remembered under their key: they count for nobody, and done
again they are what they were.
"""

from __future__ import annotations

from hashlib import blake2b

from heartcast.api.idempotency import REPLAYED, key_of, owner_of
from heartcast.api.route import Answer, Call
from heartcast.hearts.model import Receipt


def receipt_of(call: Call, scope: str, until_ms: int) -> Receipt | None:
    """The receipt of a request; None when it has no key.

    Args:
        scope: Method and path. The same key means nothing elsewhere, nor of somebody else.

    Raises:
        InvalidInput: code ``invalid_idempotency_key``; the key is no key.
    """
    key = key_of(call)
    if key is None:
        return None
    name = blake2b(f"{scope}\0{owner_of(call)}\0{key}".encode(), digest_size=16).digest()
    asked = blake2b(call.query + b"\0" + call.body, digest_size=16).digest()
    return Receipt(name, asked, until_ms)


def replayed(answer: Answer) -> Answer:
    """The answer, marked as that of a request that was done before."""
    return answer._replace(headers=(*answer.headers, *REPLAYED))
