"""Credentials in, identities out.

In the *open* mode (``--mode dev`` on a loopback address) a caller without credentials
is trusted like a server, so that a newcomer needs no token; credentials that are
shown are checked all the same. Everywhere else nobody is trusted unasked.
"""

from __future__ import annotations

import hashlib

import jwt

from heartcast.api.auth import keys
from heartcast.api.auth.claims import Claims, Reader
from heartcast.api.auth.devices import Devices
from heartcast.api.auth.jwks import Fetch, Jwks
from heartcast.api.auth.keys import Key
from heartcast.api.auth.options import ApiKey, AuthOptions
from heartcast.api.route import ADMIN, ANONYMOUS, Identity
from heartcast.backends import fetch as fetching
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError, Unauthenticated, Unavailable

_SERVER = Identity(is_server=True)
_Known = tuple[Identity, int]
"""Who showed a token, and the wall time in ms at which it stops to count."""
_NEVER_MS = 1 << 62
_CACHE_SIZE = 16_384
_MAX_TOKEN_BYTES = 8192
_MAX_JWKS_BYTES = 262_144
# Times, issuer and audience are checked by claims.Reader, with our own clock.
_UNCHECKED = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "aud", "iss", "jti")}


class Authenticator:
    """Turns credentials into identities.

    Args:
        options: Keys.
        clock: Decides whether a token has expired.
        is_open: Whether callers without credentials are trusted (dev mode on loopback).
        fetch: Gets the provider's key set; None: from ``options.jwks_url``.
        devices: Knows visitors by the signed names of their devices; None: there are no visitors.

    Raises:
        SettingsError: a public key cannot be read.
    """

    def __init__(
        self,
        options: AuthOptions,
        clock: Clock,
        *,
        is_open: bool,
        fetch: Fetch | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._secret = options.jwt_secret
        self._keys = _own_keys(options)
        self._api_keys = dict(_hashed(key) for key in options.api_keys)
        self._wall_ms = clock.wall_ms
        self._unasked = _SERVER if is_open else ANONYMOUS
        self._devices = devices
        self._read = Reader(options).read
        self.jwks: Jwks | None = None
        """The identity provider's keys; None: there is no provider."""
        if options.jwks_url:
            fetch = fetch or (lambda: fetching.get(options.jwks_url, _bounds(options)))
            self.jwks = Jwks(options, fetch, monotonic_s=clock.monotonic_s, changed=self._forget)
        # A verified token is remembered by its whole header, since checking a signature
        # costs more than answering. Two generations: the older is dropped whole when the younger is
        # full, so that memory is bounded and no sweep is needed.
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}

    async def run(self) -> None:
        """Keep the provider's keys fresh, until cancelled; without a provider there is nothing to do."""
        if self.jwks is not None:
            await self.jwks.run()

    def identify(self, headers: list[tuple[bytes, bytes]], peer: str) -> Identity:
        """Who sent this request.

        Args:
            headers: Names in lower case.
            peer: Address of the client; "" when there is none.

        Returns:
            The identity; ``ANONYMOUS`` when no credentials were shown and none are needed to ask.

        Raises:
            Unauthenticated: credentials were shown and are not good.
            Unavailable: code ``keys_unavailable``; whether they are good will be known soon.
        """
        for name, value in headers:
            if name == b"authorization":
                known = self._young.get(value) or self._old.get(value) or self._verify_and_remember(value)
                identity, expires_ms = known
                if expires_ms <= self._wall_ms():
                    raise Unauthenticated("the token has expired", code="token_expired")
                return identity
            if name == b"x-api-key":
                return self._by_api_key(value)
        if self._devices is not None and (visitor := self._devices.of(headers)) is not None:
            return _visitor(visitor.user)
        return self._unasked

    def _by_api_key(self, key: bytes) -> Identity:
        # Looked up by its hash: how long that takes tells nothing about the keys.
        identity = self._api_keys.get(hashlib.sha256(key).digest())
        if identity is None:
            raise Unauthenticated("the API key is not known", code="api_key_unknown")
        return identity

    def _verify_and_remember(self, value: bytes) -> _Known:
        scheme, _, credentials = value.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"apikey":
            return self._by_api_key(credentials.strip()), _NEVER_MS
        if scheme == b"visitor" and self._devices is not None:
            visitor = self._devices.read(credentials.strip().decode("latin-1"))
            if visitor is None:
                raise Unauthenticated(
                    "this visitor is not known any more; POST /api/v1/visitors gives a new name",
                    code="visitor_unknown",
                )
            return _visitor(visitor.user), _NEVER_MS
        if scheme != b"bearer":
            raise Unauthenticated("the Authorization header must be 'Bearer <token>' or 'apikey <key>'")
        claims = self.verify(credentials.strip().decode("latin-1"))
        if claims.channel is not None:
            raise Unauthenticated("a subscription token is good for its channel only", code="token_invalid")
        expires_ms = _NEVER_MS if claims.expires_ms is None else claims.expires_ms
        known = (Identity(claims.user, claims.is_server, claims.scopes, claims.owns), expires_ms)
        if len(self._young) >= _CACHE_SIZE:
            self._old, self._young = self._young, {}
        self._young[value] = known
        return known

    def _forget(self) -> None:
        self._young, self._old = {}, {}

    def verify(self, token: str) -> Claims:
        """What a token says, if it is good now.

        Raises:
            Unauthenticated: code ``token_invalid`` when it is forged, malformed or not
                valid yet, ``token_expired`` when its time is over.
            Unavailable: code ``keys_unavailable``; its key may be known soon.
        """
        if not self._keys and self.jwks is None:
            raise Unauthenticated("no key for tokens is configured (auth.jwt_secret)", code="token_invalid")
        algorithm, kid = _named_key(token)
        for key in self._candidates(algorithm, kid):
            said = _verified(token, key)
            if said is not None:
                return self._read(said, self._wall_ms())
        raise self._refusal(algorithm, kid)

    def _candidates(self, algorithm: str, kid: str | None) -> list[Key]:
        known = self._keys if self.jwks is None else [*self._keys, *self.jwks.keys]
        return [
            key
            for key in known
            if key.algorithm == algorithm and (kid is None or key.kid is None or key.kid == kid)
        ]

    def _refusal(self, algorithm: str, kid: str | None) -> Unauthenticated | Unavailable:
        jwks = self.jwks
        if jwks is not None and algorithm in ("RS256", "ES256", "EdDSA"):
            is_known = any(kid in (None, key.kid) and key.algorithm == algorithm for key in jwks.keys)
            if not is_known:
                return jwks.refusal_of_unknown()
        return _invalid()

    def issue(self, user: str, *, ttl_s: float, channel: str | None = None) -> str:
        """Make an HS256 token for a user, for ``heartcast token`` and the demo page.

        Args:
            user: Canonical text.
            ttl_s: Seconds until it expires, > 0.
            channel: Make a subscription token for this channel; None: a connection token.
        """
        expires_s = (self._wall_ms() + round(ttl_s * 1000)) // 1000
        said: dict[str, object] = {"sub": user, "exp": expires_s}
        if channel is not None:
            said["channel"] = channel
        return jwt.encode(said, self._secret, algorithm="HS256")


def _own_keys(options: AuthOptions) -> list[Key]:
    own = [keys.of_secret(options.jwt_secret)] if options.jwt_secret else []
    try:
        return own + [keys.of_pem(pem) for pem in options.jwt_public_keys]
    except ValueError as error:
        raise SettingsError(str(error), path="auth.jwt_public_keys") from None


def _hashed(key: str | ApiKey) -> tuple[bytes, Identity]:
    if isinstance(key, str):
        return hashlib.sha256(key.encode()).digest(), _SERVER
    scopes = frozenset[str](key.scopes)
    return hashlib.sha256(key.key.encode()).digest(), Identity(None, ADMIN in scopes, scopes)


def _visitor(user: str) -> Identity:
    return Identity(user, is_visitor=True)


def _bounds(options: AuthOptions) -> fetching.Bounds:
    return fetching.Bounds(options.jwks_timeout_s, _MAX_JWKS_BYTES, options.jwks_allow_private)


def _named_key(token: str) -> tuple[str, str | None]:
    """Algorithm and key id that a token claims; nothing of it is believed yet."""
    if len(token) > _MAX_TOKEN_BYTES:
        raise _invalid()
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _invalid() from None
    algorithm, kid = header.get("alg"), header.get("kid")
    # "crit" demands extensions, and there are none that we know.
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or "crit" in header:
        raise _invalid()
    return algorithm, kid


def _verified(token: str, key: Key) -> dict[str, object] | None:
    try:
        return jwt.decode(token, key.material, algorithms=[key.algorithm], options=_UNCHECKED)  # type: ignore[arg-type]
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        # The library's words may quote the token; ours must not.
        return None


def _invalid() -> Unauthenticated:
    return Unauthenticated("the token is not valid", code="token_invalid")
