"""What a token says, once its signature is known to be good."""

from __future__ import annotations

import msgspec

from heartcast.api.auth.options import AuthOptions
from heartcast.api.route import ADMIN
from heartcast.core.errors import InvalidInput, Unauthenticated
from heartcast.core.names import user_text


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says."""

    user: str | None
    """Canonical text of the user; None for an anonymous visitor."""
    expires_ms: int | None
    """Wall time at which the token stops to count; None: never."""
    channel: str | None = None
    """The only channel that a subscription token is good for; None for a connection token."""
    is_server: bool = False
    """Whether it may do everything: scope ``admin``, or the claim ``"role": "server"``."""
    scopes: frozenset[str] = frozenset()
    owns: frozenset[str] = frozenset()
    """Targets that are the user's own: the claim ``owns``."""


class Reader:
    """Checks claims against the settings and the time."""

    def __init__(self, options: AuthOptions) -> None:
        self._issuer = options.jwt_issuer
        self._audience = options.jwt_audience
        self._leeway_ms = round(options.jwt_leeway_s * 1000)
        self._user_scopes = frozenset(options.user_scopes)

    def read(self, said: dict[str, object], now_ms: int) -> Claims:
        """The claims, if they hold now.

        Raises:
            Unauthenticated: codes ``token_expired`` and ``token_invalid``.
        """
        expires_ms = self._check_times(said, now_ms)
        self._check_origin(said)
        subject, channel = said.get("sub"), said.get("channel")
        if not isinstance(subject, str | int | None) or not isinstance(channel, str | None):
            raise _invalid("the token's sub or channel is not text")
        try:
            user = user_text(subject) if subject not in (None, "") else None
        except InvalidInput as error:
            raise _invalid(f"the token's sub {error.detail}") from None
        scopes = self._user_scopes | _scopes(said)
        is_server = said.get("role") == "server" or ADMIN in scopes
        return Claims(user, expires_ms, channel, is_server, scopes, _owns(said))

    def _check_times(self, said: dict[str, object], now_ms: int) -> int | None:
        expires_ms = _numeric_date_ms(said, "exp")
        for name in ("nbf", "iat"):
            from_ms = _numeric_date_ms(said, name)
            if from_ms is not None and from_ms > now_ms + self._leeway_ms:
                raise _invalid(f"the token is not valid yet ({name})")
        if expires_ms is not None and expires_ms <= now_ms:
            raise Unauthenticated("the token has expired", code="token_expired")
        return expires_ms

    def _check_origin(self, said: dict[str, object]) -> None:
        if self._issuer and said.get("iss") != self._issuer:
            raise _invalid("the token is of another issuer")
        audience = said.get("aud")
        if self._audience and self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _invalid("the token is for another audience")


def _scopes(said: dict[str, object]) -> frozenset[str]:
    # RFC 8693 has one text with spaces; some providers send a list, or call it scp.
    value = said.get("scope", said.get("scp"))
    if value is None:
        return frozenset()
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("the token's scope is neither text nor a list of texts")
    return frozenset(names)


def _owns(said: dict[str, object]) -> frozenset[str]:
    targets = said.get("owns", [])
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise _invalid("the token's owns is not a list of texts")
    return frozenset(targets)


def _numeric_date_ms(said: dict[str, object], name: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    # bool is an int to Python, and JSON allows 1e999 (inf): neither is a time.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise _invalid(f"the token's {name} is not a number of seconds")
    return int(value * 1000)


def _invalid(detail: str) -> Unauthenticated:
    return Unauthenticated(detail, code="token_invalid")
