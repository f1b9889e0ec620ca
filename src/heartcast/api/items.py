"""REST of what items are: categories, author, age, and whether they may be shown."""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import problem
from heartcast.api.route import ADMIN, Answer, Call, Route
from heartcast.core.errors import Forbidden, NotFound, StoreUnavailable
from heartcast.core.names import check_id
from heartcast.ranking.catalogue import SHELF, About, Catalogue
from heartcast.ranking.store import Document, RankingStore

_encode = msgspec.json.Encoder().encode


def routes(catalogue: Catalogue, store: RankingStore) -> list[Route]:
    """The routes of items.

    Args:
        catalogue: What is known; changes when the store has the change.
        store: Keeps it.
    """
    read = decoder(About)

    def put(call: Call) -> Answer | None:
        item_id = _item(call)
        about = read(call.body)
        about.check()
        catalogue.check_room(item_id)
        return _keep(call, item_id, about)

    def delete(call: Call) -> Answer | None:
        item_id = _item(call)
        if not catalogue.is_described(item_id):
            raise NotFound("nobody described this item", code="unknown_item")
        return _keep(call, item_id, None)

    def get(call: Call) -> Answer:
        item_id = check_id(call.params["id"], "/id")
        if not catalogue.is_described(item_id):
            raise NotFound("nobody described this item", code="unknown_item")
        return Answer(200, _encode(catalogue.find(item_id)))

    def _keep(call: Call, item_id: str, about: About | None) -> Answer | None:
        value = None if about is None else _encode(about)
        store.put([Document(SHELF, item_id, value)], partial(_kept, call, item_id, about))
        return None

    def _kept(call: Call, item_id: str, about: About | None, error: StoreUnavailable | None) -> None:
        if error is not None:
            call.respond(problem(error))
            return
        catalogue.describe(item_id, about)
        call.respond(Answer(204, content_type=b"") if about is None else Answer(200, _encode(about)))

    path = "/api/v1/items/{id}"
    return [
        Route(
            method="PUT", path=path, handler=put, summary="Say what an item is.", tag="ranking", body=About,
            answers={200: About},
        ),
        Route(
            method="GET", path=path, handler=get, summary="What an item is.", tag="ranking",
            answers={200: About},
        ),
        Route(
            method="DELETE", path=path, handler=delete, summary="Forget what an item is.", tag="ranking",
            answers={204: None},
        ),
    ]  # fmt: skip


def _item(call: Call) -> str:
    if not call.identity.may(ADMIN):
        raise Forbidden("only the operator's own servers may describe items (scope admin)")
    return check_id(call.params["id"], "/id")
