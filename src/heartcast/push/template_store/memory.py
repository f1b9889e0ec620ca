"""Template versions in memory: the reference. Lost with the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heartcast.core.errors import Conflict
from heartcast.push.journal import Note
from heartcast.push.template_store import Activation, Version, Written


class Numbers:
    """What is kept or is being written, so that nothing is written twice."""

    def __init__(self) -> None:
        self._versions: set[tuple[str, int]] = set()
        self._activations: dict[str, int] = {}

    def take(self, version: Version) -> Conflict | None:
        """Reserve a version; the conflict when it is not free."""
        key = (version.name, version.version)
        if key in self._versions:
            return version_exists(version)
        self._versions.add(key)
        return None

    def give_back(self, version: Version) -> None:
        """The version could not be written."""
        self._versions.discard((version.name, version.version))

    def step(self, activation: Activation) -> Conflict | None:
        """Reserve the next number of a name; the conflict when this is not it."""
        if activation.number != self._activations.get(activation.name, 0) + 1:
            return overtaken(activation)
        self._activations[activation.name] = activation.number
        return None

    def step_back(self, activation: Activation) -> None:
        """The activation could not be written."""
        self._activations[activation.name] = activation.number - 1


class MemoryTemplateStore:
    """Implements ``TemplateStore``."""

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._made: Callable[[Version], None] = _nobody
        self._activated: Callable[[Activation], None] = _nobody

    def follow(self, made: Callable[[Version], None], activated: Callable[[Activation], None]) -> None:
        self._made, self._activated = made, activated

    def make(self, version: Version, notes: Sequence[Note], done: Written) -> None:
        if (refusal := self._numbers.take(version)) is None:
            self._made(version)
        done(refusal)

    def activate(self, activation: Activation, notes: Sequence[Note], done: Written) -> None:
        if (refusal := self._numbers.step(activation)) is None:
            self._activated(activation)
        done(refusal)


def version_exists(version: Version) -> Conflict:
    """The refusal of a version that is kept already."""
    return Conflict(f"version {version.version} of {version.name!r} exists", code="version_exists")


def overtaken(activation: Activation) -> Conflict:
    """The refusal of an activation that does not follow the last one."""
    return Conflict(
        f"another version of {activation.name!r} was activated meanwhile", code="activation_overtaken"
    )


def _nobody(record: object) -> None:
    """Nobody follows yet."""
