"""Ids as small whole numbers, so that everything else about them can be rows of arrays."""

from __future__ import annotations


class Numbers:
    """Numbers ids in the order they come.

    Args:
        most: Ids numbered at most, >= 1: later ones get none.
    """

    __slots__ = ("_most", "_numbers", "find", "ids")

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: dict[str, int] = {}
        self.find = self._numbers.get
        """``find(id)``: its number, None where it has none."""
        self.ids: list[str] = []
        """Ids by number."""

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def take(self, name: str) -> int | None:
        """The number of an id, a new one where it had none; None: there are no more."""
        number = self._numbers.get(name)
        if number is None and len(self.ids) < self._most:
            number = self._numbers[name] = len(self.ids)
            self.ids.append(name)
        return number
