"""Whose hearts count: budgets from the narrow to the wide, and the rule of speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.hearts.abuse import AbuseGuard, Giver
from heartcast.hearts.options import AbuseOptions

S = 1_000_000_000


def guard(**changed: object) -> AbuseGuard:
    # Slow enough between hearts that speed says nothing, unless a test is about speed.
    return AbuseGuard(AbuseOptions(**{"velocity_run": 1000, "velocity_gap_s": 0.01, **changed}))  # type: ignore[arg-type]


def giver(user: str, *, device: str = "", prefix: str = "203.0.113.0/24", is_visitor: bool = False) -> Giver:
    return Giver(user, device, prefix, is_visitor)


def reasons(
    guard: AbuseGuard, givers: list[Giver], *, every_s: float = 1.0, start_s: float = 0
) -> list[str | None]:
    return [
        guard.judge(one, f"post_{at}", now_ns=round((start_s + at * every_s) * S), now_ms=at)
        for at, one in enumerate(givers)
    ]


def test_an_office_behind_one_address_is_not_blocked() -> None:
    subject = AbuseGuard(AbuseOptions())
    # 400 people, 10 articles each, within a quarter of an hour.
    office = [giver(f"employee {person}") for _ in range(10) for person in range(400)]

    assert set(reasons(subject, office, every_s=0.225)) == {None}


def test_a_script_in_the_office_takes_nothing_from_the_colleagues() -> None:
    subject = AbuseGuard(AbuseOptions(per_prefix="1000/h burst 1000"))
    script = reasons(subject, [giver("script")] * 5000, every_s=0.01)
    colleagues = reasons(subject, [giver(f"employee {n}") for n in range(500)], start_s=60)

    assert script.count(None) == 20
    assert set(colleagues) == {None}


def test_a_user_has_an_own_budget_which_comes_back() -> None:
    subject = guard(per_user="60/min burst 5")
    assert reasons(subject, [giver("u1")] * 7, every_s=0.02) == [None] * 5 + ["user"] * 2
    assert reasons(subject, [giver("u2")]) == [None]
    assert reasons(subject, [giver("u1")], start_s=10) == [None]


def test_a_device_has_an_own_budget_whoever_is_signed_in_there() -> None:
    subject = guard(per_device="60/h burst 3")
    several = [giver(f"account {n}", device="d1") for n in range(5)]

    assert reasons(subject, several) == [None, None, None, "device", "device"]
    assert reasons(subject, [giver("account 9", device="d2")], start_s=5) == [None]


def test_invented_visitors_use_up_the_visitors_budget_and_not_the_peoples() -> None:
    subject = guard(visitors_per_prefix="60/h burst 3", per_prefix="60/h burst 3")
    visitors = [giver(f"visitor-{n}", device=f"visitor-{n}", is_visitor=True) for n in range(5)]

    assert reasons(subject, visitors) == [None, None, None, "visitors", "visitors"]
    assert reasons(subject, [giver(f"u{n}") for n in range(4)], start_s=5) == [None, None, None, "prefix"]


def test_networks_and_targets_have_budgets_of_their_own() -> None:
    subject = guard(per_prefix="60/h burst 2", per_target="60/h burst 3")

    def judge(prefix: str, target: str) -> str | None:
        return subject.judge(giver(f"{prefix} {target}", prefix=prefix), target, now_ns=S, now_ms=0)

    assert [judge("a", "hot"), judge("a", "x"), judge("a", "y")] == [None, None, "prefix"]
    assert [judge("b", "hot"), judge("c", "hot"), judge("d", "hot")] == [None, None, "target"]
    assert judge("e", "cold") is None


def test_a_run_that_is_too_fast_for_a_person_is_a_scripts_until_it_rests() -> None:
    subject = guard(velocity_run=5, velocity_gap_s=0.25, velocity_rest_s=60.0)

    assert reasons(subject, [giver("u1")] * 8, every_s=0.1) == [None] * 5 + ["velocity"] * 3
    # Slowing down is not enough, resting is.
    assert reasons(subject, [giver("u1")] * 3, every_s=5, start_s=10) == ["velocity"] * 3
    assert reasons(subject, [giver("u1")] * 3, every_s=5, start_s=100) == [None] * 3


def test_a_person_may_be_quick_now_and_then() -> None:
    subject = guard(velocity_run=5, velocity_gap_s=0.25)
    quick_then_reading = [0.0, 0.1, 0.2, 0.3, 1.0, 1.1, 1.2, 1.3, 3.0, 3.1]

    found = [subject.judge(giver("u1"), "t", now_ns=round(at_s * S), now_ms=0) for at_s in quick_then_reading]

    assert set(found) == {None}


def test_what_was_shadowed_is_counted_by_reason_and_kept_for_operators() -> None:
    subject = guard(per_user="60/h burst 1")
    reasons(subject, [giver("u1")] * 300)

    assert (subject.judged, subject.shadowed["user"]) == (300, sum(subject.shadowed.values()))
    assert len(subject.recent) == 200
    newest = subject.recent[-1]
    assert (newest.reason, newest.giver.user, newest.target_id, newest.at_ms) == (
        "user",
        "u1",
        "post_299",
        299,
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=200))
def test_nobody_ever_gets_more_counted_than_the_budget(steps: list[tuple[str, float]]) -> None:
    subject = guard(per_user="60/min burst 10")
    now_s, counted = 0.0, dict.fromkeys("abc", 0)
    for user, gap_s in steps:
        now_s += gap_s
        counted[user] += subject.judge(giver(user), "t", now_ns=round(now_s * S), now_ms=0) is None

    assert all(count <= 10 + now_s + 1 for count in counted.values())


@pytest.mark.parametrize(
    "changed",
    [{"per_user": "3/day log"}, {"per_prefix": "many"}, {"velocity_run": 2}, {"velocity_rest_s": 0.5}],
)
def test_options_that_mean_nothing_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changed))):
        AbuseOptions(**changed)  # type: ignore[arg-type]
