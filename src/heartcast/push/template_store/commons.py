"""Template versions as notes of the commons: one set of templates for all nodes.

Keys and values are those of the push journal. Which of two nodes makes a version, or activates
one, is decided where the commons are kept; the other is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from heartcast.core.errors import Conflict, HeartcastError
from heartcast.push.commons import Commons
from heartcast.push.journal import Note
from heartcast.push.template_store import Activation, Version, Written
from heartcast.push.template_store.journal import (
    ACTIVATIONS,
    VERSIONS,
    activation_key,
    activation_note,
    version_note,
)
from heartcast.push.template_store.memory import overtaken, version_exists

_version = msgspec.json.Decoder(Version).decode
_activation = msgspec.json.Decoder(Activation).decode


class CommonsTemplateStore:
    """Implements ``TemplateStore``."""

    def __init__(self, commons: Commons) -> None:
        self._commons = commons
        self._kept: set[str] = set()
        """Keys of the records that were told."""

    def follow(self, made: Callable[[Version], None], activated: Callable[[Activation], None]) -> None:
        self._commons.follow(VERSIONS, partial(self._told, lambda value: made(_version(value))))
        self._commons.follow(ACTIVATIONS, partial(self._told, lambda value: activated(_activation(value))))

    def make(self, version: Version, notes: Sequence[Note], done: Written) -> None:
        self._write(version_note(version), notes, version_exists(version), done)

    def activate(self, activation: Activation, notes: Sequence[Note], done: Written) -> None:
        # It follows the last one: a number that leaves some out was made from nothing.
        before = activation_key(activation.name, activation.number - 1)
        is_next = activation.number == 1 or before in self._kept
        self._write(activation_note(activation), notes, overtaken(activation), done, may=is_next)

    def _write(
        self, note: Note, notes: Sequence[Note], refusal: Conflict, done: Written, *, may: bool = True
    ) -> None:
        if note.key in self._kept or not may:
            # By way of the commons, so that it does not overtake what was asked before.
            self._commons.write((), lambda error: done(error or refusal))
        else:
            self._commons.write([note, *notes], partial(self._written, note.key, refusal, done))

    def _written(self, key: str, refusal: Conflict, done: Written, error: HeartcastError | None) -> None:
        # Refused although it is not there: another note was, such as that of an Idempotency-Key.
        is_there = isinstance(error, Conflict) and key in self._kept
        done(refusal if is_there else error)

    def _told(self, tell: Callable[[bytes], None], note: Note) -> None:
        if note.value is not None and note.key not in self._kept:
            self._kept.add(note.key)
            tell(note.value)
