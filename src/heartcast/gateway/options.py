"""How the port listens and what it puts up with."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from heartcast.api.cors import Origins


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[http]`` section."""

    host: str = "127.0.0.1"
    """Name or address to listen on. Loopback, because dev mode asks nobody for a token."""

    port: int = 8080
    """TCP port, 0 to 65535; 0 takes a free one and says which."""

    tls_cert: str | None = None
    """Path of the certificate chain in PEM. None serves without TLS."""

    tls_key: str | None = None
    """Path of the certificate's key in PEM; None when it stands in the same file."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed. Empty, because anybody can send it."""

    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call us: ``https://example.org``, ``http://localhost:*``, ``*``. Empty
    lets in pages that we serve ourselves, which is all the demo needs."""

    allowed_hosts: tuple[str, ...] = ()
    """Names that a Host header may have, without port; empty allows all. Set in dev mode, where a page
    that re-binds its own name to 127.0.0.1 would otherwise be a caller like any other."""

    max_body_bytes: int = 1024 * 1024
    """Longest body of a request, 1 to 2**30: room for a batch of 500 pushes of 2 KB."""

    max_header_bytes: int = 32 * 1024
    """Longest request line with headers, 1024 to 2**20: four times what browsers' cookies grow to."""

    header_timeout_s: float = 10.0
    """Time to send a request's headers, > 0: a phone on a bad line needs 3."""

    body_timeout_s: float = 60.0
    """Time to send a request's headers and body, >= header_timeout_s: 1 MiB at 17 KB/s."""

    keep_alive_s: float = 75.0
    """How long an idle connection is kept, > 0. Longer than the 60 s for which load balancers
    keep theirs, or they would send into one that we have just closed."""

    max_pipelined: int = 64
    """Requests of one connection that may wait for their answers, >= 1; then it is not read."""

    max_connections: int = 100_000
    """HTTP connections open at once, >= 1; more are answered 503. Descriptors usually end earlier."""

    hot_path: bool = True
    """Answer hot routes inside the protocol. False sends all to the application: for comparing."""

    drain_s: float = 10.0
    """How long a stop waits for open answers, >= 0: Kubernetes allows 30 for everything."""

    backlog: int = 4096
    """Connections that the kernel queues, >= 1: a thousand clients reconnect at once after a restart."""

    def __post_init__(self) -> None:
        _check_range("port", self.port, 0, 65535)
        _check_range("max_body_bytes", self.max_body_bytes, 1, 2**30)
        _check_range("max_header_bytes", self.max_header_bytes, 1024, 2**20)
        for name in ("max_pipelined", "max_connections", "backlog"):
            _check_range(name, getattr(self, name), 1, 2**31)
        for name in ("header_timeout_s", "keep_alive_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be > 0")
        if self.body_timeout_s < self.header_timeout_s:
            raise ValueError("body_timeout_s: must be >= header_timeout_s")
        if self.drain_s < 0:
            raise ValueError("drain_s: must be >= 0")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key: must be given together with tls_cert")
        _check_origins(self.allowed_origins)
        _check_networks(self.trusted_proxies)


def _check_range(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: must be {lowest} to {highest}, got {value}")


def _check_origins(patterns: tuple[str, ...]) -> None:
    try:
        Origins(patterns)
    except ValueError as error:
        raise ValueError(f"allowed_origins: {error}") from None


def _check_networks(networks: tuple[str, ...]) -> None:
    for network in networks:
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f"trusted_proxies: must be addresses or networks: {error}") from None
