"""REST for whole people and whole targets: export, erase, delete, merge.

    GET     /api/v1/users/{id}/hearts    every heart of a user, of every kind
    DELETE  /api/v1/users/{id}/hearts    erase them
    POST    /api/v1/targets/delete       a target is gone, and its hearts with it
    POST    /api/v1/targets/merge        two targets become one

Each heart goes by itself (``hearts.removal``), so a large one takes a while, and what an
interruption left undone is done when the request is repeated.
"""

from __future__ import annotations

import msgspec

from heartcast.api.body import decoder
from heartcast.api.cursors import Cursors
from heartcast.api.heart_access import check_may_act
from heartcast.api.heart_bodies import MAX_PAGE, HeartPage, Query, encode, listed
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import Forbidden
from heartcast.core.names import check_id, user_text
from heartcast.hearts.model import HIDDEN, Heart
from heartcast.hearts.removal import delete_target, erase_user, merge_targets
from heartcast.hearts.service import HeartService

_QUERY = frozenset({"cursor", "limit"})
_NONE: frozenset[str] = frozenset()


class DeleteBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which target is gone."""

    target_id: str


class MergeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which target becomes part of which."""

    source_id: str
    into_id: str


class Removed(msgspec.Struct):
    """How many hearts went; 0 when it had been done before."""

    removed: int


class Merged(msgspec.Struct):
    """How many hearts ``into_id`` gained; who hearted both counts once."""

    moved: int


_decode_delete = decoder(DeleteBody)
_decode_merge = decoder(MergeBody)


class _Removal:
    """The handlers."""

    def __init__(self, service: HeartService, cursors: Cursors) -> None:
        self._service = service
        self._cursors = cursors

    async def export(self, call: Call) -> Answer:
        user = _user(call)
        query = Query(call.query_values(), _QUERY, _NONE)
        limit = query.limit(MAX_PAGE)
        after, _, begun = self._cursors.read(query.one("cursor"), "export", user).partition(":")
        hearts = await self._some(user, begun, after, limit)
        cursor = None
        if len(hearts) == limit:
            last = hearts[-1]
            cursor = self._cursors.write(f"{last.id}:{last.key.kind}", "export", user)
        return Answer(200, encode(HeartPage([listed(heart) for heart in hearts], cursor)))

    async def _some(self, user: str, begun: str, after: str, limit: int) -> list[Heart]:
        """A page that goes on kind by kind: ``begun`` is the kind at which the last one ended."""
        hearts: list[Heart] = []
        for kind in sorted(await self._service.kinds()):
            # Hearts of hidden kinds are on the pages of the kinds they were given as.
            if kind < begun or kind.startswith(HIDDEN):
                continue
            hearts += await self._service.page(
                target_id=None,
                user_id=user,
                kind=kind,
                after=after if kind == begun else "",
                limit=limit - len(hearts),
            )
            if len(hearts) == limit:
                break
        return hearts

    async def erase(self, call: Call) -> Answer:
        return Answer(200, encode(Removed(await erase_user(self._service, _user(call)))))

    async def delete(self, call: Call) -> Answer:
        target_id = check_id(_decode_delete(call.body).target_id, "/target_id")
        _check_server(call)
        return Answer(200, encode(Removed(await delete_target(self._service, target_id))))

    async def merge(self, call: Call) -> Answer:
        body = _decode_merge(call.body)
        source, into = check_id(body.source_id, "/source_id"), check_id(body.into_id, "/into_id")
        _check_server(call)
        return Answer(200, encode(Merged(await merge_targets(self._service, source, into))))


def _user(call: Call) -> str:
    user = user_text(call.params["id"], "")
    check_may_act(call.identity, user)
    return user


def _check_server(call: Call) -> None:
    if not call.identity.is_server:
        raise Forbidden("only a server may delete or merge targets")


def routes(service: HeartService, cursors: Cursors) -> list[Route]:
    """The routes of whole people and targets."""
    removal = _Removal(service, cursors)
    return [
        Route(
            method="GET",
            path="/api/v1/users/{id}/hearts",
            handler=removal.export,
            summary="Every heart of a user, kind by kind, oldest first.",
            tag="hearts",
            answers={200: HeartPage},
            parameters=(
                Parameter(name="cursor", summary="next_cursor of the page before."),
                Parameter(name="limit", summary=f"Most hearts in the answer, 1 to {MAX_PAGE}.", type=int),
            ),
        ),
        Route(
            method="DELETE",
            path="/api/v1/users/{id}/hearts",
            handler=removal.erase,
            summary="Take away every heart of a user; may be repeated.",
            tag="hearts",
            answers={200: Removed},
        ),
        Route(
            method="POST",
            path="/api/v1/targets/delete",
            handler=removal.delete,
            summary="Take away every heart of a target; may be repeated.",
            tag="hearts",
            body=DeleteBody,
            answers={200: Removed},
        ),
        Route(
            method="POST",
            path="/api/v1/targets/merge",
            handler=removal.merge,
            summary="Move the hearts of one target to another; may be repeated.",
            tag="hearts",
            body=MergeBody,
            answers={200: Merged},
        ),
    ]
