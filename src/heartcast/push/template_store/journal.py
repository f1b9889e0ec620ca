"""Template versions as notes of the push journal: in SQLite with all that is accepted.

    t:v <name> <version>    the version, JSON
    t:w <name> <number>     an activation, JSON

Numbers are written with six digits, so that the order of the keys is that of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from heartcast.core.errors import StoreUnavailable
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.template_store import Activation, Version, Written
from heartcast.push.template_store.memory import Numbers

VERSIONS, ACTIVATIONS = "t:v", "t:w"
_encode = msgspec.json.Encoder().encode
_version = msgspec.json.Decoder(Version).decode
_activation = msgspec.json.Decoder(Activation).decode


def version_note(version: Version) -> Note:
    """A version as it is kept."""
    return Note(f"{VERSIONS}\0{version.name}\0{version.version:06}", _encode(version))


def activation_key(name: str, number: int) -> str:
    """The key of a name's activation with this number."""
    return f"{ACTIVATIONS}\0{name}\0{number:06}"


def activation_note(activation: Activation) -> Note:
    """An activation as it is kept."""
    return Note(activation_key(activation.name, activation.number), _encode(activation))


class JournalTemplateStore:
    """Implements ``TemplateStore``. The journal is closed by whoever opened it.

    Args:
        now_ms: Wall time of the start.
    """

    def __init__(self, journal: Journal, now_ms: int) -> None:
        self._journal = journal
        self._now_ms = now_ms
        self._numbers = Numbers()
        self._made: Callable[[Version], None]
        self._activated: Callable[[Activation], None]

    def follow(self, made: Callable[[Version], None], activated: Callable[[Activation], None]) -> None:
        self._made, self._activated = made, activated
        for note in self._journal.notes(VERSIONS, self._now_ms):
            version = _version(note.value or b"")
            self._numbers.take(version)
            made(version)
        for note in sorted(self._journal.notes(ACTIVATIONS, self._now_ms)):
            activation = _activation(note.value or b"")
            self._numbers.step(activation)
            activated(activation)

    def make(self, version: Version, notes: Sequence[Note], done: Written) -> None:
        if refusal := self._numbers.take(version):
            # By way of the journal, so that it does not overtake what was asked before.
            self._journal.write(Change(), lambda error: done(error or refusal))
            return
        self._journal.write(Change(notes=[version_note(version), *notes]), partial(self._kept, version, done))

    def activate(self, activation: Activation, notes: Sequence[Note], done: Written) -> None:
        if refusal := self._numbers.step(activation):
            self._journal.write(Change(), lambda error: done(error or refusal))
            return
        change = Change(notes=[activation_note(activation), *notes])
        self._journal.write(change, partial(self._stepped, activation, done))

    def _kept(self, version: Version, done: Written, error: StoreUnavailable | None) -> None:
        if error is None:
            self._made(version)
        else:
            self._numbers.give_back(version)
        done(error)

    def _stepped(self, activation: Activation, done: Written, error: StoreUnavailable | None) -> None:
        if error is None:
            self._activated(activation)
        else:
            self._numbers.step_back(activation)
        done(error)
