"""Hearts that only their giver sees.

A shadowed heart is an ordinary heart of a hidden kind, ``~`` and the kind it was given as:
stores need nothing new, the public count is not touched, and taking it back finds it. To its
giver the two kinds are shown as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice

from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import HIDDEN, Cause, Count, Heart, HeartKey, Outcome
from heartcast.hearts.store import Done, HeartStore

SeenDone = Callable[[list[tuple[Count, bool]] | StoreUnavailable], None]


def hidden(key: HeartKey) -> HeartKey:
    """The key under which a heart is shadowed."""
    return HeartKey(key.target_id, key.user_id, HIDDEN + key.kind)


def shown(heart: Heart) -> Heart:
    """A heart as its giver sees it, shadowed or not."""
    key = heart.key
    return heart._replace(key=key._replace(kind=key.kind.removeprefix(HIDDEN)))


class Shadows:
    """The hidden half of a store's hearts."""

    def __init__(self, store: HeartStore) -> None:
        self._store = store

    def add(self, key: HeartKey, now_ms: int, done: Done) -> None:
        """Heart a target so that only the user sees it. Answers as ``HeartStore.add`` would."""

        def added(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                done(result)
                return
            [outcome] = result
            self._store.counts([key.target_id], key.kind, lambda counts: counted(outcome, counts))

        def counted(outcome: Outcome, counts: list[Count] | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                done(counts)
                return
            assert outcome.heart is not None
            [count] = counts
            heart = shown(outcome.heart)
            done([Outcome(heart, count.count + 1, count.version, outcome.changed)])

        self._store.add([hidden(key)], now_ms, added)

    def remove(
        self, keys: Sequence[HeartKey], now_ms: int, public: list[Outcome], done: Done, cause: Cause
    ) -> None:
        """Take back what may be shadowed of these hearts, after the public ones.

        Args:
            public: What became of the public ones.
        """

        def removed(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                done(result)
                return
            done([joined(ours, theirs) for ours, theirs in zip(public, result, strict=True)])

        self._store.remove([hidden(key) for key in keys], now_ms, removed, cause)

    def seen_by(
        self, user_id: str, counts: list[Count], hearted: list[bool], kind: str, done: SeenDone
    ) -> None:
        """Counts as this user sees them: own shadowed hearts are among them."""

        def found(result: list[bool] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                done(result)
                return
            done(
                [
                    (Count(count.target_id, count.count + (is_hidden and not is_public), count.version),
                     is_public or is_hidden)
                    for count, is_public, is_hidden in zip(counts, hearted, result, strict=True)
                ]
            )  # fmt: skip

        self._store.hearted(user_id, [count.target_id for count in counts], HIDDEN + kind, found)

    async def page(
        self, public: list[Heart], *, target_id: str | None, user_id: str, kind: str, after: str, limit: int
    ) -> list[Heart]:
        """A page of a user's hearts with the shadowed ones in their places."""
        concealed = await self._store.page(
            target_id=target_id, user_id=user_id, kind=HIDDEN + kind, after=after, limit=limit
        )
        if not concealed:
            return public
        both = merge(public, map(shown, concealed), key=lambda heart: heart.id)
        return list(islice(both, limit))


def joined(public: Outcome, concealed: Outcome) -> Outcome:
    """What taking a heart back did, to whoever sees the two kinds as one."""
    if public.heart is not None or concealed.heart is None:
        return public
    return Outcome(shown(concealed.heart), public.count, public.version, concealed.changed)
