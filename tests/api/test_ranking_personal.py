from __future__ import annotations

import msgspec
import pytest

from heartcast.api.recommend import MAX_CANDIDATES, routes
from heartcast.api.route import Call, Identity
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput, NotFound
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.for_you import ForYou
from heartcast.ranking.options import ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.strategies import Strategies
from heartcast.ranking.taste import Taste

NOW_MS = 1_700_000_000_000
SERVER = Identity(is_server=True)


@pytest.fixture(scope="module")
def table():
    taste, boards = Taste(TasteOptions()), HotBoards(HotOptions(), NOW_MS)
    hearts = [(f"u{n}", f"post_{item}") for n in range(5) for item in range(4)]
    hearts += [("12345", "post_0"), ("lonely", "post_9")]
    boards.apply([(item, 1.0, NOW_MS) for _, item in hearts])
    for_you = ForYou(taste, boards, ForYouOptions(), lambda _delay_s, _call: None)
    for_you.apply([(user, item, 1.0) for user, item in hearts])
    for_you.settle()
    return {(route.method, route.path): route for route in routes(for_you, Strategies(), lambda: NOW_MS)}


def ask(table, method, path, *, body=None, query=b"", identity=SERVER, **params):
    call = Call(
        body=msgspec.json.encode(body) if body is not None else b"",
        query=query,
        params=params,
        identity=identity,
        respond=lambda _: pytest.fail("answered twice"),
    )
    answer = table[method, path].handler(call)
    assert answer.status == 200
    return msgspec.json.decode(answer.body)


def refused(table, *args, **kwargs):
    with pytest.raises(HeartcastError) as caught:
        ask(table, *args, **kwargs)
    return caught.value


RECOMMEND = ("GET", "/api/v1/recommend/{user}")
NEIGHBOURS = ("GET", "/api/v1/users/{user}/neighbors")
SIMILAR = ("GET", "/api/v1/items/{id}/similar")
SESSION = ("POST", "/api/v1/session/recommend")
RANK = ("POST", "/api/v1/rank")


def test_a_user_gets_items_and_on_request_the_reason(table):
    found = ask(table, *RECOMMEND, user="12345", query=b"n=3&explain=1")["items"]
    assert {item["item_id"] for item in found} <= {"post_1", "post_2", "post_3", "post_9"}
    assert found[0]["rank"] == 1
    assert "you hearted post_0, and 5 others hearted both" in found[0]["because"]
    assert "because" not in ask(table, *RECOMMEND, user="12345")["items"][0]


def test_what_somebody_likes_is_nobody_elses_business(table):
    assert ask(table, *RECOMMEND, user="u1", identity=Identity(user="u1"))["items"]
    for route in (RECOMMEND, NEIGHBOURS):
        error = refused(table, *route, user="u1", identity=Identity(user="u2"))
        assert isinstance(error, Forbidden)
        assert error.code == "not_yours"


def test_neighbours_and_similar_items_come_with_their_similarity(table):
    users = ask(table, *NEIGHBOURS, user="u0", query=b"n=2")["users"]
    assert len(users) == 2
    assert 0 < users[0]["similarity"] <= 1
    items = ask(table, *SIMILAR, id="post_1")["items"]
    assert {item["item_id"] for item in items} == {"post_0", "post_2", "post_3"}
    assert ask(table, *SIMILAR, id="never_seen") == {"items": []}


def test_a_session_is_served_without_an_account(table):
    body = {"item_ids": ["post_0"], "n": 2, "explain": True}
    found = ask(table, *SESSION, body=body, identity=Identity())["items"]
    assert len(found) == 2
    assert found[0]["because"]


@pytest.mark.parametrize("n", [b"0", b"101", b"-1", b"x", b"", b"9999999"])
def test_a_number_of_items_out_of_range_is_refused(table, n):
    assert refused(table, *RECOMMEND, user="u1", query=b"n=" + n).code == "invalid_limit"


def test_candidates_are_ordered_and_every_part_of_the_score_is_shown(table):
    body = {
        "strategy": "balanced",
        "candidates": [
            {"item_id": "dull", "ctr": 0.01, "cvr": {"raw": 0.001, "weight": 0.35}, "watch": 5},
            {"item_id": "fine", "ctr": {"raw": 0.09}, "cvr": 0.03, "watch": 60},
        ],
    }
    found = ask(table, *RANK, body=body)
    assert [item["item_id"] for item in found["items"]] == ["fine", "dull"]
    first = found["items"][0]
    assert sum(first["contributions"].values()) == pytest.approx(first["score"])
    assert set(found["influence"]) == {"ctr", "cvr", "watch"}


def test_a_strategy_may_be_tried_without_being_stored(table):
    body = {
        "strategy": {
            "ctr": {"weight": 0.4},
            "watch": {"weight": 0.25},
            "fuser": {"method": "pareto_rank", "params": {"temperature": 1.2}},
        },
        "candidates": [{"item_id": f"i{n}", "ctr": n / 100, "watch": 50 - n} for n in range(50)],
        "seed": "request-7",
        "n": 10,
    }
    found = ask(table, *RANK, body=body)["items"]
    assert len(found) == 10
    assert all(0 < item["propensity"] < 1 for item in found)
    assert found == ask(table, *RANK, body=body)["items"]
    assert found != ask(table, *RANK, body=body | {"seed": "request-8"})["items"]


def test_one_author_does_not_fill_the_list(table):
    body = {
        "strategy": {"ctr": {"weight": 1}},
        "candidates": [{"item_id": f"ann_{n}", "ctr": 0.9 - n / 100, "author": "ann"} for n in range(5)]
        + [{"item_id": "bob", "ctr": 0.5, "author": "bob"}, {"item_id": "cid", "ctr": 0.4, "author": "cid"}],
    }
    assert ask(table, *RANK, body=body)["items"][4]["item_id"] == "ann_4"
    spread = [item["item_id"] for item in ask(table, *RANK, body=body | {"author_decay": 0.1})["items"]]
    assert spread.index("bob") < spread.index("ann_2")


def test_no_candidates_are_an_empty_list(table):
    assert ask(table, *RANK, body={"strategy": "article", "candidates": []})["items"] == []


def test_absurd_values_never_become_an_answer_that_is_no_number(table):
    values = [1e308, -1e308, 0, None, 1e-320]
    for name in ("identity", "quantile", "zscore", "minmax", "sigmoid", "log1p", "logit"):
        strategy = {"ctr": {"weight": 1e6, "normalizer": name}, "cvr": {"weight": -1e6, "normalizer": name}}
        candidates = [{"item_id": str(n), "ctr": a, "cvr": a} for n, a in enumerate(values)]
        for item in ask(table, *RANK, body={"strategy": strategy, "candidates": candidates})["items"]:
            assert isinstance(item["score"], float)


@pytest.mark.parametrize(
    ("body", "kind", "pointer"),
    [
        ({"strategy": "secret", "candidates": []}, NotFound, None),
        ({"strategy": {}, "candidates": []}, InvalidInput, "/strategy"),
        (
            {"strategy": {"ctr": {"weight": 1, "normalizer": "x"}}, "candidates": []},
            InvalidInput,
            "/strategy/ctr/normalizer",
        ),
        (
            {"strategy": "balanced", "candidates": [{"item_id": "a"}] * (MAX_CANDIDATES + 1)},
            InvalidInput,
            "/candidates",
        ),
        (
            {"strategy": "balanced", "candidates": [{"item_id": "a", "ctr": "high"}]},
            InvalidInput,
            "/candidates/0/ctr",
        ),
        ({"strategy": "balanced", "candidates": [], "n": 0}, InvalidInput, "/n"),
        ({"strategy": "balanced", "candidates": [], "author_decay": 0}, InvalidInput, "/author_decay"),
    ],
)
def test_a_request_that_cannot_work_says_where(table, body, kind, pointer):
    error = refused(table, *RANK, body=body)
    assert isinstance(error, kind)
    if pointer is not None:
        assert error.pointer.replace("/...", "/0").replace("/-", "/0") == pointer


def test_a_session_that_cannot_work_says_where(table):
    assert refused(table, *SESSION, body={"item_ids": [""]}).pointer == "/item_ids/0"
    assert refused(table, *SESSION, body={"item_ids": ["a"] * 201}).pointer == "/item_ids"
    assert refused(table, *SESSION, body={"item_ids": [], "n": 0}).pointer == "/n"
