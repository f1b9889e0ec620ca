"""How a node takes part in a cluster."""

from __future__ import annotations

import re

import msgspec

_NAME = re.compile(r"[A-Za-z0-9._:-]{0,100}").fullmatch
_LOCAL = ("hearts", "push", "realtime", "limits", "ranking", "audit", "webhooks")


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[cluster]`` section."""

    redis_url: str = ""
    """``redis://user:password@host:6379/0``, ``rediss://…`` with TLS, or ``unix:///path``: this node
    joins all others with the same one. Never logged. Empty: this node is alone."""

    prefix: str = "hc"
    """In front of every key and channel, inside the braces: letters and digits. Applications that
    share a server need one each, also in different databases: those share their channels."""

    node_name: str = ""
    """What this node is called, the same after a restart, so that the ring leads the same users to
    it again. Letters, digits and ``._:-``. Empty: the machine's name and the port."""

    advertise_url: str = ""
    """Where clients and load balancers reach this node, as in ``https://node-1.example.org``. Empty:
    where it listens, if that is not every address."""

    admin_port: int = 0
    """Port on 127.0.0.1 where each node of a cluster shows its own ``/metrics`` and health; the workers
    of ``--workers`` take it and those after it. 0: any free one, shown in ``/api/v1/nodes``."""

    lease_s: float = 4.0
    """How long a node that stopped saying that it is there keeps its shards, 1 to 60. A dead node's
    shards are elsewhere after this and a second or two."""

    renew_s: float = 1.0
    """Between two renewals, 0.1 to a third of ``lease_s``: two may be lost."""

    margin_s: float = 0.5
    """A lease counts as ended so much earlier here than in the registry, 0.1 to a third of
    ``lease_s``: for clocks that run differently and for a call on its way."""

    release_s: float = 10.0
    """Longest wait for a shard's work under way when it is handed over, 0 to 60."""

    allow_volatile: bool = False
    """Take a server that may forget what it accepted (no append-only file, or evicting), and warn."""

    local: tuple[str, ...] = ()
    """Domains that every node may keep for itself: ``hearts``, ``push``, ``realtime``, ``limits`` or
    ``ranking``; and what exactly one node may do for all: ``audit`` (of hearts) and ``webhooks`` (of
    hearts). A cluster refuses to start with what the nodes do not share, unless it is named here."""

    worker: int = 0
    """Which of the processes that share one port this is, from 1: set by ``serve --workers``. 0: it
    has its port alone."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]{1,40}", self.prefix):
            raise ValueError("prefix: must be 1 to 40 letters and digits")
        if not _NAME(self.node_name):
            raise ValueError("node_name: must be at most 100 letters, digits and ._:-")
        if not 0 <= self.admin_port <= 65_000:
            raise ValueError("admin_port: must be between 0 and 65000")
        if not 1 <= self.lease_s <= 60:
            raise ValueError("lease_s: must be between 1 and 60")
        for name in ("renew_s", "margin_s"):
            if not 0.1 <= getattr(self, name) <= self.lease_s / 3:
                raise ValueError(f"{name}: must be between 0.1 and a third of lease_s")
        if not 0 <= self.release_s <= 60:
            raise ValueError("release_s: must be between 0 and 60")
        if unknown := set(self.local) - set(_LOCAL):
            raise ValueError(f"local: {min(unknown)!r} is none of {', '.join(_LOCAL)}")
        if self.worker < 0 or (self.worker and not self.redis_url):
            raise ValueError("worker: is set by --workers, which needs cluster.redis_url")
        if self.advertise_url and not self.advertise_url.startswith(("http://", "https://")):
            raise ValueError("advertise_url: must begin with http:// or https://")
