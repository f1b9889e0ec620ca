"""A payload that the server completes: what its user would want right now.

The items are chosen when the push is accepted, so that what is answered, shown in the trace and
sent is the same, and a push that waits for its time says what was wanted when it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.core.names import user_text

MAX_ITEMS = 20
"""A push announces; twenty items are a page."""


class Recommended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to recommend, and where to put it."""

    n: int = 1
    """Items at most, 1 to 20."""
    category: str | None = None
    """Only items of this category."""
    strategy: str | None = None
    """Name of the strategy that orders them."""
    into: str = "items"
    """Name of the payload's field that becomes the list of ``{"item_id", "score", "because"}``."""


class PayloadFrom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to complete a payload by."""

    recommend: Recommended


Compose = Callable[[str, Recommended], list[dict[str, Any]]]
"""``compose(user, wanted)``: the recommended items, best first; may raise ``NotFound`` for a strategy."""


def completed(
    user_id: int | str, payload: dict[str, Any], wanted: PayloadFrom | None, compose: Compose | None
) -> dict[str, Any]:
    """The payload with what was wanted.

    Raises:
        InvalidInput: recommendations are off, the field is there already, or there is nothing to
            recommend (code ``nothing_to_recommend``).
        NotFound: there is no such strategy.
    """
    if wanted is None:
        return payload
    asked = wanted.recommend
    if compose is None:
        raise InvalidInput(
            "recommendations are off: set ranking.recommendations",
            pointer="/payload_from/recommend",
            code="recommendations_off",
        )
    if not 1 <= asked.n <= MAX_ITEMS:
        raise InvalidInput(f"must be 1 to {MAX_ITEMS}", pointer="/payload_from/recommend/n")
    if asked.into in payload:
        raise InvalidInput(
            f"the payload has a field {asked.into!r} already", pointer="/payload_from/recommend/into"
        )
    items = compose(user_text(user_id), asked)
    if not items:
        raise InvalidInput(
            "there is nothing to recommend to this user yet",
            pointer="/payload_from/recommend",
            code="nothing_to_recommend",
        )
    return payload | {asked.into: items}
