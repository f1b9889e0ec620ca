"""The heart store dies under a running server, and comes back: nobody restarts anything."""

import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import running

HEARTS = "/api/v1/hearts"


@pytest.fixture
def store() -> Iterator[RedisServer]:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


def until(what: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.05)


def test_counts_go_on_as_stale_writes_are_refused_and_all_comes_back_by_itself(store: RedisServer) -> None:
    environ = {"HEARTCAST_HEARTS__STORE": "redis", "HEARTCAST_HEARTS__REDIS_URL": store.url}
    with running("--in-memory", environ=environ) as server, httpx2.Client(base_url=server.url) as client:

        def heart(user: str) -> httpx2.Response:
            return client.post(HEARTS, json={"target_id": "post", "user_id": user})

        def counts(**more: str) -> httpx2.Response:
            return client.get(f"{HEARTS}/counts", params={"target_id": ["post", "never seen"], **more})

        def health() -> tuple[int, str, list[str]]:
            answer = client.get("/healthz")
            return answer.status_code, answer.json()["status"], answer.json()["degraded"]

        assert [heart(f"u{n}").status_code for n in range(3)] == [201] * 3
        assert "stale" not in counts().json()
        assert health() == (200, "ok", [])

        store.kill()
        refused = [heart("u9") for _ in range(30)]
        assert {answer.status_code for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert "hearts_writes" in health()[2]
        assert health()[:2] == (200, "degraded")

        until(lambda: counts().json().get("stale") is True)
        for stale in (counts(), counts(user_id="u1")):
            assert stale.status_code == 200
            assert int(stale.headers["age"]) >= 0
            by_target = {count["target_id"]: count for count in stale.json()["counts"]}
            assert by_target["post"] == {"target_id": "post", "count": 3, "version": 3}
            assert "etag" not in stale.headers
        nobody = client.get(f"{HEARTS}/counts", params={"target_id": "asked by nobody before"})
        assert nobody.status_code == 503

        store.start()
        until(lambda: heart("u9").status_code in (200, 201))
        until(lambda: "stale" not in counts().json())
        until(lambda: (heart("u9"), health())[1] == (200, "ok", []))
        assert counts().json()["counts"][0]["count"] == 4
