"""Leases, shares and what nodes believe, in virtual time."""

import random
from collections.abc import Callable

import pytest

from heartcast.cluster.membership import Membership
from heartcast.cluster.options import ClusterOptions
from heartcast.testing import ManualClock
from heartcast.testing.cluster import Town


@pytest.fixture
def town(clock: ManualClock) -> Town:
    return Town(clock)


def held(*nodes: Membership) -> list[int]:
    return [len(node.held()) for node in nodes]


def check_one_owner(town: Town) -> None:
    for shard in range(town.shards):
        assert len(town.holders(shard)) <= 1, f"shard {shard} is worked by two"


def test_a_node_that_is_alone_owns_everything_at_once(town: Town) -> None:
    alone = town.start("alone")
    town.settle()
    assert held(alone) == [64]
    assert alone.owner_of(7) == alone.node
    assert alone.epoch_of(7) == 1


def test_nodes_that_come_get_their_share_and_no_more_than_must_moves(town: Town) -> None:
    first = town.start("first")
    town.advance(2)
    second = town.start("second")
    town.advance(3)
    assert held(first, second) == [32, 32]
    third = town.start("third")
    gained = first.gained, second.gained
    town.advance(4, look=lambda: check_one_owner(town))
    assert sorted(held(first, second, third)) == [21, 21, 22]
    assert (first.gained, second.gained) == gained, "those who give get nothing"
    assert third.gained == 21
    assert first.lost + second.lost == 0


def test_every_node_sees_the_same_nodes_owners_and_ring(town: Town) -> None:
    nodes = [town.start(name) for name in ("a", "b", "c", "d")]
    town.advance(5)
    assert len({tuple(node.owner_of(shard) for shard in range(64)) for node in nodes}) == 1
    assert len({node.ring.version for node in nodes}) == 1
    assert [node.id for node in nodes[0].nodes()] == sorted(node.node for node in nodes)
    assert len({node.node_of("u456").id for node in nodes}) == 1


def test_a_dead_nodes_shards_are_elsewhere_within_six_seconds(town: Town) -> None:
    first, second, third = (town.start(name) for name in ("a", "b", "c"))
    town.advance(5)
    town.kill(second)
    for _ in range(120):
        town.advance(0.05)
        if sum(held(first, third)) == 64:
            break
    assert held(first, third) == [32, 32]
    assert len(first.nodes()) == 2


def test_shards_of_a_node_that_leaves_are_taken_as_soon_as_the_others_are_told(town: Town) -> None:
    first, second, third = (town.start(name) for name in ("a", "b", "c"))
    town.advance(5)

    def tell() -> None:
        second.look_now()
        third.look_now()

    first.on_news = tell
    left: list[bool] = []
    first.leave(lambda: left.append(True))
    town.settle()
    assert left == [True]
    assert held(second, third) == [32, 32]
    check_one_owner(town)


def test_a_node_that_comes_says_so_once_and_gets_its_share_before_anybody_had_to_look(town: Town) -> None:
    first = town.start("a")
    town.advance(5)
    second = town.make("b")
    said: list[bool] = []

    def tell() -> None:
        said.append(True)
        first.look_now()

    second.on_news = tell
    first.on_news = second.look_now
    second.start()
    for _ in range(4):  # there and back, twice
        town.settle()
    assert held(first, second) == [32, 32]
    town.advance(3)
    assert said == [True]


def test_a_node_that_is_told_to_look_before_it_started_or_after_it_left_does_nothing(town: Town) -> None:
    node = town.make("a")
    node.look_now()
    town.settle()
    assert held(node) == [0]
    node.start()
    town.settle()
    node.leave(lambda: None)
    town.settle()
    node.look_now()
    town.advance(2)
    assert held(node) == [0]
    other = town.start("b")
    town.advance(2)
    assert other.nodes() == [other.me], "it said nothing more"


def test_a_node_that_was_paused_beyond_its_lease_believes_nothing_when_it_wakes(town: Town) -> None:
    first, second = town.start("a"), town.start("b")
    town.advance(5)
    losses: list[int] = []
    second.on_loss = losses.append
    shards = second.held()
    town.pause(second)
    town.advance(10, look=lambda: check_one_owner(town))
    assert held(first) == [64]

    town.wake(second)
    assert not any(second.holds(shard) for shard in range(64)), "before anything of it has run"
    town.settle()
    assert sorted(losses) == shards
    town.advance(4, look=lambda: check_one_owner(town))
    assert held(first, second) == [32, 32], "it is back with a share"
    assert all(second.epoch_of(shard) > 1 for shard in second.held())


def test_a_node_that_cannot_renew_stops_before_its_lease_ends(town: Town) -> None:
    node = town.start("a")
    town.advance(2)
    town.cut(node)
    lost_at: list[float] = []
    node.on_loss = lambda shard: lost_at.append(town.clock.monotonic_s())
    began_s = town.clock.monotonic_s()
    while node.held():
        town.advance(0.05)
    assert len(lost_at) == 64
    leases_end_s = began_s + node.options.lease_s
    assert leases_end_s - 2 * node.options.renew_s <= max(lost_at) <= leases_end_s - 0.2
    assert node.owner_of(3) is None
    town.heal(node)
    town.advance(1)
    assert held(node) == [64]


def test_a_cut_of_two_renewals_costs_nothing(town: Town) -> None:
    nodes = [town.start("a"), town.start("b")]
    town.advance(5)
    town.cut(nodes[0])
    town.advance(2)
    town.heal(nodes[0])
    town.advance(5)
    assert held(*nodes) == [32, 32]
    assert nodes[0].lost == 0


def test_a_shard_is_handed_over_only_when_its_work_is_finished(town: Town) -> None:
    first = town.make("a")
    under_way: dict[int, Callable[[], None]] = {}
    first.on_release = under_way.__setitem__
    first.start()
    town.advance(2)
    second = town.start("b")
    town.advance(3)
    assert (len(under_way), held(first, second)) == (32, [64, 0])
    for finish in under_way.values():
        finish()
        finish()  # saying it twice does nothing
    town.advance(2)
    assert held(first, second) == [32, 32]
    assert (first.released, first.lost) == (32, 0)


def test_work_that_does_not_finish_in_time_is_cut_off(town: Town) -> None:
    first = town.make("a")
    losses: list[int] = []
    first.on_release = lambda shard, finished: None
    first.on_loss = losses.append
    first.start()
    town.advance(2)
    second = town.start("b")
    town.advance(first.options.release_s + 4, look=lambda: check_one_owner(town))
    assert (len(losses), held(first, second)) == (32, [32, 32])


def test_a_leaving_node_hands_everything_over_and_is_off_the_list(town: Town) -> None:
    first, second = town.start("a"), town.start("b")
    town.advance(5)
    left: list[bool] = []
    first.leave(lambda: left.append(True))
    first.leave(lambda: left.append(True))
    town.advance(2, look=lambda: check_one_owner(town))
    assert left == [True]
    assert held(first, second) == [0, 64]
    assert [node.name for node in second.nodes()] == ["b"]
    assert first.lost == 0


def test_a_leaving_node_keeps_its_leases_while_its_work_is_finished(town: Town) -> None:
    first = town.make("a")
    under_way: dict[int, Callable[[], None]] = {}
    first.on_release = under_way.__setitem__
    first.start()
    town.advance(1)
    left: list[bool] = []
    first.leave(lambda: left.append(True))
    town.advance(8)
    assert (left, len(first.held())) == ([], 64)
    for finish in under_way.values():
        finish()
    town.settle()
    assert left == [True]


def test_a_leaving_node_leads_nobody_to_itself(town: Town) -> None:
    first, second = town.make("a"), town.start("b")
    first.on_release = lambda shard, finished: None
    first.start()
    town.advance(3)
    first.leave(lambda: None)
    town.advance(2)
    assert {second.node_of(f"u{n}").name for n in range(50)} == {"b"}


def test_a_restarted_node_is_led_to_by_its_name_again(town: Town) -> None:
    nodes = [town.start(name) for name in ("a", "b", "c")]
    town.advance(4)
    keys = [f"u{n}" for n in range(200)]
    before = [nodes[0].node_of(key).name for key in keys]
    town.kill(nodes[1])
    again = town.start("b")
    town.advance(1.5)
    assert nodes[0].node_of(keys[before.index("b")]).id == again.node, "the younger of two with one name"
    town.advance(8)
    assert [nodes[0].node_of(key).name for key in keys] == before


def test_a_registry_that_forgot_everything_makes_no_two_owners(town: Town) -> None:
    nodes = [town.start(name) for name in ("a", "b", "c")]
    town.advance(5)
    # As FLUSHALL does, or a server that came back empty.
    town.registry.__init__(town.clock, town.shards)  # type: ignore[misc]
    town.advance(12, look=lambda: check_one_owner(town))
    assert sum(held(*nodes)) == 64
    assert max(held(*nodes)) <= 22


def test_a_lease_that_ends_before_its_time_is_not_taken_at_once(town: Town) -> None:
    first, second = town.start("a"), town.start("b")
    town.advance(5)
    town.cut(first)  # it goes on believing in its leases
    town.advance(0.2)
    for shard in town.registry._shards:
        if shard.owner == first.node:
            shard.until_s = 0  # the registry's clock jumped
    town.advance(10, look=lambda: check_one_owner(town))
    assert held(second) == [64]


def test_one_listener_that_raises_does_not_cost_the_leases(clock: ManualClock) -> None:
    def broken(*told: object) -> None:
        raise RuntimeError("a listener's own fault")

    town = Town(clock, shards=2)
    node = town.make("a")
    node.on_gain = broken
    node.on_change.append(broken)
    node.start()
    town.advance(10)
    assert held(node) == [2]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_no_shard_has_two_owners_and_calm_brings_floor_or_ceil(
    clock: ManualClock, seed: int
) -> None:
    chance = random.Random(seed)
    town = Town(clock, shards=16, options=ClusterOptions(lease_s=2, renew_s=0.5, margin_s=0.3))
    epochs: dict[int, list[int]] = {shard: [] for shard in range(16)}
    for _ in range(60):
        what = chance.choice(["start", "kill", "pause", "wake", "cut", "heal", "leave", "wait"])
        if what == "start" and len(town.nodes) < 6:
            node = town.make(f"n{chance.randrange(8)}")
            node.on_gain = lambda shard, epoch: epochs[shard].append(epoch)
            node.start()
        elif what == "leave" and town.nodes:
            chance.choice(town.nodes).leave(lambda: None)
        elif what in ("kill", "pause", "wake", "cut", "heal") and town.nodes:
            getattr(town, what)(chance.choice(town.nodes))
        town.advance(chance.choice([0.05, 0.3, 1, 3]), look=lambda: check_one_owner(town))
    for node in town.nodes:
        town.wake(node)
        town.heal(node)
    town.start("calm")
    town.advance(15, look=lambda: check_one_owner(town))
    counts = held(*[node for node in town.nodes if not node.me.is_leaving])
    assert sum(counts) == 16
    assert max(counts) - min(counts) <= 1
    for seen in epochs.values():
        assert seen == sorted(set(seen)), "an epoch was given twice"


def test_a_shard_is_long_unowned_only_after_a_dead_node_should_have_been_replaced(town: Town) -> None:
    first, second = town.start("a"), town.start("b")
    seen: list[int] = []
    town.advance(5, look=lambda: seen.extend(first.long_unowned()))
    town.kill(second)
    town.advance(8, look=lambda: seen.extend(first.long_unowned()))
    assert seen == []

    def refuse(shard: int, node_id: str, lease_s: float, done: Callable[[None], None]) -> None:
        done(None)

    town.registry.acquire = refuse  # type: ignore[method-assign, assignment]
    first.leave(lambda: None)
    third = town.start("c")
    town.advance(8)
    assert third.long_unowned() == list(range(64))
