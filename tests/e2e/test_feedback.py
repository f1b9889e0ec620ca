"""What people do beside hearting, through a running server: it counts, it stays, it can be steered."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from heartcast.testing import RunningServer, running
from heartcast.testing.eventually import eventually

ON = {"HEARTCAST_RANKING__RECOMMENDATIONS": "on"}


def hearts(server: RunningServer, target: str, *users: str) -> None:
    for user in users:
        body = {"target_id": target, "user_id": user}
        assert httpx2.post(f"{server.url}/api/v1/hearts", json=body).status_code in (200, 201)


def feedback(server: RunningServer, *events: dict[str, object]) -> dict[str, int]:
    answer = httpx2.post(f"{server.url}/api/v1/feedback", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown_and_clicked(item: str, shown: int, clicked: int) -> list[dict[str, object]]:
    events = [
        {"type": "exposure", "user_id": f"s{n}", "item_id": item, "id": f"e-{item}-{n}"} for n in range(shown)
    ]
    return events + [
        {"type": "click", "user_id": f"s{n}", "item_id": item, "id": f"c-{item}-{n}"} for n in range(clicked)
    ]


def order(server: RunningServer, **params: str) -> list[str]:
    answer = httpx2.get(f"{server.url}/api/v1/recommend/reader", params=params)
    assert answer.status_code == 200, answer.text
    return [pick["item_id"] for pick in answer.json()["items"]]


def because(server: RunningServer) -> str:
    picks = httpx2.get(f"{server.url}/api/v1/recommend/reader", params={"explain": "1"}).json()["items"]
    return picks[0]["because"] if picks else ""


def test_clicks_steer_a_strategy_and_survive_a_kill(tmp_path: Path) -> None:
    clicks = {"ctr": {"weight": 1.0}}
    with running("--data-dir", str(tmp_path), environ=ON) as server:
        for item in ("dull", "fine", "great"):
            hearts(server, item, "u1", "u2")
        events = [
            *shown_and_clicked("dull", 100, 1),
            *shown_and_clicked("fine", 100, 20),
            *shown_and_clicked("great", 100, 60),
        ]
        assert feedback(server, *events) == {"taken": 381, "repeated": 0}
        put = httpx2.put(f"{server.url}/api/v1/ranking/strategies/clicks", json=clicks)
        assert (put.status_code, put.json()["active"]) == (200, 1)
        described = httpx2.put(
            f"{server.url}/api/v1/items/fine", json={"categories": ["calm"], "author": "eve"}
        )
        assert described.status_code == 200

        assert order(server, strategy="clicks") == ["great", "fine", "dull"]
        server.kill()
    with running("--data-dir", str(tmp_path), environ=ON) as server:
        assert order(server, strategy="clicks") == ["great", "fine", "dull"]
        assert order(server, category="calm") == ["fine"]
        hot = httpx2.get(f"{server.url}/api/v1/hot/week", params={"category": "calm"}).json()
        assert [item["item_id"] for item in hot["items"]] == ["fine"]
        rated = httpx2.get(f"{server.url}/api/v1/ranking/rates").json()["items"]
        assert [item["item_id"] for item in rated] == ["great", "fine", "dull"]
        assert rated[0]["lower_bound"] == pytest.approx(0.502, abs=0.01)
        assert feedback(server, *shown_and_clicked("dull", 100, 1)) == {"taken": 0, "repeated": 101}


def test_a_preview_shows_both_orders_and_changes_nothing() -> None:
    with running("--in-memory", environ=ON) as server:
        for item in ("a", "b"):
            hearts(server, item, "u1", "u2")
        feedback(server, *shown_and_clicked("a", 50, 0), *shown_and_clicked("b", 50, 40))
        before = httpx2.get(f"{server.url}/api/v1/ranking/strategies").json()

        body = {"strategy": {"ctr": {"weight": 1.0}}, "user_id": "reader"}
        preview = httpx2.post(f"{server.url}/api/v1/ranking/strategies/preview", json=body).json()

        assert [pick["item_id"] for pick in preview["then"]] == ["b", "a"]
        assert preview["influence"]["ctr"]["effective"] == pytest.approx(1.0)
        assert httpx2.get(f"{server.url}/api/v1/ranking/strategies").json() == before


def test_what_was_waved_away_is_not_recommended_again() -> None:
    with running("--in-memory", environ=ON) as server:
        for item in ("a", "b"):
            hearts(server, item, "u1", "u2")

        feedback(server, {"type": "dismissal", "user_id": "reader", "item_id": "a"})

        assert order(server) == ["b"]


async def test_a_push_carries_what_its_user_would_want() -> None:
    with running("--in-memory", environ=ON) as server:
        hearts(server, "tea", "u1", "u2", "reader")
        hearts(server, "cups", "u1", "u2")
        # What goes together counts a twentieth of a second after the last heart.
        await eventually(lambda: "tea" in because(server), within_s=5)
        push = {
            "user_id": "reader", "template": "news_v2", "payload": {"title": "For you"},
            "payload_from": {"recommend": {"n": 3, "into": "picks"}},
        }  # fmt: skip

        sent = httpx2.post(f"{server.url}/push", json=push)

        assert sent.status_code == 202
        inbox = httpx2.get(f"{server.url}/api/v1/users/reader/inbox").json()
        payload = inbox["items"][0]["data"]["payload"]
        assert payload["title"] == "For you"
        assert [item["item_id"] for item in payload["picks"]] == ["cups"]
        assert "you hearted tea" in payload["picks"][0]["because"]

        again = httpx2.post(f"{server.url}/push", json=push | {"payload": {"title": "x", "picks": 1}})
        assert (again.status_code, again.json()["errors"][0]["pointer"]) == (
            422,
            "/payload_from/recommend/into",
        )


def test_a_push_that_cannot_be_completed_is_refused() -> None:
    push = {
        "user_id": "x", "template": "news_v2", "payload": {"title": "t"}, "payload_from": {"recommend": {}},
    }  # fmt: skip
    with running("--in-memory", environ=ON) as server:
        assert httpx2.post(f"{server.url}/push", json=push).json()["code"] == "nothing_to_recommend"
    with running("--in-memory") as server:
        assert httpx2.post(f"{server.url}/push", json=push).json()["code"] == "recommendations_off"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        (
            "PUT",
            "/api/v1/ranking/strategies/x",
            {"ctr": {"weight": 1, "normalizer": "magic"}},
            422,
            "invalid_input",
        ),
        ("PUT", "/api/v1/ranking/strategies/x", {"ctr": {"weight": 0}}, 422, "invalid_input"),
        ("PUT", "/api/v1/ranking/strategies/a b", {"ctr": {"weight": 1}}, 422, "invalid_id"),
        ("POST", "/api/v1/ranking/strategies/balanced/activate", {"version": 9}, 404, "unknown_strategy"),
        ("GET", "/api/v1/recommend/reader?strategy=none", None, 404, "unknown_strategy"),
        ("GET", "/api/v1/items/nobody", None, 404, "unknown_item"),
        ("PUT", "/api/v1/items/x", {"categories": [""]}, 422, "invalid_id"),
    ],
)
def test_mistakes_are_explained(
    server: RunningServer, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = (
        httpx2.request(method, server.url + path, json=body)
        if body
        else httpx2.request(method, server.url + path)
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.fixture(scope="module")
def server():
    with running("--in-memory", environ=ON) as server:
        yield server
