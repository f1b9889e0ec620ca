"""Hearts one by one and page by page: of a target, of a user, or of both.

Pages go on by a signed cursor that is good for the same question only. Who hearted a target
is told to those whom ``hearts.who_hearted`` names; everybody may list their own hearts.
"""

from __future__ import annotations

from urllib.parse import urlencode

from heartcast.api.cursors import Cursors
from heartcast.api.heart_access import Audience, check_may_act, check_may_list
from heartcast.api.heart_bodies import MAX_PAGE, HeartPage, ListedHeart, Query, encode, listed
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import InvalidInput, NotFound
from heartcast.core.names import check_id, user_text
from heartcast.hearts.model import KIND
from heartcast.hearts.service import HeartService
from heartcast.resilience.shedding import Priority

_QUERY = frozenset({"target_id", "user_id", "kind", "cursor", "limit"})
_NONE: frozenset[str] = frozenset()


class _Lists:
    """The handlers."""

    def __init__(self, service: HeartService, path: str, cursors: Cursors, audience: Audience) -> None:
        self._service = service
        self._path = path
        self._cursors = cursors
        self._audience = audience

    async def get(self, call: Call) -> Answer:
        heart = await self._service.find(call.params["id"])
        if heart is None:
            raise NotFound("there is no heart with this id", code="heart_unknown")
        check_may_act(call.identity, heart.key.user_id)
        return Answer(200, encode(listed(heart)))

    async def list(self, call: Call) -> Answer:
        query = Query(call.query_values(), _QUERY, _NONE)
        target_id, user_id = query.one("target_id"), query.one("user_id")
        self._check(call, target_id, user_id)
        kind, limit = self._service.check_kind(query.one("kind") or KIND), query.limit()
        after = self._cursors.read(query.one("cursor"), target_id, user_id, kind)
        hearts = await self._service.page(
            target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
        )
        items = [listed(heart) for heart in hearts]
        if len(hearts) < limit:
            return Answer(200, encode(HeartPage(items, None)))
        cursor = self._cursors.write(hearts[-1].id, target_id, user_id, kind)
        asked = {"target_id": target_id, "user_id": user_id, "kind": kind, "limit": limit}
        asked = {name: value for name, value in asked.items() if value is not None}
        link = f'<{self._path}?{urlencode({**asked, "cursor": cursor})}>; rel="next"'
        return Answer(200, encode(HeartPage(items, cursor)), ((b"link", link.encode()),))

    def _check(self, call: Call, target_id: str | None, user_id: str | None) -> None:
        if target_id is not None:
            check_id(target_id, "/target_id")
        if user_id is not None:
            check_may_act(call.identity, user_text(user_id))
        elif target_id is None:
            raise InvalidInput("target_id, user_id or both must be given")
        else:
            check_may_list(call.identity, target_id, self._audience)


def routes(service: HeartService, path: str, cursors: Cursors, audience: Audience) -> list[Route]:
    """The routes that list hearts.

    Args:
        path: Where hearts are.
        audience: Who may ask who hearted a target.
    """
    lists = _Lists(service, path, cursors, audience)
    return [
        Route(
            method="GET",
            path=path,
            handler=lists.list,
            summary="Hearts of a target, of a user, or of both; oldest first.",
            tag="hearts",
            answers={200: HeartPage},
            priority=Priority.SHEDDABLE,
            parameters=(
                Parameter(name="target_id", summary="What is hearted."),
                Parameter(name="user_id", summary="Who hearts."),
                Parameter(name="kind", summary='Kind of heart, "heart" when not given.'),
                Parameter(name="cursor", summary="next_cursor of the page before."),
                Parameter(name="limit", summary=f"Most hearts in the answer, 1 to {MAX_PAGE}.", type=int),
            ),
        ),
        Route(
            method="GET",
            path=f"{path}/{{id}}",
            handler=lists.get,
            summary="One heart.",
            tag="hearts",
            answers={200: ListedHeart},
            priority=Priority.SHEDDABLE,
        ),
    ]
