"""Two real nodes on one Valkey rank alike: each follows the hearts of both, and a new one catches up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from heartcast.testing import RunningServer, running
from heartcast.testing.redis_server import RedisServer

PATIENCE_S = 20.0

Node = Callable[[str], AbstractContextManager[RunningServer]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("nodes")
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}) as valkey:

        def start(name: str) -> AbstractContextManager[RunningServer]:
            config = folder / f"{name}.toml"
            config.write_text(
                f"""
                data_dir = "{folder / name}"
                [cluster]
                redis_url = "{valkey.url}"
                local = ["push", "ranking"]
                [hearts]
                store = "redis"
                redis_url = "{valkey.url}"
                [ranking]
                recommendations = "on"
                """
            )
            return running("--config", str(config))

        yield start


def _heart(server: RunningServer, target: str, *users: str) -> None:
    for user in users:
        answer = httpx2.post(
            f"{server.url}/api/v1/hearts", json={"target_id": target, "user_id": user}, timeout=PATIENCE_S
        )
        assert answer.status_code in (200, 201)


def _items(server: RunningServer, path: str) -> list[dict[str, Any]]:
    return httpx2.get(f"{server.url}/api/v1/{path}", timeout=PATIENCE_S).json()["items"]


def _until(is_so: Callable[[], bool]) -> float:
    """Seconds until it is so; those of a bounded wait."""
    begin_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin_s < PATIENCE_S
    return time.monotonic() - begin_s


def _ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["item_id"] for item in items]


def test_a_heart_made_at_one_node_changes_what_the_other_recommends(node: Node) -> None:
    with node("a") as ann, node("b") as bob:
        _heart(ann, "tea", "u1", "u2", "u3")
        _heart(bob, "cups", "u1", "u2", "u3")
        _heart(ann, "boats", "u4", "u5", "u6", "u7")
        _until(lambda: _ids(_items(bob, "recommend/ann"))[:1] == ["boats"])

        _heart(ann, "tea", "ann")
        took_s = _until(lambda: _ids(_items(bob, "recommend/ann?explain=1"))[:1] == ["cups"])
        assert took_s < 1
        assert _items(bob, "recommend/ann?explain=1")[0]["because"].startswith("you hearted tea")

        # Boards and models are views of the same hearts, so they agree without sharing anything.
        _until(lambda: _ids(_items(ann, "hot/week")) == _ids(_items(bob, "hot/week")))
        assert sorted(_ids(_items(bob, "hot/week"))) == ["boats", "cups", "tea"]
        scores = [
            {item["item_id"]: item["score"] for item in _items(server, "hot/week")} for server in (ann, bob)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=0.01)

    with node("b") as again:
        assert _ids(_items(again, "recommend/ann"))[:1] == ["cups"]
        assert sorted(_ids(_items(again, "hot/week"))) == ["boats", "cups", "tea"]
