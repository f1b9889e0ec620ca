"""What the shared port answers for more than this process: ``/metrics`` and ``/healthz``.

``/metrics`` speaks for the processes that share the port (``--workers``): a scrape reaches one
of them, and nobody knows which. ``/healthz`` speaks for the whole cluster: each shard is judged
where it is worked, and one that nobody works is not healthy either.

Each process also answers for itself alone, at its admin port. Where another process does not
answer in time, ``/metrics`` has the last it said, and ``/healthz`` says who was silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from heartcast.api.route import Answer, Call, Headers, Route
from heartcast.app.cluster import Cluster
from heartcast.observability.merging import merged, snapshot
from heartcast.observability.metrics import Metrics

ADMIN_PATHS = ("/metrics", "/actuator/prometheus", "/livez", "/readyz", "/healthz")
"""What the admin port answers."""

_METRICS, _HEALTH = "operation.metrics", "operation.health"
_PATIENCE_S = 1.0
_NO_STORE: Headers = ((b"cache-control", b"no-store"),)


class Health(msgspec.Struct):
    """``/healthz`` of a cluster."""

    status: str
    """``ok``; ``stalled`` when a shard holds something and nothing moves, ``unowned`` when nobody
    works a shard for longer than it takes to replace a dead node."""
    shards: list[dict[str, Any]] = []
    """Each shard where it is worked, with the name of the ``node``."""
    silent: list[str] = []
    """Names of nodes that did not answer."""
    unowned: list[int] = []
    """Shards that nobody works."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Health).decode


def admin_routes(routes: list[Route]) -> list[Route]:
    """The routes that answer for this process alone."""
    return [route for route in routes if route.path in ADMIN_PATHS]


def together(routes: list[Route], cluster: Cluster, metrics: Metrics) -> list[Route]:
    """The routes of the shared port: those that speak for more than this process are replaced."""
    if cluster.is_alone:
        return routes
    scrape = _Scrape(cluster, metrics).answer
    health = _ClusterHealth(cluster, next(route for route in routes if route.path == "/healthz"))
    replaced = {"/metrics": scrape, "/actuator/prometheus": scrape, "/healthz": health.answer}
    return [
        replace(route, handler=replaced[route.path]) if route.path in replaced else route for route in routes
    ]


class _Scrape:
    """Counts of the processes that share the port."""

    def __init__(self, cluster: Cluster, metrics: Metrics) -> None:
        self._membership = cluster.membership
        self._post = cluster.post
        self._metrics = metrics
        self._last: dict[str, bytes] = {}
        self._post.on(_METRICS, lambda sender, body, answer: answer(snapshot(metrics)))

    def answer(self, call: Call) -> None:
        me = self._membership.me
        others = [
            node.id
            for node in self._membership.nodes()
            if me.group and node.group == me.group and node.id != me.id
        ]

        def answered(snapshots: dict[str, bytes]) -> None:
            # Counts that vanish for one scrape would look like a reset of all counters.
            known = {**self._last, **snapshots}
            self._last = {node: known[node] for node in others if node in known}
            accept = (call.header(b"accept") or b"").decode("latin-1")
            body, content_type = merged([snapshot(self._metrics), *self._last.values()], accept)
            call.respond(Answer(200, body, _NO_STORE, content_type.encode()))

        self._post.call_each(others, _METRICS, b"", answered, _PATIENCE_S)


class _ClusterHealth:
    """Every shard, judged where it is worked."""

    def __init__(self, cluster: Cluster, own: Route) -> None:
        self._membership = cluster.membership
        self._post = cluster.post
        self._own = own
        self._post.on(_HEALTH, lambda sender, body, answer: self._ask_own(answer))

    def _ask_own(self, answer: Callable[[bytes], None]) -> None:
        def judged(given: Answer) -> None:
            own = _decode(given.body)
            held = set(self._membership.held())
            # Only who holds a shard can judge it; where pushes are each node's own, all hold it.
            own.shards = [shard for shard in own.shards if shard["id"] in held]
            answer(_encode(own))

        if isinstance(given := self._own.handler(Call(respond=judged)), Answer):
            judged(given)

    def answer(self, call: Call) -> None:
        # This process is asked like all others: so it also shows that the post works.
        asked = {node.id: node.name for node in self._membership.nodes()}
        self._post.call_each(
            asked, _HEALTH, b"", lambda answers: call.respond(self._merged(asked, answers)), _PATIENCE_S
        )

    def _merged(self, asked: dict[str, str], answers: dict[str, bytes]) -> Answer:
        whole = Health("ok")
        for node, body in answers.items():
            own = _decode(body)
            whole.shards += [{**shard, "node": asked[node]} for shard in own.shards]
            if own.status != "ok":
                whole.status = own.status
        whole.shards.sort(key=lambda shard: int(shard["id"]))
        # A node that stays silent loses its shards within seconds; until then it is only named.
        whole.silent = sorted(name for node, name in asked.items() if node not in answers)
        whole.unowned = self._membership.long_unowned()
        if whole.unowned and whole.status == "ok":
            whole.status = "unowned"
        return Answer(200 if whole.status == "ok" else 503, _encode(whole), _NO_STORE)
