"""Many nodes in one process, in virtual time: they start, pause, wake, die and lose the registry.

town = Town(clock)
ann, bob = town.start("ann"), town.start("bob")
town.advance(3)
town.pause(bob)          # as SIGSTOP does: its timers stand still, and what is sent to it waits
town.advance(10)
town.wake(bob)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from heartcast.cluster.membership import Membership
from heartcast.cluster.node import Node
from heartcast.cluster.options import ClusterOptions
from heartcast.cluster.registry import Acquired, Done, Viewed
from heartcast.cluster.registry.memory import MemoryRegistry
from heartcast.core.errors import StoreUnavailable
from heartcast.testing.clock import ManualClock
from heartcast.testing.turns import ManualTimer


class _Line:
    """One node's way to the registry: answers come back later, or not before it wakes."""

    def __init__(self, registry: MemoryRegistry, clock: ManualClock) -> None:
        self.registry = registry
        self.clock = clock
        self.is_cut = False
        self.is_paused = False
        self.timers: list[ManualTimer] = []

    def later(self, delay: float, callback: Callable[[], Any]) -> ManualTimer:
        timer = ManualTimer(self.clock.monotonic_s() + delay, callback)
        self.timers.append(timer)
        return timer

    def run_due(self) -> None:
        """Run what is due now, unless the process stands still."""
        while not self.is_paused:
            now_s = self.clock.monotonic_s() + 1e-9
            due = [timer for timer in self.timers if timer.due_s <= now_s]
            if not due:
                return
            self.timers = [timer for timer in self.timers if timer not in due]
            for timer in sorted(due, key=lambda timer: timer.due_s):
                if not timer.is_cancelled:
                    timer.callback()

    def _answer(self, ask: Callable[[Callable[..., Any]], None], done: Callable[[Any], None]) -> None:
        if self.is_cut:
            self.later(0, partial(done, StoreUnavailable("the registry is away")))
            return
        answers: list[Any] = []
        ask(answers.append)
        self.later(0, partial(done, answers[0]))

    # The port

    def beat(self, node: Node, held: Mapping[int, int], lease_s: float, done: Viewed) -> None:
        self._answer(lambda then: self.registry.beat(node, held, lease_s, then), done)

    def acquire(self, shard: int, node_id: str, lease_s: float, done: Acquired) -> None:
        self._answer(lambda then: self.registry.acquire(shard, node_id, lease_s, then), done)

    def release(self, shard: int, node_id: str, epoch: int, done: Done) -> None:
        self._answer(lambda then: self.registry.release(shard, node_id, epoch, then), done)

    def leave(self, node_id: str, done: Done) -> None:
        self._answer(lambda then: self.registry.leave(node_id, then), done)

    async def close(self) -> None:
        """Nothing waits here."""


class Town:
    """Nodes on one memory registry.

    Args:
        shards: How many there are.
    """

    def __init__(
        self, clock: ManualClock, *, shards: int = 64, options: ClusterOptions | None = None
    ) -> None:
        self.clock = clock
        self.shards = shards
        self.options = options
        self.registry = MemoryRegistry(clock, shards)
        self.nodes: list[Membership] = []
        """The processes that run or are paused."""
        self._lines: dict[Membership, _Line] = {}
        self._started = 0

    def start(self, name: str) -> Membership:
        """Start a process."""
        node = self.make(name)
        node.start()
        return node

    def make(self, name: str) -> Membership:
        """A process that has not started: to set its callbacks first."""
        self._started += 1
        line = _Line(self.registry, self.clock)
        membership = Membership(
            Node(id=f"{name}.{self._started}", name=name, started_ms=self.clock.wall_ms()),
            line,
            self.clock,
            line.later,
            shards=self.shards,
            options=self.options,
        )
        self._lines[membership] = line
        self.nodes.append(membership)
        return membership

    def pause(self, node: Membership) -> None:
        """As SIGSTOP does."""
        self._lines[node].is_paused = True

    def wake(self, node: Membership) -> None:
        """As SIGCONT does; nothing of the node has run yet when this returns."""
        self._lines[node].is_paused = False

    def kill(self, node: Membership) -> None:
        """As SIGKILL does."""
        self.nodes.remove(node)

    def cut(self, node: Membership) -> None:
        """The registry is out of reach for this node."""
        self._lines[node].is_cut = True

    def heal(self, node: Membership) -> None:
        self._lines[node].is_cut = False

    def settle(self) -> None:
        """Run everything that is due now."""
        for node in list(self.nodes):
            self._lines[node].run_due()

    def advance(self, seconds: float, step_s: float = 0.05, look: Callable[[], None] = lambda: None) -> None:
        """Let time pass in steps; ``look`` is called after each."""
        self.settle()
        for _ in range(max(1, round(seconds / step_s))):
            self.clock.advance(step_s)
            self.settle()
            look()

    def holders(self, shard: int) -> list[Membership]:
        """Who would work on a shard now, paused ones included: one at most, ever."""
        return [node for node in self.nodes if node.holds(shard)]
