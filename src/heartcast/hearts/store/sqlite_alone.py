"""Work on the writer's connection that is not a group of writes: it runs between two groups."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Generic, TypeVar

from heartcast.backends.sqlite import unavailable
from heartcast.core.errors import StoreUnavailable

T = TypeVar("T")


class Alone(Generic[T]):
    """One piece of work.

    Args:
        run: Called on the writer's thread, outside any transaction.
        done: Called on the loop with what it returned, after the answers of all writes before it.
    """

    __slots__ = ("_answer", "_done", "_run")

    def __init__(
        self, run: Callable[[sqlite3.Connection], T], done: Callable[[T | StoreUnavailable], None]
    ) -> None:
        self._run = run
        self._done = done
        self._answer: T | StoreUnavailable = StoreUnavailable("the heart store is closed")

    def work(self, connection: sqlite3.Connection) -> None:
        """On the writer's thread."""
        try:
            self._answer = self._run(connection)
        except sqlite3.Error as error:
            self._answer = unavailable(error)
        except Exception as error:
            self._answer = StoreUnavailable(f"the heart store failed: {type(error).__name__}")

    def tell(self) -> None:
        """On the loop."""
        self._done(self._answer)
