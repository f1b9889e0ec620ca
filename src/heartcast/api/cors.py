"""Which pages of other origins may read our answers (the Fetch standard's CORS protocol).

One pure table of rules, asked by the hot path, by the cold application and by SSE alike.
Callers prove who they are with a token or a key in a header and never with a cookie, so
credentials are never allowed and ``*`` is a safe rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from heartcast.api.route import Answer, Headers

_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]+|:\*)?").fullmatch
_TOKENS = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,1024}").fullmatch

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
# Two hours is the most that Chromium keeps a preflight's answer.
_MAX_AGE_S = b"7200"
# Everything else that we send is readable without being named.
_EXPOSED = b"etag, retry-after, location, idempotent-replayed"


class Origins:
    """A set of allowed origins.

    Args:
        patterns: ``https://example.org``, ``http://localhost:*`` (any port), or ``*``.

    Raises:
        ValueError: a pattern has a path, no scheme, or upper-case letters.
    """

    __slots__ = ("_any_port", "_exact", "allows_all")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        exact, any_port, self.allows_all = set(), set(), False
        for pattern in patterns:
            if pattern == "*":
                self.allows_all = True
            elif _ORIGIN(pattern) is None:
                raise ValueError(f'must be like "https://example.org", got {pattern!r}')
            elif pattern.endswith(":*"):
                any_port.add(pattern[:-2].encode())
            else:
                exact.add(pattern.encode())
        self._exact = frozenset(exact)
        self._any_port = frozenset(any_port)

    def __bool__(self) -> bool:
        return self.allows_all or bool(self._exact or self._any_port)

    def allows(self, origin: bytes) -> bool:
        """Whether a page of this origin is welcome; ``null`` only where all are."""
        if self.allows_all or origin in self._exact:
            return True
        if not self._any_port:
            return False
        scheme, _, rest = origin.partition(b"://")
        host = rest if rest.endswith(b"]") else rest.rpartition(b":")[0] or rest
        return scheme + b"://" + host in self._any_port


def cors_headers(origins: Origins, origin: bytes | None) -> Headers:
    """What an answer must say so that the page of ``origin`` may read it.

    Args:
        origin: The request's Origin header; None when it has none.
    """
    if origins.allows_all:
        if origin is None:
            return ()
        return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED))
    if not origins:
        return ()
    if origin is None or not origins.allows(origin):
        # A shared cache must not give this answer to a page that would be welcome.
        return ((b"vary", b"origin"),)
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
    )


def preflight(origins: Origins, origin: bytes, wanted_headers: bytes | None) -> Answer:
    """The answer to an OPTIONS request that asks for permission.

    Args:
        wanted_headers: The request's Access-Control-Request-Headers; None when it has none.

    Returns:
        204. Without the CORS headers, which a browser takes for a no, when the origin is not
        allowed. ``cors_headers`` adds the origin itself, as on every other answer.
    """
    if not origins.allows(origin):
        return Answer(204, content_type=b"")
    allowed = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE_S)]
    if wanted_headers and _TOKENS(wanted_headers):
        # With no cookies in play every header may be sent; naming them back is what
        # browsers that do not know "*" understand.
        allowed.append((b"access-control-allow-headers", wanted_headers))
    return Answer(204, headers=tuple(allowed), content_type=b"")
