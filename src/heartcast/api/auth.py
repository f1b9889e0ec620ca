"""Who is calling: users by JWT, the operator's servers by API key.

In the *open* mode (``--mode dev`` on a loopback address) a caller without credentials
is trusted like a server, so that a newcomer needs no token; credentials that are
shown are checked all the same. Everywhere else nobody is trusted unasked.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import jwt
import msgspec

from heartcast.api.route import ANONYMOUS, Identity
from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, Unauthenticated
from heartcast.core.names import user_text

ALGORITHM = "HS256"
MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: an HS256 key must be at least as long as its hash."""

_SERVER = Identity(is_server=True)
_CACHE_SIZE = 16_384


class AuthOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How callers prove who they are."""

    jwt_secret: str = ""
    """Key of HS256 tokens, at least 32 bytes. "": in dev mode one is made and kept in
    the data folder; in prod mode users cannot log in."""

    api_keys: list[str] = []
    """Keys of your own servers, at least 16 characters each. A server may do everything."""

    def __post_init__(self) -> None:
        if self.jwt_secret and len(self.jwt_secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"jwt_secret: must be at least {MIN_SECRET_BYTES} bytes")
        if any(len(key) < 16 for key in self.api_keys):
            raise ValueError("api_keys: each must be at least 16 characters")

    @property
    def has_keys(self) -> bool:
        return bool(self.jwt_secret or self.api_keys)


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says."""

    user: str | None
    """Canonical text of the user; None for an anonymous visitor."""
    expires_ms: int | None
    """Wall time at which the token stops to count; None: never."""
    channel: str | None = None
    """The only channel that a subscription token is good for; None for a connection token."""
    is_server: bool = False


class Authenticator:
    """Turns credentials into identities.

    Args:
        options: Keys.
        clock: Decides whether a token has expired.
        is_open: Whether callers without credentials are trusted (dev mode on loopback).
    """

    def __init__(self, options: AuthOptions, clock: Clock, *, is_open: bool) -> None:
        self._secret = options.jwt_secret
        self._api_keys: Sequence[bytes] = [key.encode() for key in options.api_keys]
        self._clock = clock
        self._unasked = _SERVER if is_open else ANONYMOUS
        # A verified token is remembered, since checking a signature costs more than
        # answering. Two generations: the older is dropped whole when the younger is
        # full, so that memory is bounded and no sweep is needed.
        self._young: dict[bytes, tuple[Identity, int | None]] = {}
        self._old: dict[bytes, tuple[Identity, int | None]] = {}

    def identify(self, headers: list[tuple[bytes, bytes]], peer: str) -> Identity:
        """Who sent this request.

        Args:
            headers: Names in lower case.
            peer: Address of the client; "" when there is none.

        Returns:
            The identity; ``ANONYMOUS`` when no credentials were shown and none are needed to ask.

        Raises:
            Unauthenticated: credentials were shown and are not good.
        """
        for name, value in headers:
            if name == b"authorization":
                return self._by_authorization(value)
            if name == b"x-api-key":
                return self._by_api_key(value)
        return self._unasked

    def _by_authorization(self, value: bytes) -> Identity:
        scheme, _, credentials = value.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"apikey":
            return self._by_api_key(credentials.strip())
        if scheme != b"bearer":
            raise Unauthenticated("the Authorization header must be 'Bearer <token>' or 'apikey <key>'")
        token = credentials.strip()
        known = self._young.get(token) or self._old.get(token)
        if known is None:
            known = self._verify_and_remember(token)
        identity, expires_ms = known
        if expires_ms is not None and expires_ms <= self._clock.wall_ms():
            raise Unauthenticated("the token has expired", code="token_expired")
        return identity

    def _by_api_key(self, key: bytes) -> Identity:
        # Every key is compared, in constant time each: the answer's delay must not
        # tell which key came close.
        matches = [hmac.compare_digest(key, known) for known in self._api_keys]
        if not any(matches):
            raise Unauthenticated("the API key is not known", code="api_key_unknown")
        return _SERVER

    def _verify_and_remember(self, token: bytes) -> tuple[Identity, int | None]:
        claims = self.verify(token.decode("latin-1"))
        if claims.channel is not None:
            raise Unauthenticated("a subscription token is good for its channel only", code="token_invalid")
        known = (Identity(user=claims.user, is_server=claims.is_server), claims.expires_ms)
        if len(self._young) >= _CACHE_SIZE:
            self._old, self._young = self._young, {}
        self._young[token] = known
        return known

    def verify(self, token: str) -> Claims:
        """What a token says, if it is good now.

        Raises:
            Unauthenticated: code ``token_invalid`` when it is forged, malformed or not
                valid yet, ``token_expired`` when its time is over.
        """
        if not self._secret:
            raise Unauthenticated("no JWT key is configured (auth.jwt_secret)", code="token_invalid")
        try:
            # Times are checked below, with our own clock.
            said = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False},
            )
        except jwt.InvalidTokenError:
            # The library's words may quote the token; ours must not.
            raise Unauthenticated("the token is not valid", code="token_invalid") from None
        return self._claims(said)

    def _claims(self, said: dict[str, object]) -> Claims:
        now_ms = self._clock.wall_ms()
        expires_ms = _numeric_date_ms(said, "exp")
        not_before_ms = _numeric_date_ms(said, "nbf")
        if not_before_ms is not None and not_before_ms > now_ms:
            raise Unauthenticated("the token is not valid yet", code="token_invalid")
        if expires_ms is not None and expires_ms <= now_ms:
            raise Unauthenticated("the token has expired", code="token_expired")
        subject, channel = said.get("sub"), said.get("channel")
        if not isinstance(subject, str | int | None) or not isinstance(channel, str | None):
            raise Unauthenticated("the token's sub or channel is not text", code="token_invalid")
        try:
            user = user_text(subject) if subject not in (None, "") else None
        except InvalidInput as error:
            raise Unauthenticated(f"the token's sub {error.detail}", code="token_invalid") from None
        return Claims(user, expires_ms, channel, is_server=said.get("role") == "server")

    def issue(self, user: str, *, ttl_s: float, channel: str | None = None) -> str:
        """Make a token for a user, for ``heartcast token`` and the demo page.

        Args:
            user: Canonical text.
            ttl_s: Seconds until it expires, > 0.
            channel: Make a subscription token for this channel; None: a connection token.
        """
        expires_s = (self._clock.wall_ms() + round(ttl_s * 1000)) // 1000
        said: dict[str, object] = {"sub": user, "exp": expires_s}
        if channel is not None:
            said["channel"] = channel
        return jwt.encode(said, self._secret, algorithm=ALGORITHM)


def _numeric_date_ms(said: dict[str, object], name: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    # bool is an int to Python, and JSON allows 1e999 (inf): neither is a time.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise Unauthenticated(f"the token's {name} is not a number of seconds", code="token_invalid")
    return int(value * 1000)
