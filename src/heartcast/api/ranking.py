"""REST of ranking: the hot lists."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import InvalidInput, NotFound
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.live import HotList, hot_list
from heartcast.ranking.options import MAX_LIMIT
from heartcast.resilience.shedding import Priority

_DEFAULT_LIMIT = 20

_encode = msgspec.json.Encoder().encode


def routes(
    boards: HotBoards, wall_ms: Callable[[], int], members: Callable[[str], list[str]] | None = None
) -> list[Route]:
    """The routes of ranking.

    Args:
        boards: The hot boards.
        wall_ms: The wall clock, in milliseconds.
        members: The items of a category; None: items have no categories here.
    """

    def hot(call: Call) -> Answer:
        board = call.params["board"]
        if board not in boards:
            known = ", ".join(boards.names)
            raise NotFound(f"there is no board {board!r}; there are: {known}", code="unknown_board")
        category = call.query_values().get("category")
        among = None
        if category is not None:
            if members is None:
                raise InvalidInput(
                    "items have categories only where ranking.recommendations is on", code="categories_off"
                )
            among = members(category[-1])
        return Answer(200, _encode(hot_list(boards, board, limit_of(call), wall_ms(), among)))

    return [
        Route(
            method="GET",
            path="/api/v1/hot/{board}",
            handler=hot,
            summary="What is hot on a board right now, hottest first.",
            tag="ranking",
            answers={200: HotList},
            priority=Priority.BEST_EFFORT,
            parameters=(
                Parameter(
                    name="limit",
                    summary=f"Places, 1 to {MAX_LIMIT}; {_DEFAULT_LIMIT} unless given.",
                    type=int,
                ),
                Parameter(name="category", summary="Only items of this category."),
            ),
        )
    ]


def limit_of(call: Call) -> int:
    """How many places are asked for.

    Raises:
        InvalidInput: not a number that may be (code ``invalid_limit``).
    """
    values = call.query_values().get("limit")
    if values is None:
        return _DEFAULT_LIMIT
    text = values[-1]
    # isdecimal() alone would let other alphabets' digits through, and int() very long ones.
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_LIMIT}", code="invalid_limit")
    return int(text)
