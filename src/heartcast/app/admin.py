"""The admin port: where one process of several is asked how it is.

It listens on loopback only and answers the same probes as the shared port, for this process
alone. A node that is alone has no such port: its own is as good.
"""

from __future__ import annotations

from heartcast.api.app import Identifies, Raised, application
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.core.clock import Clock
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.gateway.server import Server


def admin_server(
    settings: Settings, clock: Clock, routes: list[Route], authenticator: Identifies, raised: Raised
) -> Server | None:
    """The server of the admin port; None for a node that is alone."""
    cluster = settings.cluster
    if not cluster.redis_url:
        return None
    number = cluster.admin_port + max(0, cluster.worker - 1) if cluster.admin_port else 0
    port = HttpPort(HttpOptions(port=number, drain_s=0), routes, clock=clock)
    return Server(
        port, application(routes, authenticator, raised), takes_signals=False, tunes_collector=False
    )
