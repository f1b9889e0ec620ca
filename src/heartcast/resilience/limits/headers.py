"""A decision as HTTP says it: ``RateLimit-Policy``, ``RateLimit`` and ``Retry-After``.

The first two follow the draft ietf-httpapi-ratelimit-headers; the third is RFC 9110. A
refusal for the caller's own budget is a 429; what we shed for our own sake is a 503.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from heartcast.resilience.errors import whole_seconds
from heartcast.resilience.limits.limit import Decision, Limit


def policy_header(name: str, limit: Limit) -> bytes:
    """The value of ``RateLimit-Policy``: make it once per limit, it never changes."""
    window_s = max(1, limit.period_ns // 1_000_000_000)
    return f'"{_quoted(name)}";q={limit.limit};w={window_s}'.encode()


def state_header(name: str, decision: Decision) -> bytes:
    """The value of ``RateLimit``: what is left, and the seconds until all of it is back."""
    reset_s = -int(-decision.reset_after_s // 1)
    return f'"{_quoted(name)}";r={decision.remaining};t={reset_s}'.encode()


def retry_after(wait_ns: int) -> bytes:
    """The value of ``Retry-After``: whole seconds, rounded up, at least 1."""
    return b"%d" % whole_seconds(wait_ns)


def _quoted(name: str) -> str:
    # A structured-field string is printable ASCII; anything else would break the header.
    return "".join(char if 32 <= ord(char) < 127 and char not in '"\\' else "_" for char in name)


def client_of(address: str) -> str:
    """The key of a client that is known by its address only.

    An IPv4 address stands for itself. An IPv6 client owns a /64 at least, and can use
    every address in it: the network is the client. Text that is no address is its own key.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
