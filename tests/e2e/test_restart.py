"""What was acknowledged is there after a restart, whether it stopped in order or was killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from heartcast.testing import RunningServer, running

NEWS = {"user_id": "u1", "template": "news_v2", "payload": {"title": "Hello"}}


def _heart(server: RunningServer, target: str, user: str) -> httpx2.Response:
    return httpx2.post(f"{server.url}/api/v1/hearts", json={"target_id": target, "user_id": user})


@pytest.mark.parametrize("end", [RunningServer.stop, RunningServer.kill], ids=["stopped", "killed"])
def test_hearts_counts_and_the_hot_list_survive(
    tmp_path: Path, end: Callable[[RunningServer], object]
) -> None:
    with running("--data-dir", str(tmp_path)) as server:
        first = _heart(server, "a", "u1")
        _heart(server, "a", "u2")
        _heart(server, "b", "u1")
        end(server)
    with running("--data-dir", str(tmp_path)) as server:
        again = _heart(server, "a", "u1")
        hot = httpx2.get(f"{server.url}/api/v1/hot/day").json()

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "count": 2}
    assert [item["item_id"] for item in hot["items"]] == ["a", "b"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_exits_0(serve: Callable[..., RunningServer], number: signal.Signals) -> None:
    server = serve("--in-memory")
    assert httpx2.post(f"{server.url}/push", json=NEWS).status_code == 202
    server.process.send_signal(number)

    assert server.process.wait(20) == 0
    assert '"stopped"' in server.log.read_text()


def test_a_second_server_on_the_same_folder_is_refused_in_one_sentence(
    tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    serve("--data-dir", str(tmp_path))

    with pytest.raises(RuntimeError) as caught:
        serve("--data-dir", str(tmp_path))
    assert "status 1" in str(caught.value)
    assert "Traceback" not in str(caught.value)
