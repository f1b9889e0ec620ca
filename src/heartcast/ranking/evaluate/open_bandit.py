"""The Open Bandit logs (Saito et al. 2020): two policies shown at random to the same visitors.

A shop drew for each visitor which of two policies filled three places: *random*, or *bts*,
a Thompson sampler that does not look at the visitor. Either log can therefore be asked
what the other policy earns, and the other log knows the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from heartcast.ranking.evaluate.off_policy import Log
from heartcast.ranking.interactions import Floats, Ints


class Exposures(NamedTuple):
    """One policy's log of one campaign."""

    items: Ints
    positions: Ints
    clicks: Floats
    propensities: Floats


def read_exposures(path: Path) -> Exposures:
    """A campaign's CSV file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not have the columns that Open Bandit has.
    """
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(2, 3, 4, 5), ndmin=2)
    return Exposures(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3])


def as_if_by(log: Exposures, other: Exposures) -> Log:
    """One policy's log, weighed as if the policy of the other log had drawn.

    Neither policy looks at the visitor, so what the other one would have done is its mean
    logged propensity for the same item in the same place, and 0 for what it never showed.
    """
    n_places = max(int(log.positions.max()), int(other.positions.max())) + 1
    size = (max(int(log.items.max()), int(other.items.max())) + 1) * n_places
    cells = other.items * n_places + other.positions
    shown = np.bincount(cells, minlength=size)
    chance = np.bincount(cells, weights=other.propensities, minlength=size) / np.maximum(shown, 1)
    return Log(log.clicks, log.propensities, chance[log.items * n_places + log.positions])
