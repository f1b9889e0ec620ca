"""The client's address behind proxies that the operator trusts.

Each proxy appends the address it was called from to X-Forwarded-For. Read from the right,
trusted addresses are proxies of ours, and the first that is not trusted is the client; all
further left is what the client itself claimed.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network


class TrustedProxies:
    """The addresses whose X-Forwarded-For is believed.

    Args:
        networks: Addresses or networks, ``10.0.0.0/8``.

    Raises:
        ValueError: one of them is neither.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ip_network(network) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy; False when it is no address."""
        if not self._networks:
            return False
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        # A dual-stack socket shows IPv4 clients as ::ffff:10.0.0.1.
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)

    def client_of(self, peer: str, forwarded: Iterable[bytes]) -> str:
        """The client's address.

        Args:
            peer: Address at the other end of the connection; a trusted one.
            forwarded: Values of all X-Forwarded-For headers, in order.
        """
        client = peer
        for part in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            address = part.strip()
            if not _is_address(address):
                break
            client = address
            if not self.trusts(address):
                break
        return client


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
