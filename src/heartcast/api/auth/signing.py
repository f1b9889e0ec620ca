"""Signing what we hand out and want back unchanged: places in a list, names of visitors.

A signature is a keyed hash with a purpose, so that one made for a list is no good for a
visitor. The first key signs and every key verifies: put a new key in front, wait until
what the old one signed has been used up, and take the old one away.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest

from heartcast.api.auth.options import AuthOptions

_DIGEST_BYTES = 15
"""120 bits: nobody guesses them, and base 64 needs no padding."""


class Signer:
    """Signs and verifies texts for one purpose.

    Args:
        keys: Secrets, the newest first; at least one.
        purpose: What the texts are for, 1 to 16 bytes.
    """

    def __init__(self, keys: Sequence[bytes], purpose: str) -> None:
        self._keys = [blake2b(key, digest_size=32).digest() for key in keys]
        self._person = purpose.encode()

    def sign(self, text: str) -> str:
        """The signature of a text: 20 characters that may stand in a URL or a cookie."""
        return self._signature(self._keys[0], text)

    def verify(self, text: str, signature: str) -> bool:
        """Whether one of the keys signed exactly this text. Takes as long for a wrong signature
        as for a right one."""
        shown = signature.encode("utf-8", "replace")
        # Every key is asked: stopping at the first would tell which one it was.
        return sum(compare_digest(self._signature(key, text).encode(), shown) for key in self._keys) > 0

    def _signature(self, key: bytes, text: str) -> str:
        signed = blake2b(
            text.encode("utf-8", "replace"), key=key, person=self._person, digest_size=_DIGEST_BYTES
        )
        return urlsafe_b64encode(signed.digest()).decode()


def signing_keys(options: AuthOptions) -> list[bytes]:
    """The secrets to sign with: the configured ones, else the secret of tokens, else one that
    lives as long as this process."""
    if options.signing_keys:
        return [key.encode() for key in options.signing_keys]
    if options.jwt_secret:
        return [options.jwt_secret.encode()]
    return [secrets.token_bytes(32)]
