"""What can be chosen about identity."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: an HS256 key must be at least as long as its hash."""
MIN_API_KEY = 16

Scope = Literal["hearts:write", "hearts:write:any", "push:write", "console", "admin"]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of a server that may do some things only."""

    key: str
    """At least 16 characters."""

    scopes: list[Literal["hearts:write:any", "push:write", "console", "admin"]]
    """What it may do. ``hearts:write`` is not among them: it means one's own hearts, and a
    server is nobody's user."""

    def __post_init__(self) -> None:
        if len(self.key) < MIN_API_KEY:
            raise ValueError(f"api_keys: each must be at least {MIN_API_KEY} characters")


class AuthOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How callers prove who they are."""

    jwt_secret: str = ""
    """Key of HS256 tokens, at least 32 bytes. "": in dev mode one is made and kept in
    the data folder; in prod mode nobody can log in with an HS256 token."""

    jwt_public_keys: list[str] = []
    """PEM public keys, as text or as paths of files: RSA (RS256), P-256 (ES256) or
    Ed25519 (EdDSA). A key's type decides its algorithm; a token cannot choose another."""

    jwks_url: str = ""
    """Where an identity provider publishes its public keys; https. "": nowhere."""

    jwks_refresh_s: float = 600.0
    """Seconds between two looks at ``jwks_url``, 10 to 86400. A key that was withdrawn stops
    to count within this time."""

    jwks_cooldown_s: float = 30.0
    """Least seconds between two looks that unknown key ids ask for, 1 to 3600, so that forged
    tokens cannot make us flood the provider."""

    jwks_timeout_s: float = 5.0
    """Seconds for one whole look, 0.1 to 60."""

    jwks_max_stale_s: float = 86_400.0
    """Seconds that known keys stay good while ``jwks_url`` fails, 60 to 2592000. A provider
    that is down for an hour should not log everybody out."""

    jwks_allow_private: bool = False
    """Whether ``jwks_url`` may lead to a loopback or private address, and then by plain http."""

    jwt_issuer: str = ""
    """What ``iss`` must be. "": it is not looked at."""

    jwt_audience: str = ""
    """What ``aud`` must be or contain. "": it is not looked at."""

    jwt_leeway_s: float = 5.0
    """Seconds by which ``nbf`` and ``iat`` may lie in the future, 0 to 300: other machines'
    clocks run ahead. ``exp`` gets none."""

    user_scopes: list[Scope] = msgspec.field(default_factory=lambda: ["hearts:write"])
    """What every user may do. A token's ``scope`` adds to it; [] makes tokens name all."""

    signing_keys: list[str] = []
    """Secrets of at least 32 bytes that sign cursors and the names of visitors. The first signs,
    all verify, so a new one goes in front of the old one. []: ``jwt_secret`` is used, or without
    it a key that no other node and no later process knows."""

    api_keys: list[str | ApiKey] = []
    """Keys of your own servers. A key that is plain text may do everything; a table with
    ``key`` and ``scopes`` only what it says."""

    def __post_init__(self) -> None:
        if self.jwt_secret and len(self.jwt_secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"jwt_secret: must be at least {MIN_SECRET_BYTES} bytes")
        if any(len(key) < MIN_API_KEY for key in self.api_keys if isinstance(key, str)):
            raise ValueError(f"api_keys: each must be at least {MIN_API_KEY} characters")
        if any(len(key.encode()) < MIN_SECRET_BYTES for key in self.signing_keys):
            raise ValueError(f"signing_keys: each must be at least {MIN_SECRET_BYTES} bytes")
        self._check_bounds()
        if self.jwks_url:
            self._check_jwks()

    def _check_bounds(self) -> None:
        bounds = {
            "jwks_refresh_s": (10, 86_400),
            "jwks_cooldown_s": (1, 3600),
            "jwks_timeout_s": (0.1, 60),
            "jwks_max_stale_s": (60, 2_592_000),
            "jwt_leeway_s": (0, 300),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")

    def _check_jwks(self) -> None:
        scheme = urlsplit(self.jwks_url).scheme
        if scheme != "https" and not (scheme == "http" and self.jwks_allow_private):
            raise ValueError("jwks_url: must begin with https:// (http:// needs jwks_allow_private)")
        # A provider signs tokens for all of its applications; without these two a token
        # made for another one would be good here.
        if not (self.jwt_issuer or self.jwt_audience):
            raise ValueError("jwks_url: needs jwt_issuer, jwt_audience or both")

    @property
    def has_keys(self) -> bool:
        """Whether anybody at all can prove who they are."""
        return bool(self.jwt_secret or self.jwt_public_keys or self.jwks_url or self.api_keys)
