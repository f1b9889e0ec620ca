from __future__ import annotations

import msgspec
import pytest

from heartcast.api.problems import problem
from heartcast.api.ranking import routes
from heartcast.api.route import Call
from heartcast.core.errors import InvalidInput, NotFound
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.options import HotOptions

NOW_MS = 1_700_000_000_000


@pytest.fixture
def boards():
    boards = HotBoards(HotOptions(), NOW_MS)
    boards.apply([(f"post_{n:03}", 1.0 + n, NOW_MS) for n in range(150)])
    return boards


def get(boards, board, query=b""):
    (route,) = routes(boards, lambda: NOW_MS)
    call = Call(query=query, params={"board": board}, respond=lambda _: pytest.fail("answered twice"))
    return route.handler(call)


def test_a_board_answers_its_items_hottest_first(boards):
    answer = get(boards, "hour", b"limit=2")
    assert answer.status == 200
    assert msgspec.json.decode(answer.body) == {
        "board": "hour",
        "items": [
            {"item_id": "post_149", "score": 150.0, "rank": 1},
            {"item_id": "post_148", "score": 149.0, "rank": 2},
        ],
    }


def test_twenty_places_unless_more_are_asked_for(boards):
    assert len(msgspec.json.decode(get(boards, "week").body)["items"]) == 20
    assert len(msgspec.json.decode(get(boards, "week", b"limit=100").body)["items"]) == 100


@pytest.mark.parametrize("limit", [b"0", b"101", b"-1", b"ten", b"1.5", b"", b"9" * 5000, b"%D9%A3"])
def test_a_limit_out_of_range_is_refused(boards, limit):
    with pytest.raises(InvalidInput) as caught:
        get(boards, "hour", b"limit=" + limit)
    assert caught.value.code == "invalid_limit"


def test_an_unknown_board_is_not_found_and_says_which_there_are(boards):
    with pytest.raises(NotFound, match="hour, day, week") as caught:
        get(boards, "year")
    assert caught.value.code == "unknown_board"
    assert problem(caught.value).status == 404


def test_an_empty_board_is_an_empty_list():
    answer = get(HotBoards(HotOptions(), NOW_MS), "day")
    assert msgspec.json.decode(answer.body) == {"board": "day", "items": []}
