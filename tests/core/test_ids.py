"""Ids are unique, sort by time, and survive clocks that misbehave."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.ids import IdSource, ShardIds, is_id, shard_in
from heartcast.testing import ManualClock


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=300), st.integers(0, 2**32))
def test_ids_rise_strictly_whatever_the_wall_clock_does(steps_ms: list[int], seed: int) -> None:
    clock = ManualClock()
    source = IdSource(clock, Random(seed))
    ids = []
    for step_ms in steps_ms:
        clock.step_wall(step_ms / 1000)
        ids.append(source.next())

    assert ids == sorted(set(ids))
    assert all(is_id(made) for made in ids)


def test_an_id_starts_with_its_time_so_that_ids_of_two_processes_sort_by_millisecond() -> None:
    clock = ManualClock()
    earlier = IdSource(clock, Random(1)).next()
    clock.advance(0.001)
    later = IdSource(clock, Random(2)).next()

    assert earlier < later
    assert earlier[:9] == later[:9]


def test_two_processes_in_the_same_millisecond_make_different_ids() -> None:
    clock = ManualClock()

    assert IdSource(clock, Random(1)).next() != IdSource(clock, Random(2)).next()


class _AllOnes(Random):
    """Draws the largest number there is, so that the counter starts next to its end."""

    def getrandbits(self, k: int) -> int:
        return (1 << k) - 1


def test_a_counter_at_its_end_borrows_the_next_millisecond() -> None:
    source = IdSource(ManualClock(), _AllOnes())
    first = source.next()
    source._low = (1 << 40) - 1  # as if 2^39 ids had been made in this millisecond

    assert source.next() > first


def test_what_is_not_an_id_is_told_apart() -> None:
    made = IdSource(ManualClock(), Random(1)).next()

    assert not is_id(made.lower())
    assert not is_id(made[:-1])
    assert not is_id(made[:-1] + "U")  # U is not among Crockford's digits


def test_ids_after_a_clock_stepped_back_between_two_processes_are_greater_all_the_same() -> None:
    clock = ManualClock()
    last = IdSource(clock).next()
    clock.step_wall(-3600.0)
    later = IdSource(clock)
    later.skip_past(last)
    first = later.next()
    assert last < first < later.next()


def test_skipping_past_an_old_id_or_none_changes_nothing() -> None:
    clock = ManualClock()
    ids = IdSource(clock)
    ids.skip_past("")
    ids.skip_past("00000000000000000000000000")
    assert ids.next() < IdSource(clock_later(clock)).next()


def clock_later(clock: ManualClock) -> ManualClock:
    return ManualClock(clock.wall_ms() + 2)


def test_ids_of_shards_name_their_shard_and_increase_within_it(clock: ManualClock) -> None:
    source = IdSource(clock)
    shards = [ShardIds(source, shard) for shard in (0, 63, 1023)]
    made: list[list[str]] = [[], [], []]
    for n in range(300):
        for ids, shard in zip(made, shards, strict=True):
            ids.append(shard.next())
        clock.advance(0.001 * (n % 2))
    assert all(is_id(text) for ids in made for text in ids)
    assert [{shard_in(text) for text in ids} for ids in made] == [{0}, {63}, {1023}]
    assert all(ids == sorted(set(ids)) for ids in made)


def test_a_text_that_is_no_id_names_no_shard() -> None:
    assert shard_in("") is None
    assert shard_in("not-an-id-but-26-characters") is None


def test_after_a_takeover_a_shards_ids_go_on_behind_those_of_a_faster_clock(clock: ManualClock) -> None:
    ahead = ManualClock()
    ahead.advance(3600)
    last = ShardIds(IdSource(ahead), 7).next()
    mine = ShardIds(IdSource(clock), 7)
    mine.skip_past(last)
    assert mine.next() > last
