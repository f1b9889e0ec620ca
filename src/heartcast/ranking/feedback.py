"""What people did beside hearting: it was shown to them, they clicked, watched, bought, waved it away.

Each event says how sure it makes us that somebody likes something: its *confidence*, between
0 and 1, of which histories (``taste``) are made. A watch of under ``LEAST_WATCH_S`` is a glance
and says little; a long one says as much as a heart. An exposure says nothing about taste, but
without exposures a click rate has no denominator (``rates``).
"""

from __future__ import annotations

from enum import Enum
from math import log1p
from typing import NamedTuple

LEAST_WATCH_S = 2.0
"""Seconds below which a watch is a glance."""
MAX_WATCH_S = 86_400.0
"""A watch of more than a day is a tab somebody forgot."""
_GLANCE = 0.2
# The article's curve log1p(s / 30); a minute counts about as much as a heart.
_WATCH_UNIT_S = 30.0
_FULL_WATCH = log1p(60.0 / _WATCH_UNIT_S)


class Kind(Enum):
    """What happened."""

    EXPOSURE = "exposure"
    """The item was shown to the user."""
    CLICK = "click"
    """The user opened it."""
    WATCH = "watch"
    """The user spent ``value`` seconds with it."""
    CONVERSION = "conversion"
    """The user did what it was there for: bought, signed up, subscribed."""
    DISMISSAL = "dismissal"
    """The user does not want to see it again."""


class Feedback(NamedTuple):
    """One event."""

    id: str
    """The same event always has the same id: it counts once, however often it is sent."""
    kind: Kind
    user_id: str
    item_id: str
    at_ms: int
    """Wall time in milliseconds at which it happened."""
    value: float = 0.0
    """Seconds of a watch; of other kinds 0."""
    propensity: float = 1.0
    """Of an exposure: the chance with which this item was drawn for its place, in (0, 1]."""


def confidence(event: Feedback, weights: dict[str, float]) -> float:
    """How sure an event makes us that its user likes its item, 0 (not at all) to 1 (as a heart).

    Args:
        weights: Confidence by kind, 0 to 1; kinds that are not named say nothing.
    """
    weight = weights.get(event.kind.value, 0.0)
    if event.kind is not Kind.WATCH or not weight:
        return weight
    if event.value < LEAST_WATCH_S:
        return weight * _GLANCE
    return weight * min(1.0, max(_GLANCE, log1p(event.value / _WATCH_UNIT_S) / _FULL_WATCH))
