"""The last counts that were told, since when they are known, and how many are kept."""

from heartcast.hearts.last_known import LastKnown
from heartcast.hearts.model import Count, HeartChanged, HeartKey
from heartcast.testing import ManualClock


def change(target: str, count: int, version: int, kind: str = "heart") -> HeartChanged:
    return HeartChanged(HeartKey(target, "u1", kind), count, version, 0, 1)


def test_what_was_read_or_changed_last_is_known_in_the_order_asked(clock: ManualClock) -> None:
    subject = LastKnown(clock)
    subject.learn([Count("a", 1, 1), Count("b", 2, 2)], "heart")
    clock.advance(10)
    subject.apply([change("b", 3, 3), change("b", 4, 4)])

    found = subject.find(["b", "nobody", "a"], "heart")

    assert found is not None
    assert found[0] == [Count("b", 4, 4), Count("a", 1, 1)]
    assert clock.wall_ms() - found[1] == 10_000


def test_other_kinds_and_unknown_targets_are_not_known(clock: ManualClock) -> None:
    subject = LastKnown(clock)
    subject.apply([change("a", 1, 1)])

    assert subject.find(["a"], "star") is None
    assert subject.find(["b"], "heart") is None


def test_memory_is_bounded_and_what_was_asked_lately_stays(clock: ManualClock) -> None:
    subject = LastKnown(clock, most=100)
    for number in range(1000):
        subject.learn([Count(f"t{number}", 1, 1), Count("popular", number, number)], "heart")

    known = [number for number in range(1000) if subject.find([f"t{number}"], "heart")]
    assert len(known) <= 102
    assert known[-1] == 999
    assert subject.find(["popular"], "heart") == ([Count("popular", 999, 999)], clock.wall_ms())
