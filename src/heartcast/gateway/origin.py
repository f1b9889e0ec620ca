"""Who may call from a browser: the guard against DNS rebinding and foreign pages.

A page of ``evil.example`` can point its own name at 127.0.0.1 and then talk to a server on
loopback as *same origin*. The Host header gives it away: it still carries the page's name.
Where ``allowed_hosts`` is set, every other Host is refused, and so is a request whose Origin
is neither ours nor allowed. WebSockets know no CORS, so there the Origin counts always.

Programs that are not browsers send no Origin and are not held up by it.
"""

from __future__ import annotations

from collections.abc import Iterable

from heartcast.api.cors import Origins


class OriginGuard:
    """The rules of one port.

    Args:
        origins: Origins that are welcome besides our own.
        hosts: Names that a Host header may have, without port; empty allows all.
    """

    __slots__ = ("_hosts", "origins")

    def __init__(self, origins: Origins, hosts: Iterable[str] = ()) -> None:
        self.origins = origins
        self._hosts = frozenset(host.strip("[]").lower().encode() for host in hosts)

    def refuses(self, host: bytes, origin: bytes | None) -> str | None:
        """Why a plain request is refused; None when it is not.

        Without ``hosts`` nothing is: who may *read* an answer is then CORS's business alone.
        """
        if not self._hosts:
            return None
        if host_name(host) not in self._hosts:
            return f"the host {host.decode('latin-1')!r} is not one of this server's names"
        if origin is None or self._is_ours(host, origin) or self.origins.allows(origin):
            return None
        return f"pages of {origin.decode('latin-1')!r} may not call this server"

    def refuses_socket(self, host: bytes, origin: bytes | None) -> str | None:
        """Why a WebSocket handshake or an event stream is refused; None when it is not."""
        if origin is None or self._is_ours(host, origin) or self.origins.allows(origin):
            return self.refuses(host, origin)
        return f"pages of {origin.decode('latin-1')!r} may not connect to this server"

    def _is_ours(self, host: bytes, origin: bytes) -> bool:
        scheme, _, authority = origin.partition(b"://")
        # The scheme is not compared: behind a proxy that ends TLS we see http and the page https.
        return scheme in (b"http", b"https") and authority.lower() == host.lower()


def host_name(host: bytes) -> bytes:
    """The name in a Host header: lower case, without port and brackets."""
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0].lower()
    return host.partition(b":")[0].lower().rstrip(b".")
