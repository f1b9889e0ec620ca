"""Which push routes many nodes have: a new one is offered on purpose, or its absence is written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from heartcast.api import push as push_routes
from heartcast.app.shard_routes import ShardRoutes
from heartcast.push.options import PushOptions
from heartcast.testing import ManualClock
from heartcast.testing.pushes import PushRig
from heartcast.testing.turns import ManualTurns

ABSENT: set[tuple[str, str]] = set()


def test_the_routes_that_many_nodes_do_not_have_are_these_and_no_others() -> None:
    service = PushRig().service
    clock = ManualClock()
    options = PushOptions()
    hosts = SimpleNamespace(
        membership=SimpleNamespace(on_change=[]),
        post=SimpleNamespace(on=lambda subject, handler: None),
        directory=None,
        commons=None,
        posts=None,
        parts=SimpleNamespace(options=options, clock=clock, loop=ManualTurns(clock)),
    )
    routes = ShardRoutes(cast("Any", hosts), service)
    offered = {(route.method, route.path) for route in routes.routes(list)}
    assert set(routes.absent) == ABSENT
    assert offered | ABSENT == {(route.method, route.path) for route in push_routes.routes(service)}
