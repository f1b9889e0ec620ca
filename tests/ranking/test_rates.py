"""Rates fade, shrink towards a learnt prior, and never lie about certainty."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking.feedback import Feedback, Kind, confidence
from heartcast.ranking.rates import COLD, Prior, Rates, fit_prior, lower_bound

DAY_MS = 86_400_000
_KINDS = [Kind.EXPOSURE, Kind.CLICK, Kind.CONVERSION, Kind.WATCH]


def rates(max_items: int = 1000, half_life_s: float = 86_400.0) -> Rates:
    return Rates(half_life_s, max_items, landmark_ms=0)


def shown(item: str, times: int, clicks: int = 0, at_ms: int = 0) -> list[Feedback]:
    events = [Feedback(f"e{n}", Kind.EXPOSURE, "u", item, at_ms) for n in range(times)]
    return events + [Feedback(f"c{n}", Kind.CLICK, "u", item, at_ms) for n in range(clicks)]


def test_an_item_nobody_saw_is_expected_to_be_like_the_prior() -> None:
    measures = rates().measures(["unknown"], 0)

    assert measures["ctr"][0] == pytest.approx(COLD["ctr"].mean)
    assert measures["ctcvr"][0] == pytest.approx(COLD["ctcvr"].mean)


def test_one_click_of_one_showing_is_no_rate_of_one() -> None:
    some = rates()
    some.apply(shown("lucky", 1, 1))
    some.apply(shown("proven", 1000, 300))

    ctr = some.measures(["lucky", "proven"], 0)["ctr"]

    assert ctr[0] == pytest.approx(2 / 21)
    assert ctr[1] == pytest.approx(301 / 1020)


def test_conversions_are_counted_over_showings() -> None:
    some = rates()
    some.apply(shown("item", 1000, 100))
    some.apply([Feedback(f"b{n}", Kind.CONVERSION, "u", "item", 0) for n in range(10)])

    measures = some.measures(["item"], 0)

    assert measures["ctcvr"][0] == pytest.approx(11 / 2000)
    assert measures["cvr"][0] == pytest.approx(measures["ctcvr"][0] / measures["ctr"][0])


def test_what_happened_a_half_life_ago_counts_half() -> None:
    some = rates()
    some.apply(shown("item", 100, 50))

    assert some.exposures(["item"], DAY_MS)[0] == pytest.approx(50)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3000)), min_size=1, max_size=60)
)
@settings(max_examples=100, deadline=None)
def test_fading_counts_equal_a_recount_of_all_events(drawn: list[tuple[int, int, int]]) -> None:
    some = rates(half_life_s=3600.0)
    # Up to 3000 half-lives: the landmark has to move on the way.
    events = [
        Feedback(str(n), _KINDS[kind], "u", f"i{item}", hours * 3_600_000, 7.0)
        for n, (kind, item, hours) in enumerate(drawn)
    ]
    now_ms = max(event.at_ms for event in events)
    some.apply(events)

    for item in range(4):
        expected = sum(
            2 ** -((now_ms - event.at_ms) / 3_600_000)
            for event in events
            if event.item_id == f"i{item}" and event.kind is Kind.EXPOSURE
        )
        assert some.exposures([f"i{item}"], now_ms)[0] == pytest.approx(expected, abs=1e-9)


def test_applying_in_pieces_equals_applying_at_once() -> None:
    random = Random(3)
    events = [
        Feedback(
            str(n), random.choice(_KINDS), "u", f"i{random.randrange(30)}", random.randrange(DAY_MS * 9), 3.0
        )
        for n in range(2000)
    ]
    whole, parts = rates(), rates()
    whole.apply(events)
    for start in range(0, len(events), 17):
        parts.apply(events[start : start + 17])

    ids = [f"i{n}" for n in range(30)]
    for name, values in whole.measures(ids, DAY_MS * 9).items():
        np.testing.assert_allclose(parts.measures(ids, DAY_MS * 9)[name], values, rtol=1e-9)


def test_the_prior_finds_the_spread_that_the_items_were_made_with() -> None:
    rng = np.random.default_rng(5)
    true = rng.beta(4.0, 76.0, size=400)
    trials = rng.integers(50, 2000, size=400).astype(np.float64)
    clicks = rng.binomial(trials.astype(int), true).astype(np.float64)

    prior = fit_prior(clicks, trials, COLD["ctr"])

    assert prior.mean == pytest.approx(0.05, abs=0.005)
    assert 50 < prior.a + prior.b < 120


def test_items_that_do_not_differ_get_a_prior_that_hardly_moves() -> None:
    prior = fit_prior(np.full(50, 10.0), np.full(50, 200.0), COLD["ctr"])

    assert prior.a + prior.b == pytest.approx(1e4)


def test_too_little_to_learn_from_leaves_the_cold_prior() -> None:
    assert fit_prior(np.array([1.0]), np.array([5.0]), Prior(1, 9)) == Prior(1, 9)
    assert fit_prior(np.zeros(0), np.zeros(0), Prior(1, 9)) == Prior(1, 9)


def test_the_best_are_those_with_proof() -> None:
    some = rates()
    some.apply(shown("lucky", 1, 1))
    some.apply(shown("proven", 100, 90))
    some.apply(shown("poor", 100, 1))

    assert [item for item, _ in some.best(3, 0)] == ["proven", "lucky", "poor"]
    assert some.best(1, 0)[0][1] == pytest.approx(0.826, abs=0.001)


def test_the_lower_bound_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    bound = lower_bound(np.array([81.0, 15.0, 0.0, 1.0]), np.array([263.0, 148.0, 20.0, 29.0]))

    np.testing.assert_allclose(bound, [0.2553, 0.0624, 0.0, 0.0061], atol=5e-5)


def test_the_least_shown_make_room_when_there_are_too_many() -> None:
    some = rates(max_items=64)
    for n in range(100):
        some.apply(shown(f"i{n}", n + 1))

    assert len(some) <= 64
    assert some.exposures(["i99"], 0)[0] == 100
    assert some.exposures(["i0"], 0)[0] == 0


def test_clicks_without_showings_never_make_a_rate_above_one() -> None:
    some = rates()
    some.apply([Feedback(str(n), Kind.CLICK, "u", "i", 0) for n in range(1000)])

    assert 0 < some.measures(["i"], 0)["ctr"][0] < 1


def test_a_glance_says_little_and_a_minute_says_as_much_as_the_weight() -> None:
    def watched(seconds: float) -> float:
        return confidence(Feedback("1", Kind.WATCH, "u", "i", 0, seconds), {"watch": 0.8})

    assert watched(1) == pytest.approx(0.16)
    assert watched(60) == pytest.approx(0.8)
    assert watched(3600) == pytest.approx(0.8)
    assert watched(1) <= watched(3) <= watched(30) <= watched(60)
    assert confidence(Feedback("1", Kind.EXPOSURE, "u", "i", 0), {"click": 0.3}) == 0
