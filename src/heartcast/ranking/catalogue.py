"""What items are: their categories, author, age, and whether they may be shown at all.

Ranking works without any of it: an item nobody described belongs to no category and nobody.
Descriptions come from the site (``PUT /api/v1/items/{id}``) and are kept as documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nlargest

import msgspec

from heartcast.core.errors import Overloaded
from heartcast.core.names import check_id

SHELF = "item"
MAX_CATEGORIES = 20


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an item is."""

    categories: tuple[str, ...] = ()
    """What lists can be narrowed to, at most 20; any ids."""
    author: str | None = None
    """Whose it is; null: nobody's, so that nothing is thinned out for standing beside it."""
    published_ms: int | None = None
    """Wall time of its publication in milliseconds, not before 1970; null: it has no age."""
    is_hidden: bool = False
    """Whether it is to be recommended to nobody."""

    def __post_init__(self) -> None:
        if len(self.categories) > MAX_CATEGORIES:
            raise ValueError(f"categories: must be at most {MAX_CATEGORIES}")
        if self.published_ms is not None and not 0 <= self.published_ms < 1 << 53:
            raise ValueError("published_ms: must be milliseconds since 1970")

    def check(self) -> None:
        """See that its names may be ids.

        Raises:
            InvalidInput: with a pointer to the one that may not.
        """
        for place, category in enumerate(self.categories):
            check_id(category, f"/categories/{place}")
        if self.author is not None:
            check_id(self.author, "/author")


UNKNOWN = About()
"""What is known of an item nobody described."""

_decode = msgspec.json.Decoder(About).decode


class Catalogue:
    """Descriptions by item id.

    Args:
        max_items: Items described at most, >= 1; about 300 bytes each.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._abouts: dict[str, About] = {}
        self._members: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._abouts)

    def restore(self, documents: Mapping[str, bytes]) -> None:
        """Take up what an earlier process knew."""
        for item_id, value in documents.items():
            self.describe(item_id, _decode(value))

    def check_room(self, item_id: str) -> None:
        """See whether an item can be described.

        Raises:
            Overloaded: as many as may be are described already (code ``catalogue_full``).
        """
        if item_id not in self._abouts and len(self._abouts) >= self._max_items:
            raise Overloaded(
                f"{self._max_items} items are described already: raise ranking.max_described or delete some",
                retry_after_s=60,
                code="catalogue_full",
            )

    def describe(self, item_id: str, about: About | None) -> None:
        """Replace what is known of an item; None: nothing is."""
        for category in dict.fromkeys(self.find(item_id).categories):
            members = self._members[category]
            del members[item_id]
            if not members:
                del self._members[category]
        if about is None:
            self._abouts.pop(item_id, None)
            return
        self._abouts[item_id] = about
        for category in dict.fromkeys(about.categories):
            self._members.setdefault(category, {})[item_id] = None

    def find(self, item_id: str) -> About:
        """What is known of an item."""
        return self._abouts.get(item_id, UNKNOWN)

    def is_described(self, item_id: str) -> bool:
        return item_id in self._abouts

    def members(self, category: str | None) -> list[str]:
        """The items of a category, in the order described; None: all that are described."""
        return list(self._abouts if category is None else self._members.get(category, ()))

    def newest(self, item_ids: Iterable[str], count: int) -> list[str]:
        """Those of the items that were published last, newest first; items without age last."""
        return nlargest(count, item_ids, key=lambda item_id: self.find(item_id).published_ms or 0)
