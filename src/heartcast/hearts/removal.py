"""Taking many hearts away: of a person, of a target, or over to another target.

Each heart goes by itself, in calls like those of a click: counts, versions, live views and
events follow as always, and a target with a million hearts holds nobody up. The price is
that none of these is one transaction. All of them may be repeated: what a crash left
undone is done then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from heartcast.hearts.model import Cause, Heart, HeartKey, Outcome
from heartcast.hearts.store import Done
from heartcast.hearts.store.awaiting import result_of

_PAGE = 200


class Hearts(Protocol):
    """What is needed of hearts: ``HeartService``, so that views hear of it, too."""

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None: ...

    def remove(self, keys: Sequence[HeartKey], done: Done, cause: Cause = "user") -> None: ...

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]: ...

    async def kinds(self) -> list[str]: ...


async def erase_user(hearts: Hearts, user_id: str) -> int:
    """Take away every heart that this user has, of every kind.

    Returns:
        How many went. None that existed at the call is left.

    Raises:
        StoreUnavailable: it is not done to the end; repeat it.
    """
    return await _remove_all(hearts, None, user_id, "erase")


async def delete_target(hearts: Hearts, target_id: str) -> int:
    """Take away every heart of this target. Its versions stay, so that no watcher goes back in time.

    Returns and raises as ``erase_user``.
    """
    return await _remove_all(hearts, target_id, None, "delete")


async def merge_targets(hearts: Hearts, source: str, into: str) -> int:
    """Move the hearts of ``source`` to ``into``, each with its time; who hearted both counts once.

    A heart is made at ``into`` before it goes from ``source``: at no moment does a user's
    heart exist nowhere.

    Returns:
        How many were moved: what ``into`` gained.

    Raises:
        StoreUnavailable: as ``erase_user``.
    """
    if source == into:
        return 0
    gained = 0

    async def move(page: list[Heart]) -> None:
        nonlocal gained
        keys = [heart.key._replace(target_id=into) for heart in page]
        times_ms = [heart.created_ms for heart in page]
        outcomes: list[Outcome] = await result_of(lambda done: hearts.load(keys, times_ms, done, "merge"))
        gained += sum(outcome.changed for outcome in outcomes)

    await _remove_all(hearts, source, None, "merge", move)
    return gained


async def _remove_all(
    hearts: Hearts,
    target_id: str | None,
    user_id: str | None,
    cause: Cause,
    before: Callable[[list[Heart]], Awaitable[None]] | None = None,
) -> int:
    removed = 0
    for kind in await hearts.kinds():
        # Always the first page: what was on it is gone when the next one is asked for.
        while page := await hearts.page(
            target_id=target_id, user_id=user_id, kind=kind, after="", limit=_PAGE
        ):
            if before is not None:
                await before(page)
            removed += await _remove(hearts, [heart.key for heart in page], cause)
    return removed


async def _remove(hearts: Hearts, keys: list[HeartKey], cause: Cause) -> int:
    outcomes: list[Outcome] = await result_of(lambda done: hearts.remove(keys, done, cause))
    return sum(outcome.changed for outcome in outcomes)
