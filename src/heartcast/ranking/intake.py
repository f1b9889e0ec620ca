"""Feedback on its way in: kept first, then told to everybody who learns from it.

What was answered is in the log; what was in the log already teaches nobody a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from heartcast.core.errors import StoreUnavailable
from heartcast.ranking.feedback import Feedback
from heartcast.ranking.store import Appended, RankingStore

Follower = Callable[[list[Feedback]], None]


class FeedbackIntake:
    """Takes feedback.

    Args:
        store: Keeps it.
        followers: Told of every new event once, in order.
    """

    def __init__(self, store: RankingStore, followers: Sequence[Follower]) -> None:
        self._store = store
        self._followers = followers
        self.taken = 0
        """New events since the start."""
        self.repeated = 0
        """Events that were there already."""

    def take(self, events: Sequence[Feedback], done: Appended) -> None:
        """Take events, 1 to 1,000.

        Args:
            done: Told which were new once they are kept, or that nothing was.
        """
        self._store.append(events, partial(self._kept, events, done))

    def _kept(
        self, events: Sequence[Feedback], done: Appended, are_new: list[bool] | StoreUnavailable
    ) -> None:
        if not isinstance(are_new, StoreUnavailable):
            fresh = [event for event, is_new in zip(events, are_new, strict=True) if is_new]
            self.taken += len(fresh)
            self.repeated += len(events) - len(fresh)
            if fresh:
                for follow in self._followers:
                    follow(fresh)
        done(are_new)
