"""Template versions that were made through the API, and which of them were activated when.

The store keeps and orders; what a template is, it does not know. ``memory`` is the
reference; ``journal`` keeps everything as notes of the push journal, and is as durable as
that is; ``commons`` keeps it once for many nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from heartcast.core.errors import HeartcastError
from heartcast.push.journal import Note


class Version(msgspec.Struct, frozen=True):
    """One version of one template."""

    name: str
    version: int
    """>= 1."""
    source: bytes
    """As its author wrote it: JSON."""
    made_ms: int


class Activation(msgspec.Struct, frozen=True):
    """That a version became the active one of its name."""

    name: str
    version: int
    number: int
    """Activations of this name are counted from 1."""
    at_ms: int


Written = Callable[[HeartcastError | None], None]


class TemplateStore(Protocol):
    """Versions and activations.

    Guarantees, each with a contract test of the same number:

    1. **Durable before answered.** When ``done`` is called with None, the record survives
       ``kill -9`` and a new life tells it (memory: nothing survives).
    2. **Told in order.** ``follow`` tells every record that is kept, versions before the
       activations that name them, each name's activations by number; later every new record
       is told just before its ``done``.
    3. **Immutable.** A version that is kept, or is being written, is not written again:
       ``done`` gets ``Conflict`` (code ``version_exists``) and nothing has changed.
    4. **One after the other.** An activation is written only if its number follows the last
       one; else ``done`` gets ``Conflict`` (code ``activation_overtaken``).
    5. **Whole or nothing.** A record answered with ``StoreUnavailable`` is not told, left no
       trace, and neither did its notes; the same record may be written again. (Commons: one whose
       answer was lost on the way may be kept, and is told later.)
    6. **Once answered, in order.** Every ``done`` is called exactly once, in the order of the calls.
    """

    def follow(self, made: Callable[[Version], None], activated: Callable[[Activation], None]) -> None:
        """Tell everything that is kept, now, and what comes later. Called once, at start."""
        ...

    def make(self, version: Version, notes: Sequence[Note], done: Written) -> None:
        """Keep a new version, and the notes with it."""
        ...

    def activate(self, activation: Activation, notes: Sequence[Note], done: Written) -> None:
        """Keep an activation, and the notes with it."""
        ...
