"""Signatures of webhooks as Standard Webhooks 1.0.0 has them, symmetric (``v1``).

A message has an id, which stays the same however often it is sent, and the second in which
it is sent. Id, second and body are signed together, so that none can be exchanged and a
receiver can turn away what was recorded long ago. While a secret is being replaced there
are several, and a message carries a signature of each.

``backends.post`` sends what is signed here. Source: the specification in
github.com/standard-webhooks/standard-webhooks, sections "Signature scheme" and "Webhook headers".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping, Sequence

from heartcast.core.errors import Forbidden, InvalidInput

PREFIX = "whsec_"
TOLERANCE_S = 300
"""How far the clocks of sender and receiver may differ: the specification's reference code has this."""
_KEY_BYTES = 24
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 24, 64
MAX_SECRETS = 4
"""One in use, one coming, and room for a change that was begun twice."""


def new_secret() -> str:
    """A secret that nobody can guess."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def key_of(secret: str, pointer: str = "") -> bytes:
    """The key that a secret stands for.

    Raises:
        InvalidInput: it is not ``whsec_`` and 24 to 64 bytes in base 64 (code ``webhook_secret``).
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
        # Never with the secret itself: this ends in logs.
        raise InvalidInput(
            f"must be {PREFIX} and {_LEAST_KEY_BYTES} to {_MOST_KEY_BYTES} bytes in base 64",
            pointer=pointer,
            code="webhook_secret",
        )
    return key


def signed(message_id: str, body: bytes, keys: Sequence[bytes], now_ms: int) -> dict[str, str]:
    """The headers of a message that is sent now.

    Args:
        message_id: Without a full stop, which would make two messages look alike.
        keys: At least one.

    Raises:
        ValueError: the id has a full stop.
    """
    if "." in message_id:
        raise ValueError(f"message_id: must have no full stop, got {message_id!r}")
    second = str(now_ms // 1000)
    signatures = " ".join(_signature(key, message_id, second, body) for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": second, "webhook-signature": signatures}


def verify(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now_ms: int) -> str:
    """Check a message that was received.

    Args:
        headers: With names in lower case.
        body: As it came, byte for byte.
        keys: Those that are believed.

    Returns:
        The message's id: one that was seen before is a repetition.

    Raises:
        Forbidden: code ``webhook_signature``; not signed by a holder of a key, or not lately.
    """
    message_id = headers.get("webhook-id", "")
    second = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()[: MAX_SECRETS * 2]
    if not message_id or not second.isascii() or not second.isdecimal() or len(second) > 12:
        raise _refused("id or time is missing")
    if abs(now_ms // 1000 - int(second)) > TOLERANCE_S:
        raise _refused(f"it was sent more than {TOLERANCE_S} s from now")
    for key in keys:
        expected = _signature(key, message_id, second, body).encode()
        for signature in given:
            # Text that is not ASCII would make compare_digest raise.
            if hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
                return message_id
    raise _refused("no signature fits")


def _signature(key: bytes, message_id: str, second: str, body: bytes) -> str:
    content = b"%b.%b.%b" % (message_id.encode(), second.encode(), body)
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _refused(why: str) -> Forbidden:
    return Forbidden(f"the webhook cannot be believed: {why}", code="webhook_signature")
