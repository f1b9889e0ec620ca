"""For those who run it: metrics, the live panel's figures, and whether to send traffic here.

``/livez`` says that the process answers; restart it when it does not. ``/readyz`` says
whether it wants traffic: not while it starts, not while it drains. ``/healthz``, which
judges the shards by their progress, belongs to pushes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from heartcast.api.problems import status_problem
from heartcast.api.route import Answer, Call, Headers, Route
from heartcast.observability.metrics import Metrics
from heartcast.observability.panel import Figures, Panel
from heartcast.resilience.shedding import Priority

_NO_STORE: Headers = ((b"cache-control", b"no-store"),)


class State(msgspec.Struct, frozen=True):
    """The answer of a probe."""

    status: str


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of ``/readyz``."""

    status: str
    degraded: list[str] = []
    """What is being done without at the moment: traffic is wanted all the same."""


_LIVE = Answer(200, b'{"status":"live"}', _NO_STORE)
_RETRY: Headers = (*_NO_STORE, (b"retry-after", b"1"))
_encode = msgspec.json.Encoder().encode


def routes(
    metrics: Metrics,
    panel: Panel,
    why_not_ready: Callable[[], str | None],
    degraded: Callable[[], list[str]] = list,
) -> list[Route]:
    """The routes of operation.

    Args:
        why_not_ready: One sentence while traffic is not wanted, else None.
        degraded: A sentence for each thing that is being done without.
    """

    def scrape(call: Call) -> Answer:
        accept = call.header(b"accept") or b""
        body, content_type = metrics.render(accept.decode("latin-1"))
        return Answer(200, body, _NO_STORE, content_type.encode())

    def show_panel(call: Call) -> Answer:
        return Answer(200, _encode(panel.figures()), _NO_STORE)

    def ready(call: Call) -> Answer:
        reason = why_not_ready()
        if reason is not None:
            return status_problem(503, reason, "not_ready", headers=_RETRY)
        return Answer(200, _encode(Ready("ready", degraded())), _NO_STORE)

    return [
        _route("/metrics", scrape, "Everything counted, for Prometheus.", None),
        _route(
            "/actuator/prometheus", scrape, "The same under the name that Spring's scrapers expect.", None
        ),
        _route(
            "/api/v1/panel",
            show_panel,
            "Rates of the last seconds and the minute before.",
            Figures,
            priority=Priority.BEST_EFFORT,
        ),
        # Probes are answered on the spot: however long the turn of the loop, they are in it.
        _route("/livez", lambda call: _LIVE, "Whether the process answers.", State, hot=True),
        _route(
            "/readyz", ready, "Whether traffic is wanted: 503 while starting and draining.", Ready, hot=True
        ),
    ]


def _route(
    path: str,
    handler: Callable[[Call], Answer],
    summary: str,
    body: type | None,
    *,
    hot: bool = False,
    priority: Priority = Priority.CRITICAL,
) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        tag="operation",
        answers={200: body},
        is_public=True,
        hot=hot,
        priority=priority,
    )
