"""Events of your own to evaluate on: a table of who did what, and when if that is known."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heartcast.ranking.interactions import Interactions, interactions

_NAMES = {
    "user": ("user_id", "userid", "user", "uid"),
    "item": ("item_id", "itemid", "movieid", "target_id", "item", "iid"),
    "weight": ("rating", "weight", "value"),
    "time": ("timestamp", "time", "time_s", "at_s", "at_ms"),
}
_BARE = ("user", "item", "weight", "time")
"""Columns of a table without a header line, as many as it has: MovieLens writes it so."""
_NO_TIME_S = 1_000_000_000
_MS_FROM = 100_000_000_000
"""A time above it is in milliseconds: as seconds it would be after the year 5000."""


class Events(NamedTuple):
    """A file's events."""

    interactions: Interactions
    """Users and items numbered as their ids sort; weights as a share of the largest."""
    has_times: bool
    """Whether the file says when; without, all have the same time."""


def read(path: Path) -> Events:
    """Read a table, comma or tab between the columns: user, item and, where there are any, rating and time.

    Columns are found by the names in the first line (``user_id``, ``userId``, ``uid``, …; what follows a
    colon is passed over), or by place where it has none: user, item, rating, time. Of a pair that stands
    there twice the newest counts. Times are in seconds, or milliseconds where they are too large for that.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table; the message says where.
    """
    with path.open(newline="", encoding="utf-8") as file:
        first = file.readline()
        separator = "\t" if "\t" in first else ","
        file.seek(0)
        lines = csv.reader(file, delimiter=separator)
        columns, rows = _columns(next(lines, [])), list(lines)
        if not columns:
            file.seek(0)
            rows = list(csv.reader(file, delimiter=separator))
            columns = dict(zip(_BARE, range(len(rows[0]) if rows else 0), strict=False))
    if not {"user", "item"} <= columns.keys():
        raise ValueError("a table needs a column for the user and one for the item")
    return _events(columns, rows)


def _columns(head: list[str]) -> dict[str, int]:
    names = [name.partition(":")[0].strip().lower() for name in head]
    return {
        what: names.index(name) for what, known in _NAMES.items() for name in known[::-1] if name in names
    }


def _events(columns: dict[str, int], rows: list[list[str]]) -> Events:
    newest: dict[tuple[str, str], tuple[float, float]] = {}
    for number, row in enumerate(rows, 1):
        try:
            pair = row[columns["user"]], row[columns["item"]]
            time, weight = (
                _number(row, columns.get(what), base)
                for what, base in (("time", _NO_TIME_S), ("weight", 1.0))
            )
        except (IndexError, ValueError) as error:
            raise ValueError(f"row {number} is not a row of this table: {error}") from error
        if pair not in newest or time >= newest[pair][0]:
            newest[pair] = time, weight
    if not newest:
        raise ValueError("the table has no rows")
    users, user_index = _numbered(user for user, _ in newest)
    items, item_index = _numbered(item for _, item in newest)
    times, weights = np.array(list(newest.values())).T
    times_s = np.where(times > _MS_FROM, times / 1000, times).astype(np.int64)
    if not (weights > 0).all():
        raise ValueError("ratings must be above 0")
    made = interactions(user_index, item_index, times_s, weights / weights.max(), users, items)
    return Events(made, "time" in columns)


def _number(row: list[str], column: int | None, otherwise: float) -> float:
    value = otherwise if column is None else float(row[column])
    if not 0 <= value < 1e15:
        raise ValueError(f"{value:g} is no rating or time")
    return value


def _numbered(ids: Iterable[str]) -> tuple[int, np.ndarray]:
    known, index = np.unique(np.array(list(ids)), return_inverse=True)
    return len(known), index
