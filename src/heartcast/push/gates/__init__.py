"""Gates: reasons for which an accepted push does not leave, or not now.

A gate looks at one push and either lets it pass (None) or gives a verdict. Gates are asked
in order and the first verdict counts: it ends the push, or defers it to a time at which
all gates are asked again. They read no clock and keep no connections, so a gate is tested
by calling it.

A gate that counts (caps, duplicates) only looks when it is asked. It counts when it is
told that the push *passed* all of them, so that a push which a later gate holds back has
used up nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from heartcast.push.model import Push, State


class Verdict(NamedTuple):
    """How a gate ends or defers a push."""

    state: State
    """One of the terminal states, or ``DEFERRED``."""
    reason: str
    """A stable word for programs, like ``ttl``."""
    until_ms: int = 0
    """When deferred: wall time at which the gates are asked again."""
    other: str = ""
    """Id of the push that this one is a duplicate of, or gave way to; else ""."""


Ask = Callable[[Push, int], Verdict | None]
"""``ask(push, now_ms)``: None lets the push pass."""


class Gate(NamedTuple):
    """One gate of the chain."""

    name: str
    """What the trace calls it."""
    ask: Ask
    passed: Callable[[Push, int], None] | None = None
    """Told of each push that all gates let pass."""
    needs_extras: bool = False
    """It has nothing to say about a push without extras, and is not asked."""
    needs_wishes: bool = False
    """It has nothing to say about users who never said what they want, and is neither asked nor told."""


class Chain:
    """All gates in their order.

    Args:
        said: Users who said what they want.
    """

    __slots__ = ("_all", "_gates", "_plain", "_plain_silent", "_said", "_told", "_told_plain", "_told_silent")

    def __init__(self, gates: Sequence[Gate], said: Container[str] = ()) -> None:
        self._gates = gates
        self._said = said
        plain = [gate for gate in gates if not gate.needs_extras]
        self._all = [(gate.name, gate.ask) for gate in gates]
        self._plain = [(gate.name, gate.ask) for gate in plain]
        # Nearly every push of nearly every server: what need not be asked costs the most.
        self._plain_silent = [(gate.name, gate.ask) for gate in plain if not gate.needs_wishes]
        self._told = [gate.passed for gate in gates if gate.passed]
        self._told_plain = [gate.passed for gate in plain if gate.passed]
        self._told_silent = [gate.passed for gate in plain if gate.passed and not gate.needs_wishes]

    @property
    def names(self) -> list[str]:
        """The gates' names, in the order in which they are asked."""
        return [gate.name for gate in self._gates]

    def may_pass(self, push: Push, now_ms: int) -> bool:
        """Whether all gates would let the push pass now. Nothing is counted."""
        return all(ask(push, now_ms) is None for _, ask in self._all)

    def ask(self, push: Push, now_ms: int) -> tuple[str, Verdict] | None:
        """The first verdict and who gave it; None: all let the push pass, and have counted it."""
        if push.extra is not None:
            asks, told = self._all, self._told
        elif push.user in self._said:
            asks, told = self._plain, self._told_plain
        else:
            asks, told = self._plain_silent, self._told_silent
        for name, ask in asks:
            verdict = ask(push, now_ms)
            if verdict is not None:
                return name, verdict
        for tell in told:
            tell(push, now_ms)
        return None
