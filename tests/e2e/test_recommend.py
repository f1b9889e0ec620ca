"""Recommendations of a running server: they follow a heart at once, say why, and can be left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heartcast.testing import RunningServer, running

PERSONAL = (
    ("GET", "/api/v1/recommend/ann"),
    ("GET", "/api/v1/users/ann/neighbors"),
    ("GET", "/api/v1/items/a/similar"),
    ("POST", "/api/v1/session/recommend"),
    ("POST", "/api/v1/rank"),
)

ON = {"HEARTCAST_RANKING__RECOMMENDATIONS": "on"}


def _heart(server: RunningServer, target: str, *users: str) -> None:
    for user in users:
        answer = httpx2.post(f"{server.url}/api/v1/hearts", json={"target_id": target, "user_id": user})
        assert answer.status_code in (200, 201)


def _for(server: RunningServer, user: str) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{server.url}/api/v1/recommend/{user}", params={"explain": 1})
    assert answer.status_code == 200
    return answer.json()["items"]


def test_a_heart_changes_what_is_recommended_within_a_second_and_why(
    serve: Callable[..., RunningServer],
) -> None:
    server = serve("--in-memory", environ=ON)
    _heart(server, "tea", "u1", "u2", "u3")
    _heart(server, "cups", "u1", "u2", "u3")
    _heart(server, "boats", "u4", "u5", "u6", "u7")
    before = _for(server, "ann")
    _heart(server, "tea", "ann")
    hearted_s = time.monotonic()

    def first() -> dict[str, Any]:
        return _for(server, "ann")[0]

    while first()["item_id"] != "cups" and time.monotonic() - hearted_s < 5:
        pass
    took_s = time.monotonic() - hearted_s

    assert [before[0]["item_id"], before[0]["because"][:9]] == ["boats", "it is hot"]
    assert first()["item_id"] == "cups"
    assert first()["because"].startswith("you hearted tea, and 3 others hearted both")
    assert "tea" not in [pick["item_id"] for pick in _for(server, "ann")]
    assert took_s < 1


def test_recommendations_know_after_a_restart_what_they_knew_before(tmp_path: Path) -> None:
    with running("--data-dir", str(tmp_path), environ=ON) as server:
        _heart(server, "tea", "u1", "u2", "ann")
        _heart(server, "cups", "u1", "u2")
        server.kill()
    with running("--data-dir", str(tmp_path), environ=ON) as server:
        again = _for(server, "ann")
        metrics = httpx2.get(f"{server.url}/metrics").text

    assert [pick["item_id"] for pick in again] == ["cups"]
    assert again[0]["because"].startswith("you hearted tea, and 2 others hearted both")
    assert "heartcast_taste_users 3.0" in metrics
    assert "heartcast_taste_items 2.0" in metrics


@pytest.fixture
def without_numpy(tmp_path: Path) -> dict[str, str]:
    """An environment in which the extra's libraries cannot be imported."""
    for name in ("numpy", "scipy", "moocore"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here', name={name!r})\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_without_the_extra_the_server_runs_and_has_no_personal_routes(
    serve: Callable[..., RunningServer], without_numpy: dict[str, str]
) -> None:
    server = serve("--in-memory", environ={**without_numpy, "HEARTCAST_RANKING__RECOMMENDATIONS": "auto"})
    _heart(server, "tea", "ann")
    answers = [httpx2.request(method, server.url + path) for method, path in PERSONAL]
    described = httpx2.get(f"{server.url}/openapi.json").json()["paths"]

    assert httpx2.get(f"{server.url}/api/v1/hot/hour").json()["items"][0]["item_id"] == "tea"
    assert [answer.status_code for answer in answers] == [404] * len(PERSONAL)
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert "/api/v1/recommend/{user}" not in described
    assert "heartcast_taste_users" not in httpx2.get(f"{server.url}/metrics").text


def test_whoever_asks_for_recommendations_without_the_extra_is_told_what_to_install(
    serve: Callable[..., RunningServer], without_numpy: dict[str, str]
) -> None:
    with pytest.raises(RuntimeError) as caught:
        serve("--in-memory", environ={**without_numpy, "HEARTCAST_RANKING__RECOMMENDATIONS": "on"})

    said = str(caught.value)
    assert "ranking.recommendations: recommendations need the extra: pip install 'heartcast[ranking]'" in said
    assert "Traceback" not in said


def test_they_can_be_turned_off(serve: Callable[..., RunningServer]) -> None:
    server = serve("--in-memory", environ={"HEARTCAST_RANKING__RECOMMENDATIONS": "off"})

    answer = httpx2.get(f"{server.url}/api/v1/recommend/ann")
    assert (answer.status_code, answer.json()["code"]) == (404, "switched_off")
