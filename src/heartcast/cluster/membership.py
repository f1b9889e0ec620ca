"""This node's leases, and what everybody holds.

Once a second the node tells the registry that it is there, renews the leases of its shards,
and looks around. From what it sees it computes everybody's shares: what is assigned to it and
free it acquires, what is beyond its share it gives back once the work under way is finished.

A lease counts from the moment its renewal was *sent*, by the monotonic clock, and less a
margin. So it ends here before it ends in the registry; a process that was paused finds, when it
wakes, that ``holds`` is false before it has done anything. A shard whose owner was seen with
time left is not acquired before that time is over by this node's own clock either, and none at
all for a lease after the registry may have lost something: neither a jump of its clock nor a
restart makes two owners.

What it does not do: decide anything for others. A node that disagrees about the shares for a
moment acquires nothing that somebody holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from heartcast.cluster.node import Node
from heartcast.cluster.options import ClusterOptions
from heartcast.cluster.registry import Registry, View
from heartcast.cluster.ring import Ring
from heartcast.cluster.shares import shares
from heartcast.core.clock import Clock
from heartcast.core.errors import StoreUnavailable

LOOK_S = 0.25
"""Between two looks at the clock: a lease that ended is noticed so late at most."""

_log = structlog.get_logger("heartcast")


class _Timer(Protocol):
    def cancel(self) -> Any: ...


class _Held:
    """A shard of ours."""

    __slots__ = ("epoch", "released_by_s", "until_s")

    def __init__(self, epoch: int, until_s: float) -> None:
        self.epoch = epoch
        self.until_s = until_s
        self.released_by_s: float | None = None
        """While it is handed over: when it is given up, finished or not."""


class Membership:
    """One per node. ``start`` it, and ``leave`` at the end.

    All callbacks are called on the loop, and none before ``start``.

    Args:
        node: Who we are.
        shards: How many there are.
        later: Calls back after so many seconds (``loop.call_later``).
    """

    def __init__(
        self,
        node: Node,
        registry: Registry,
        clock: Clock,
        later: Callable[[float, Callable[[], Any]], _Timer],
        *,
        shards: int,
        options: ClusterOptions | None = None,
    ) -> None:
        self.me = node
        self.shards = shards
        self.options = options or ClusterOptions()
        self._registry = registry
        self._now_s = clock.monotonic_s
        self._later = later
        self._timer: _Timer | None = None
        self._nodes: list[Node] = [node]
        self._owners: dict[int, str] = {}
        self._held: dict[int, _Held] = {}
        self._not_before_s: dict[int, float] = {}
        self._life: str | None = None
        self._idle_until_s = 0.0
        self._unowned_since_s: dict[int, float] = {}
        self._acquiring: set[int] = set()
        self._beat_due_s = 0.0
        self._is_beating = False
        self._is_failing = False
        self._left: Callable[[], None] | None = None
        self.seen_s: float | None = None
        """Monotonic time at which the last view was asked for; None: none came yet."""
        self.ring = Ring([node.name])
        """Of the names of the living nodes that are not leaving."""
        self.on_gain: Callable[[int, int], None] = _nothing_gained
        """(shard, epoch): it is ours from now on."""
        self.on_loss: Callable[[int], None] = _nothing_lost
        """Stop at once: it may be somebody else's already."""
        self.on_release: Callable[[int, Callable[[], None]], None] = _nothing_under_way
        """Hand a shard over on purpose: finish what is under way, then call back. Until then, and
        for ``release_s`` at most, it is ours; afterwards nothing more is said about it, but
        ``on_loss`` when the time was not enough."""
        self.on_news: Callable[[], None] = _nothing_more
        """We came, or a shard of ours is free now: tell the others, who would look in ``renew_s`` only."""
        self.on_change: list[Callable[[], None]] = []
        """Called when nodes or owners are others than before."""
        self.gained = 0
        self.lost = 0
        """Shards lost against our will: a lease ended, or somebody else has it."""
        self.released = 0
        self.failures = 0
        """Beats that got no answer."""

    @property
    def node(self) -> str:
        """Id of this node, new every start."""
        return self.me.id

    def nodes(self) -> list[Node]:
        """The living nodes, sorted by id; this one is always among them."""
        return self._nodes

    def find(self, node_id: str) -> Node | None:
        """A living node; None when it is not known or gone."""
        return next((node for node in self._nodes if node.id == node_id), None)

    def node_of(self, key: str) -> Node:
        """Where a user or an item is best served: by the ring, never by a leaving node while
        another is there. The younger one where two have one name."""
        name = self.ring.node_of(key)
        named = [node for node in self._nodes if node.name == name]
        return max(named, key=lambda node: node.started_ms, default=self.me)

    def owner_of(self, shard: int) -> str | None:
        """Id of the node that owns a shard, as it was last seen; None: nobody, or not known."""
        if self.holds(shard):
            return self.me.id
        owner = self._owners.get(shard)
        return None if owner == self.me.id else owner

    def epoch_of(self, shard: int) -> int:
        """Epoch of our lease on this shard; 0 when we have none."""
        held = self._held.get(shard)
        return 0 if held is None else held.epoch

    def holds(self, shard: int) -> bool:
        """Whether our lease is valid now. Ask before every outgoing call."""
        held = self._held.get(shard)
        return held is not None and self._now_s() < held.until_s

    def held(self) -> list[int]:
        """The shards whose lease is valid now."""
        return [shard for shard in self._held if self.holds(shard)]

    def introduce(self, **fields: str) -> None:
        """Say more about ourselves than was known when we were made; before ``start``."""
        self.me = msgspec.structs.replace(self.me, **fields)
        self._nodes = [self.me]
        self.ring = Ring([self.me.name])

    def long_unowned(self) -> list[int]:
        """Shards that nobody owned for longer than a hand-over or a dead node explains."""
        if self.seen_s is None:
            return []
        before_s = self._now_s() - self.options.lease_s - 2 * self.options.renew_s
        return [shard for shard, since_s in sorted(self._unowned_since_s.items()) if since_s < before_s]

    # The clock's side

    def start(self) -> None:
        """Say that we are there, and go on saying it."""
        self._look()

    def look_now(self) -> None:
        """Another node says that there is something to take: look before it is time to."""
        if self._timer is None:
            return  # not started, or gone
        self._beat_due_s = 0.0
        if not self._is_beating:
            self._beat(self._now_s())

    def _look(self) -> None:
        self._timer = self._later(LOOK_S, self._look)
        now_s = self._now_s()
        self._drop_ended(now_s)
        self._give_up_late(now_s)
        if not self._is_beating and now_s >= self._beat_due_s:
            self._beat(now_s)

    def _drop_ended(self, now_s: float) -> None:
        ended = [shard for shard, held in self._held.items() if now_s >= held.until_s]
        self._lose(ended, "their leases were not renewed in time")

    def _give_up_late(self, now_s: float) -> None:
        late = {
            shard: held.epoch
            for shard, held in self._held.items()
            if held.released_by_s is not None and now_s >= held.released_by_s
        }
        self._lose(list(late), "their work was not finished in time to hand them over")
        for shard, epoch in late.items():
            self._registry.release(shard, self.me.id, epoch, _whatever)

    def _lose(self, shards: list[int], why: str) -> None:
        if not shards:
            return
        _log.warning("shards lost", shards=shards, reason=why)
        for shard in shards:
            del self._held[shard]
            self.lost += 1
            self._call(partial(self.on_loss, shard))
        self._see_end()

    # The registry's side

    def _beat(self, now_s: float) -> None:
        self._is_beating = True
        # Also after a failure: a registry that is away is not asked more often than one that is there.
        self._beat_due_s = now_s + self.options.renew_s
        held = {shard: held.epoch for shard, held in self._held.items()}
        self._registry.beat(self.me, held, self.options.lease_s, partial(self._viewed, now_s, held))

    def _viewed(self, sent_s: float, asked: dict[int, int], view: View | StoreUnavailable) -> None:
        self._is_beating = False
        if isinstance(view, StoreUnavailable):
            self.failures += 1
            self._beat_due_s = 0.0  # the next look tries again
            if not self._is_failing:
                _log.error("the registry of nodes does not answer; trying again", reason=view.detail)
            self._is_failing = True
            return
        self._is_failing = False
        is_first = self.seen_s is None
        self.seen_s = sent_s
        self._renewed(sent_s, asked, view)
        self._see(view)
        self._plan()
        if is_first:
            self._call(self.on_news)
        if not self._beat_due_s and self._timer is not None:
            self._beat(self._now_s())  # asked for while this view was under way

    def _renewed(self, sent_s: float, asked: dict[int, int], view: View) -> None:
        until_s = self._until_s(sent_s)
        lost: list[int] = []
        for shard, epoch in asked.items():
            held = self._held.get(shard)
            if held is None or held.epoch != epoch:
                continue  # lost or gained anew meanwhile
            if shard in view.renewed:
                held.until_s = until_s
            else:
                lost.append(shard)
        self._lose(lost, "other nodes have them")

    def _until_s(self, sent_s: float) -> float:
        return sent_s + self.options.lease_s - self.options.margin_s

    def _see(self, view: View) -> None:
        now_s = self._now_s()
        if self._life not in (None, view.life):
            # Whoever acquired something that the registry forgot believes in it for a lease at most.
            self._idle_until_s = now_s + self.options.lease_s
        self._life = view.life
        for shard in self._owners.keys() - view.leases.keys() - view.given_back:
            if now_s < self._not_before_s.get(shard, 0.0):
                # Gone before its time: the registry's clock jumped, or it lost what it knew. The
                # owner may have renewed since we looked last, and believes in it for that long.
                self._not_before_s[shard] = now_s + self.options.lease_s
        for shard, lease in view.leases.items():
            self._not_before_s[shard] = now_s + lease.left_s
        for shard in view.given_back:
            self._not_before_s.pop(shard, None)
        for shard in range(self.shards):
            if shard in view.leases:
                self._unowned_since_s.pop(shard, None)
            else:
                self._unowned_since_s.setdefault(shard, now_s)
        nodes = list(view.nodes)
        owners = {shard: lease.node for shard, lease in view.leases.items()}
        if nodes == self._nodes and owners == self._owners:
            return
        self._nodes, self._owners = nodes, owners
        staying = [node.name for node in nodes if not node.is_leaving]
        self.ring = Ring(staying or [self.me.name])
        self._tell_change()

    def _tell_change(self) -> None:
        for told in self.on_change:
            self._call(told)

    # What is ours to do

    def _plan(self) -> None:
        wanted = shares([node.id for node in self._nodes if not node.is_leaving], self._owners, self.shards)
        now_s = self._now_s()
        for shard in range(self.shards):
            is_wanted = wanted.get(shard) == self.me.id and not self.me.is_leaving
            if is_wanted and shard not in self._held:
                self._acquire(shard, now_s)
            elif not is_wanted and shard in self._held:
                self._hand_over(shard, now_s)

    def _acquire(self, shard: int, now_s: float) -> None:
        owner = self._owners.get(shard)
        if shard in self._acquiring or owner not in (None, self.me.id) or now_s < self._idle_until_s:
            return
        if owner is None and now_s < self._not_before_s.get(shard, 0.0):
            return
        self._acquiring.add(shard)
        self._registry.acquire(shard, self.me.id, self.options.lease_s, partial(self._acquired, shard, now_s))

    def _acquired(self, shard: int, sent_s: float, epoch: int | StoreUnavailable | None) -> None:
        self._acquiring.discard(shard)
        if epoch is None or isinstance(epoch, StoreUnavailable):
            return  # the next view says what became of it
        until_s = self._until_s(sent_s)
        if self.me.is_leaving or self._now_s() >= until_s:
            # We are on our way out, or the answer came too late to count on it.
            self._registry.release(shard, self.me.id, epoch, _whatever)
            return
        self._held[shard] = _Held(epoch, until_s)
        self._owners[shard] = self.me.id
        self._unowned_since_s.pop(shard, None)
        self.gained += 1
        self._call(partial(self.on_gain, shard, epoch))
        self._tell_change()

    def _hand_over(self, shard: int, now_s: float) -> None:
        held = self._held[shard]
        if held.released_by_s is not None:
            return  # under way
        held.released_by_s = now_s + self.options.release_s
        self._call(partial(self.on_release, shard, partial(self._finished, shard, held)))

    def _finished(self, shard: int, held: _Held) -> None:
        if self._held.get(shard) is not held:
            return  # it was lost before it was finished
        del self._held[shard]
        self.released += 1
        self._owners.pop(shard, None)
        self._registry.release(shard, self.me.id, held.epoch, self._given_back)

    def _given_back(self, answer: object) -> None:
        self._call(self.on_news)
        self._see_end()

    # The end

    def leave(self, left: Callable[[], None]) -> None:
        """Take no shards any more, hand over what we hold, and then go.

        ``left`` is called once, when the registry does not know us any more or could not be told;
        after ``release_s`` and a little at the latest. Repeating it does nothing.
        """
        if self._left is not None:
            return
        self._left = left
        self.me = msgspec.structs.replace(self.me, is_leaving=True)
        now_s = self._now_s()
        # So that the others see us leaving, and take what we give back, at once.
        self._registry.beat(self.me, {}, self.options.lease_s, _whatever)
        for shard in list(self._held):
            if shard in self._held:
                self._hand_over(shard, now_s)
        self._see_end()

    def _see_end(self) -> None:
        if self._left is None or self._held:
            return
        left, self._left = self._left, _nothing_more
        if left is not _nothing_more:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._registry.leave(self.me.id, lambda _: left())

    def _call(self, told: Callable[[], None]) -> None:
        # One listener that raises must not keep the leases from being renewed.
        try:
            told()
        except Exception:
            _log.exception("a change of the cluster was not taken")


def _nothing_gained(shard: int, epoch: int) -> None:
    """Nobody works on shards."""


def _nothing_lost(shard: int) -> None:
    """Nobody works on shards."""


def _nothing_under_way(shard: int, finished: Callable[[], None]) -> None:
    finished()


def _nothing_more() -> None:
    """Nobody waits for it, or not any more."""


def _whatever(answer: object) -> None:
    """A lease that was not given back ends by itself."""
