"""Many events at once, with numpy.

The events are sorted by slot, so that each item's are neighbours; one ``reduceat``
turns each group into a single level, and one log-add per item joins it to what was
there. Importing this module without numpy raises ``ImportError``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heartcast.ranking.board import Board


def add(
    boards: Sequence[Board], slots: Sequence[int], at_ms: Sequence[int], weights: Sequence[float]
) -> None:
    """What ``Board.add`` does on every board, for many events.

    Args:
        boards: Boards that share their slots.
        slots: One slot per event, each within every board's levels.
        at_ms: Wall time of each event in milliseconds.
        weights: Weight of each event, > 0.
    """
    by_slot = np.asarray(slots, dtype=np.int64)
    order = np.argsort(by_slot, kind="stable")
    by_slot = by_slot[order]
    starts = np.flatnonzero(np.diff(by_slot, prepend=-1))
    touched = by_slot[starts]
    times = np.asarray(at_ms, dtype=np.int64)[order]
    log_weights = np.log2(np.asarray(weights, dtype=np.float64)[order])
    for board in boards:
        decay = board.decay
        gained = log_weights + (times - decay.landmark_ms) * decay.per_ms
        # A view on the array itself; it must be gone before the array grows again.
        levels = np.frombuffer(board.levels, dtype=np.float64)
        risen = np.logaddexp2(levels[touched], np.logaddexp2.reduceat(gained, starts))
        levels[touched] = risen
        del levels
        board.rose(touched[risen >= board.floor].tolist())
