"""A list does not insist: what was shown in vain rests, what was waved away stays away."""

from __future__ import annotations

from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.seen import Seen

HOUR_MS = 3_600_000


def event(kind: Kind, item: str, at_ms: int = 0, user: str = "ann") -> Feedback:
    return Feedback(f"{kind.value}-{item}-{at_ms}", kind, user, item, at_ms)


def seen(tired_after: int = 3) -> Seen:
    return Seen(max_users=2, tired_after=tired_after, rest_s=3600.0)


def test_an_item_shown_often_enough_rests_and_comes_back() -> None:
    some = seen()
    some.apply([event(Kind.EXPOSURE, "a", n) for n in range(2)])
    assert some.hides("ann", 5) == set()

    some.apply([event(Kind.EXPOSURE, "a", 5)])

    assert some.hides("ann", 6) == {"a"}
    assert some.hides("ann", 5 + HOUR_MS) == set()
    some.apply([event(Kind.EXPOSURE, "a", 5 + HOUR_MS)])
    assert some.hides("ann", 6 + HOUR_MS) == set()


def test_a_click_ends_the_count() -> None:
    some = seen()
    some.apply([event(Kind.EXPOSURE, "a", n) for n in range(2)])
    some.apply([event(Kind.CLICK, "a", 3), event(Kind.EXPOSURE, "a", 4)])

    assert some.hides("ann", 5) == set()


def test_what_was_waved_away_stays_away() -> None:
    some = seen()
    some.apply([event(Kind.DISMISSAL, "a")])

    assert some.hides("ann", 10**15) == {"a"}
    assert some.hides("bob", 0) == set()


def test_of_too_many_people_the_one_unmoved_longest_is_forgotten() -> None:
    some = seen()
    for user in ("ann", "bob"):
        some.apply([event(Kind.DISMISSAL, "a", user=user)])
    some.apply([event(Kind.DISMISSAL, "b", user="ann"), event(Kind.DISMISSAL, "a", user="eve")])

    assert some.hides("bob", 0) == set()
    assert some.hides("ann", 0) == {"a", "b"}
    assert len(some) == 2


def test_memory_of_one_person_is_bounded() -> None:
    some = seen(tired_after=1)
    some.apply([event(Kind.EXPOSURE, f"s{n}", n) for n in range(500)])
    some.apply([event(Kind.DISMISSAL, f"d{n}", n) for n in range(2000)])

    hidden = some.hides("ann", 500)
    assert "s499" in hidden
    assert "d1999" in hidden
    assert len(hidden) == 1200
