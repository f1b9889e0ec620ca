"""Bodies of the heart endpoints, and how they are read and written."""

from __future__ import annotations

from functools import lru_cache
from time import gmtime, strftime
from typing import Annotated, Literal

import msgspec

from heartcast.api.problems import Problem
from heartcast.core.errors import InvalidInput
from heartcast.hearts.model import KIND, Count, Heart, HeartKey, Outcome

MAX_COUNTS_BY_GET = 100
MAX_PAGE = 200

encode = msgspec.json.Encoder().encode


class HeartBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Who hearts what."""

    target_id: str
    user_id: int | str
    """12345 and "12345" are the same user; the answer has the type that was sent."""
    kind: str = KIND


class HeartAnswer(msgspec.Struct, gc=False):
    """A heart as it is now. Always exactly these five keys."""

    id: str
    target_id: str
    user_id: int | str
    count: int
    """Hearts of this target and kind, this write included."""
    timestamp: str
    """When the heart was made, RFC 3339 in UTC."""


class RemovedAnswer(msgspec.Struct, gc=False):
    """A heart that was taken back, or an item of a batch.

    ``id`` and ``timestamp`` are null when there was nothing to take back.
    """

    id: str | None
    target_id: str
    user_id: int | str
    count: int
    timestamp: str | None


class ListedHeart(msgspec.Struct, gc=False):
    """A heart in a list."""

    id: str
    target_id: str
    user_id: str
    kind: str
    timestamp: str


class HeartPage(msgspec.Struct):
    """Some hearts, oldest first."""

    items: list[ListedHeart]
    next_cursor: str | None
    """Give it as ``cursor`` to go on; null at the end. The page after it may be empty."""


class CountsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which counts are asked."""

    target_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]
    user_id: int | str | None = None
    """With it the answer says for each target whether this user hearts it."""
    kind: str = KIND


class TargetCount(msgspec.Struct, gc=False):
    """How many hearts a target has; 0 when nobody ever hearted it."""

    target_id: str
    count: int
    version: int
    """Grows by one with each heart that comes or goes."""
    hearted: bool | msgspec.UnsetType = msgspec.UNSET


class CountsAnswer(msgspec.Struct):
    """Counts in the order asked."""

    counts: list[TargetCount]
    as_of: str
    stale: bool | msgspec.UnsetType = msgspec.UNSET
    """true: the store cannot be asked now, and these are the last counts known, since ``as_of``
    at least. Targets of which none is known are left out, and nobody is told whether they heart."""


class PlainCounts(msgspec.Struct):
    """``CountsAnswer`` when no user was named: the store's own records, written as they are."""

    counts: list[Count]
    as_of: str
    stale: bool | msgspec.UnsetType = msgspec.UNSET


class BatchItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One heart to give or to take back."""

    op: Literal["add", "remove"]
    target_id: str
    user_id: int | str
    kind: str = KIND


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """At most 500 items. They take effect in order, each alone."""

    items: list[BatchItem]


class BatchResult(msgspec.Struct, gc=False):
    """What one item did: ``status`` is what the single call would have answered."""

    status: int
    heart: RemovedAnswer | msgspec.UnsetType = msgspec.UNSET
    problem: Problem | msgspec.UnsetType = msgspec.UNSET


class BatchAnswer(msgspec.Struct):
    """Results in the order of the items."""

    results: list[BatchResult]


@lru_cache(maxsize=1024)
def timestamp(wall_ms: int) -> str:
    """``core.clock.rfc3339``, remembered: a busy server makes many hearts per millisecond."""
    return f"{_second(wall_ms // 1000)}{wall_ms % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S.", gmtime(seconds))


def added_answer(heart: Heart, user_id: int | str, count: int) -> HeartAnswer:
    """The answer to an add, with the user's id as it was sent."""
    return HeartAnswer(heart.id, heart.key[0], user_id, count, timestamp(heart.created_ms))


def given_answer(heart: Heart, user_id: int | str, count: int) -> RemovedAnswer:
    """``added_answer`` in the wider type that a batch's results share."""
    return RemovedAnswer(heart.id, heart.key[0], user_id, count, timestamp(heart.created_ms))


def removed_answer(key: HeartKey, user_id: int | str, outcome: Outcome) -> RemovedAnswer:
    """The answer to a remove, with the user's id as it was sent."""
    heart = outcome.heart
    return RemovedAnswer(
        heart.id if heart else None,
        key.target_id,
        user_id,
        outcome.count,
        timestamp(heart.created_ms) if heart else None,
    )


def listed(heart: Heart) -> ListedHeart:
    return ListedHeart(heart.id, *heart.key, timestamp(heart.created_ms))


class Query:
    """The parameters of a query string, each known and given as often as it may be.

    Raises:
        InvalidInput: there is an unknown parameter, or a single one is repeated.
    """

    def __init__(self, values: dict[str, list[str]], known: frozenset[str], lists: frozenset[str]) -> None:
        for name, texts in values.items():
            if name not in known:
                raise InvalidInput(f"unknown parameter {name!r}", code="unknown_parameter")
            if len(texts) > 1 and name not in lists:
                raise InvalidInput("must be given once", pointer=f"/{name}")
        self._values = values

    def one(self, name: str) -> str | None:
        """The value of a parameter; None when it is not given."""
        texts = self._values.get(name)
        return texts[0] if texts else None

    def required(self, name: str) -> str:
        """The value of a parameter that must be given."""
        text = self.one(name)
        if text is None:
            raise InvalidInput("is required", pointer=f"/{name}")
        return text

    def all(self, name: str) -> list[str]:
        """All values of a parameter, in order."""
        return self._values.get(name, [])

    def limit(self, default: int = 50) -> int:
        """``limit``, 1 to ``MAX_PAGE``."""
        text = self.one("limit")
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_PAGE):
            raise InvalidInput(f"must be a number from 1 to {MAX_PAGE}", pointer="/limit")
        return int(text)
