"""REST of credit: what a user has earned by hearts, and how."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from heartcast.api.route import Answer, Call, Headers, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.credit import Ledger
from heartcast.hearts.ledger import Reason

_PATH = "/api/v1/users/{id}/credit"
_MAX_PAGE = 200
_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
_encode = msgspec.json.Encoder().encode


class BalanceShown(msgspec.Struct, frozen=True):
    """What a user has."""

    user_id: str
    balance: int
    awarded_today: int
    """Earned since midnight UTC; what was taken back counts."""


class EntryShown(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    number: int
    target_id: str
    kind: str
    points: int
    reason: Reason
    """``award``, ``clawback``, or ``cap``: earned nothing because the day's cap was reached."""
    timestamp: str
    event: str


class EntriesShown(msgspec.Struct, frozen=True):
    """A page of the ledger, newest first."""

    items: list[EntryShown]
    next_before: int | None
    """Give it as ``before`` for older ones; null: there are none."""


def routes(ledger: Ledger, now_ms: Callable[[], int]) -> list[Route]:
    """The routes of credit; for the user itself and for servers."""

    async def balance(call: Call) -> Answer:
        user_id = _user(call)
        found = await ledger.balance(user_id, now_ms())
        return Answer(200, _encode(BalanceShown(user_id, found.points, found.awarded_today)), _NO_STORE)

    async def entries(call: Call) -> Answer:
        user_id = _user(call)
        values = call.query_values()
        limit = _whole(values, "limit", 50, 1, _MAX_PAGE)
        found = await ledger.entries(user_id, _whole(values, "before", 0, 0, 1 << 62), limit + 1)
        items = [
            EntryShown(
                one.number, one.target_id, one.kind, one.points, one.reason, rfc3339(one.at_ms), one.event
            )
            for one in found[:limit]
        ]
        more = items[-1].number if len(found) > limit else None
        return Answer(200, _encode(EntriesShown(items, more)), _NO_STORE)

    return [
        Route(
            method="GET",
            path=_PATH,
            handler=balance,
            summary="What a user has earned by hearts.",
            tag="hearts",
            answers={200: BalanceShown},
        ),
        Route(
            method="GET",
            path=f"{_PATH}/entries",
            handler=entries,
            summary="How a user earned it, newest first.",
            tag="hearts",
            answers={200: EntriesShown},
            parameters=(
                Parameter(name="limit", summary=f"1 to {_MAX_PAGE}; 50 when left out.", type=int),
                Parameter(name="before", summary="Only entries with lower numbers.", type=int),
            ),
        ),
    ]


def _user(call: Call) -> str:
    user_id = check_id(call.params["id"], "/id")
    if not call.identity.may_act_for(user_id):
        raise Forbidden("only the user and the operator's own servers may see this")
    return user_id


def _whole(values: dict[str, list[str]], name: str, default: int, low: int, high: int) -> int:
    text = values.get(name, [str(default)])[0]
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}, got {text[:20]!r}")
    return int(text)
