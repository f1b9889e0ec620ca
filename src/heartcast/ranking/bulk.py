"""Many events at once, with numpy.

The events are sorted by slot, so that each item's are neighbours; one ``reduceat``
turns each group into a single level, and one log-add per item joins it to what was
there. Importing this module without numpy raises ``ImportError``.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.board import Board


def columns(
    events: Sequence[tuple[str, float, int]], latest_ms: int, biggest_weight: float
) -> tuple[Sequence[str], NDArray[np.float64], NDArray[np.int64]] | None:
    """Item ids, weights and times of events that all add something; None if any of them
    takes something away or must be refused."""
    ids = [event[0] for event in events]
    heavy = np.array([event[1] for event in events], dtype=np.float64)
    try:
        at_ms = np.array([event[2] for event in events], dtype=np.int64)
    except OverflowError:  # a time beyond 64 bits
        return None
    is_plain = (
        at_ms.min() >= 0 and at_ms.max() <= latest_ms and np.all((heavy > 0) & (heavy < biggest_weight))
    )
    return (ids, heavy, at_ms) if is_plain else None


def count(counts: array[int], oldest_ms: array[int], slots: Sequence[int], at_ms: NDArray[np.int64]) -> None:
    """Count each event at its slot, and keep the time of the oldest."""
    by_slot = np.asarray(slots, dtype=np.int64)
    # Views on the arrays themselves; they must be gone before the arrays grow again.
    np.add.at(np.frombuffer(counts, dtype=np.int64), by_slot, 1)
    np.minimum.at(np.frombuffer(oldest_ms, dtype=np.int64), by_slot, at_ms)


def add(
    boards: Sequence[Board],
    slots: Sequence[int | None],
    at_ms: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """What ``Board.add`` does on every board, for many events.

    Args:
        boards: Boards that share their slots.
        slots: One slot per event, each within every board's levels.
        at_ms: Wall time of each event in milliseconds: int64[n].
        weights: Weight of each event, > 0: float64[n].
    """
    by_slot = np.asarray(slots, dtype=np.int64)
    order = np.argsort(by_slot, kind="stable")
    by_slot = by_slot[order]
    starts = np.flatnonzero(np.diff(by_slot, prepend=-1))
    touched = by_slot[starts]
    times = at_ms[order]
    log_weights = np.log2(weights[order])
    for board in boards:
        decay = board.decay
        gained = log_weights + (times - decay.landmark_ms) * decay.per_ms
        # A view on the array itself; it must be gone before the array grows again.
        levels = np.frombuffer(board.levels, dtype=np.float64)
        risen = np.logaddexp2(levels[touched], np.logaddexp2.reduceat(gained, starts))
        levels[touched] = risen
        del levels
        board.rose(touched[risen >= board.floor].tolist())
