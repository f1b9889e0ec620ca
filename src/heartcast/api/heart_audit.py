"""REST of the audit log: export, check, and forgetting a person."""

from __future__ import annotations

import msgspec

from heartcast.api.route import Answer, Call, Headers, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.audit import Audit, Entry, Verdict

_PATH = "/api/v1/audit"
_MAX_PAGE = 1_000
_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
_encode = msgspec.json.Encoder().encode


class EntriesShown(msgspec.Struct, frozen=True):
    """A page of the log, oldest first."""

    items: list[Entry]


class Forgotten(msgspec.Struct, frozen=True):
    """What forgetting a person did."""

    had_key: bool
    """Whether there was a key to delete: false when nothing named this person."""


def routes(audit: Audit) -> list[Route]:
    """The routes of the audit log; only for the operator's own servers."""

    async def export(call: Call) -> Answer:
        _check(call)
        values = call.query_values()
        user_id = values.get("user_id", [None])[0]
        found = await audit.page(
            _whole(values, "after", 0, 0, 1 << 62),
            _whole(values, "limit", 100, 1, _MAX_PAGE),
            None if user_id is None else check_id(user_id, "/user_id"),
        )
        return Answer(200, _encode(EntriesShown(found)), _NO_STORE)

    async def verify(call: Call) -> Answer:
        _check(call)
        return Answer(200, _encode(await audit.verify()), _NO_STORE)

    async def forget(call: Call) -> Answer:
        _check(call)
        had_key = await audit.forget(check_id(call.params["id"], "/id"))
        return Answer(200, _encode(Forgotten(had_key)), _NO_STORE)

    return [
        Route(
            method="GET",
            path=_PATH,
            handler=export,
            summary="Who did what and when, oldest first.",
            tag="hearts",
            answers={200: EntriesShown},
            parameters=(
                Parameter(name="after", summary="Only greater numbers.", type=int),
                Parameter(name="limit", summary=f"1 to {_MAX_PAGE}; 100 when left out.", type=int),
                Parameter(name="user_id", summary="Only what this user did, while the key exists."),
            ),
        ),
        Route(
            method="GET",
            path=f"{_PATH}/verdict",
            handler=verify,
            summary="Check the whole chain of the log.",
            tag="hearts",
            answers={200: Verdict},
        ),
        Route(
            method="DELETE",
            path=f"{_PATH}/people/{{id}}",
            handler=forget,
            summary="Make all records of a person anonymous by deleting the person's key.",
            tag="hearts",
            answers={200: Forgotten},
        ),
    ]


def _check(call: Call) -> None:
    if not call.identity.is_server:
        raise Forbidden("only the operator's own servers may see the audit log")


def _whole(values: dict[str, list[str]], name: str, default: int, low: int, high: int) -> int:
    text = values.get(name, [str(default)])[0]
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}, got {text[:20]!r}")
    return int(text)
