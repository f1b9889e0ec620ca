"""Counts and memberships that many callers ask for at once, answered by one statement each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from heartcast.backends.postgres import Connection
from heartcast.hearts.model import HeartKey
from heartcast.hearts.store import CountsDone, HeartedDone
from heartcast.hearts.store import postgres_reader as reader


class Question(msgspec.Struct, gc=False):
    """What one caller asks."""

    about: Literal["counts", "hearted"]
    keys: list[HeartKey]
    """Of counts, the user is ""."""
    done: Callable[[Any], None]


class Questions:
    """Making questions and answering them together."""

    @staticmethod
    def counts(target_ids: Sequence[str], kind: str, done: CountsDone) -> Question:
        return Question("counts", [HeartKey(target_id, "", kind) for target_id in target_ids], done)

    @staticmethod
    def hearted(user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> Question:
        return Question("hearted", [HeartKey(target_id, user_id, kind) for target_id in target_ids], done)

    @staticmethod
    async def answers(connection: Connection, questions: list[Question]) -> list[object]:
        """An answer per question, in order. Raises what the driver raises."""
        names = [(key[0], key[2]) for ask in questions if ask.about == "counts" for key in ask.keys]
        keys = [key for ask in questions if ask.about == "hearted" for key in ask.keys]
        counts = iter(await reader.counts(connection, names) if names else [])
        hearted = iter(await reader.hearted(connection, keys) if keys else [])
        return [
            [next(counts) for _ in ask.keys] if ask.about == "counts" else [next(hearted) for _ in ask.keys]
            for ask in questions
        ]
