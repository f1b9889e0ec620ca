"""Hiding events, so that a recommender can be asked for them.

*Leave one out* hides each user's newest event. It uses everybody and is what most
tables report, but the others' futures stay visible, and on data that was entered in
sittings it rewards guessing the next item of the same sitting. The *global time* split
hides everything after one moment, as life does; it leaves fewer users to ask about. Both
are worth printing; only the second says what a launch would see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heartcast.ranking.interactions import Interactions


@dataclass(frozen=True)
class Split:
    """What a recommender may see, and what it is asked for."""

    train: Interactions
    held_out: Interactions
    """Same users and items; pairs that ``train`` has as well are never asked for."""
    name: str = ""


def leave_last_out(events: Interactions, back: int = 0, name: str = "") -> Split:
    """Ask for each user's newest event but ``back``; later ones are hidden and not asked for.

    Users with fewer than ``back + 2`` events are not asked about.
    """
    from_end = events.from_end()
    enough = events.counts()[events.users] >= back + 2
    return Split(events.select(from_end > back), events.select((from_end == back) & enough), name)


def global_time(events: Interactions, quantile: float, end_quantile: float = 1.0, name: str = "") -> Split:
    """Ask for what happens between two moments, knowing only what came before the first.

    Args:
        events: All events.
        quantile: Share of all events before the split, in (0, 1).
        end_quantile: Share of all events before the end of the questions.
        name: For tables.

    Only users with events on both sides are asked about, and only for items that somebody
    had before the split: nobody can recommend what does not exist yet.
    """
    begin_s, end_s = np.quantile(events.times_s, [quantile, end_quantile])
    before = events.times_s < begin_s
    known_users = np.bincount(events.users[before], minlength=events.n_users) > 0
    known_items = np.bincount(events.items[before], minlength=events.n_items) > 0
    asked = ~before & (events.times_s <= end_s) & known_users[events.users] & known_items[events.items]
    return Split(events.select(before), events.select(asked), name)


def ratio(events: Interactions, share: float, seed: int, name: str = "") -> Split:
    """Hide a random ``share`` of all events, in (0, 1). Knows the future: for tables that do so too."""
    hidden = np.random.default_rng(seed).random(len(events)) < share
    return Split(events.select(~hidden), events.select(hidden), name)
