"""Keys of an identity provider: fetched, kept, rotated.

One task looks at the provider's key set every ``jwks_refresh_s`` and, at most every
``jwks_cooldown_s``, when a token names a key that is not known: the provider may just
have begun to use a new one. Requests never wait for a look. A token whose key may
still turn up is answered 503 with Retry-After, and its client asks again.

A provider that is down, slow or talks nonsense changes nothing: the last good keys
stay, for up to ``jwks_max_stale_s``. Only a well-formed key set replaces them, and then
tokens of keys that are gone stop to count at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heartcast.api.auth import keys
from heartcast.api.auth.keys import Key
from heartcast.api.auth.options import AuthOptions
from heartcast.core.errors import Unauthenticated, Unavailable

_FIRST_RETRY_S = 1.0
_log = structlog.get_logger("heartcast")

Fetch = Callable[[], Awaitable[bytes]]


class Jwks:
    """The provider's keys as far as they are known.

    Args:
        fetch: Gets the document; raises ``Unavailable``.
        monotonic_s: What the time is.
        changed: Called when a key came or went: what was verified before may no longer count.
    """

    def __init__(
        self,
        options: AuthOptions,
        fetch: Fetch,
        *,
        monotonic_s: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._options = options
        self._fetch = fetch
        self._now_s = monotonic_s
        self._changed = changed
        self._wanted = asyncio.Event()
        self._looked_s: float | None = None
        self._good_s = 0.0
        self._failures = 0
        self._is_looking = False
        self.keys: list[Key] = []
        """The keys that count now."""
        self.looks = 0
        """Looks at the provider's key set."""
        self.failed_looks = 0
        """Looks that brought nothing usable."""

    def refusal_of_unknown(self) -> Unauthenticated | Unavailable:
        """What to say to a token of a key that is not known; asks for a look where one may help."""
        may_look = self._looked_s is None or self._now_s() - self._looked_s >= self._options.jwks_cooldown_s
        if may_look:
            self._wanted.set()
        may_turn_up = self._is_looking or self._wanted.is_set() or self._failures or not self.keys
        if may_turn_up:
            return Unavailable("the key of this token is being looked up; ask again", code="keys_unavailable")
        return Unauthenticated("the token is not valid", code="token_invalid")

    async def run(self) -> None:
        """Look and look again, until cancelled."""
        while True:
            await self._look()
            self._wanted.clear()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        self.looks += 1
        self._is_looking = True
        try:
            found = keys.of_jwks(await self._fetch())
        except (Unavailable, ValueError) as error:
            self._failed(error)
        else:
            self._found(found)
        self._is_looking = False
        self._looked_s = self._now_s()

    def _found(self, found: list[Key]) -> None:
        if self._failures:
            _log.info("keys of the identity provider are fresh again")
        self._failures = 0
        self._good_s = self._now_s()
        self._replace(found)

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            _log.error("keys of the identity provider cannot be had; the known ones stay", reason=str(error))
        self._failures += 1
        self.failed_looks += 1
        if self.keys and self._now_s() - self._good_s >= self._options.jwks_max_stale_s:
            _log.error("keys of the identity provider are too old and count no more")
            self._replace([])

    def _replace(self, found: list[Key]) -> None:
        if _names(found) != _names(self.keys):
            self.keys = found
            self._changed()

    def _pause_s(self) -> float:
        if not self._failures:
            return self._options.jwks_refresh_s
        doubled_s = _FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 16)
        return min(doubled_s, self._options.jwks_cooldown_s, self._options.jwks_refresh_s)


def _names(known: list[Key]) -> set[tuple[str, str | None, bytes]]:
    return {(key.algorithm, key.kid, _bytes_of(key)) for key in known}


def _bytes_of(key: Key) -> bytes:
    assert not isinstance(key.material, str)
    return key.material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
