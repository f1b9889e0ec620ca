"""A set of texts in order: a million of them, paged through while it changes.

Keys lie in blocks of at most a thousand, each sorted, so that adding and removing moves a
few kilobytes and never the whole set, and a page after any key is found by two bisections.
A cursor is a key: what comes after it is well defined whether or not it is still there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

BLOCK = 1_000
"""Keys in a block before it is split."""


class OrderedKeys:
    """Texts, each once, in the order of their code points."""

    __slots__ = ("_blocks", "_firsts", "_size")

    def __init__(self) -> None:
        self._blocks: list[list[str]] = []
        self._firsts: list[str] = []
        """The least key of each block, or one that was."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            yield from block

    def __contains__(self, key: str) -> bool:
        block = self._block(key)
        index = bisect_left(block, key)
        return index < len(block) and block[index] == key

    def add(self, key: str) -> bool:
        """Add a key; False: it was there."""
        if not self._blocks:
            self._blocks, self._firsts = [[]], [key]
        at = max(0, bisect_right(self._firsts, key) - 1)
        block = self._blocks[at]
        index = bisect_left(block, key)
        if index < len(block) and block[index] == key:
            return False
        block.insert(index, key)
        self._firsts[at] = min(self._firsts[at], key)
        self._size += 1
        if len(block) > BLOCK:
            self._split(at)
        return True

    def remove(self, key: str) -> bool:
        """Remove a key; False: it was not there."""
        at = max(0, bisect_right(self._firsts, key) - 1)
        block = self._block(key)
        index = bisect_left(block, key)
        if index >= len(block) or block[index] != key:
            return False
        del block[index]
        self._size -= 1
        if not block:
            del self._blocks[at], self._firsts[at]
        return True

    def after(self, key: str, limit: int) -> list[str]:
        """The keys greater than ``key``, in order, at most ``limit``."""
        found: list[str] = []
        at = max(0, bisect_right(self._firsts, key) - 1)
        start = bisect_right(self._block(key), key)
        for block in self._blocks[at:]:
            found += block[start : start + limit - len(found)]
            start = 0
            if len(found) >= limit:
                break
        return found

    def count_after(self, key: str) -> int:
        """How many keys are greater than ``key``."""
        at = max(0, bisect_right(self._firsts, key) - 1)
        before = sum(map(len, self._blocks[:at]))
        return self._size - before - bisect_right(self._block(key), key)

    def _block(self, key: str) -> list[str]:
        at = max(0, bisect_right(self._firsts, key) - 1)
        return self._blocks[at] if self._blocks else []

    def _split(self, at: int) -> None:
        block = self._blocks[at]
        upper = block[BLOCK // 2 :]
        del block[BLOCK // 2 :]
        self._blocks.insert(at + 1, upper)
        self._firsts.insert(at + 1, upper[0])
