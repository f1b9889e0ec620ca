"""The Universal Scalability Law, against published figures and against itself."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.errors import InvalidInput
from heartcast.loadtest.usl import Usl, bootstrap, fit, robust_fit, scatter

# The SPEC SDM91 benchmark, the example of the R package usl and of its literature.
SPECSDM91 = [
    (1, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2),
]  # fmt: skip


def test_the_published_example_gives_the_published_coefficients() -> None:
    law = fit(SPECSDM91)
    # Published to five digits; our sum of squares is not larger than that of the published ones.
    assert law.gamma == pytest.approx(89.9955, abs=5e-4)
    assert law.alpha == pytest.approx(0.0277286, abs=5e-7)
    assert law.beta == pytest.approx(0.000104366, abs=1e-9)
    assert law.sse == pytest.approx(27453.720, abs=1e-3)
    assert law.peak_n == pytest.approx(96.5, abs=0.1)


@settings(max_examples=50)
@given(gamma=st.floats(10, 5_000), alpha=st.floats(0, 0.5), beta=st.floats(0, 0.01))
def test_points_on_a_law_give_that_law_back(gamma, alpha, beta) -> None:
    truth = Usl(gamma=gamma, alpha=alpha, beta=beta, sse=0, largest_n=64)
    law = fit([(n, truth.throughput(n)) for n in (1, 2, 4, 8, 16, 32, 64)])
    for n in (1, 10, 64, 100):
        assert law.throughput(n) == pytest.approx(truth.throughput(n), rel=1e-3)


def test_the_intervals_hold_the_coefficients_and_widen_with_the_noise() -> None:
    truth = Usl(gamma=100, alpha=0.05, beta=0.0005, sse=0, largest_n=64)
    random = Random(4)

    def noisy(share: float) -> list[tuple[float, float]]:
        return [
            (n, truth.throughput(n) * random.uniform(1 - share, 1 + share)) for n in (1, 2, 4, 8, 16, 32, 64)
        ]

    calm, wild = noisy(0.01), noisy(0.08)
    narrow = bootstrap(fit(calm), calm, Random(1))
    wide = bootstrap(fit(wild), wild, Random(1))
    assert narrow.gamma.low <= 100 <= narrow.gamma.high
    assert narrow.gamma.high - narrow.gamma.low < wide.gamma.high - wide.gamma.low


def test_it_refuses_to_speak_of_more_than_twice_what_was_measured() -> None:
    law = fit(SPECSDM91)
    assert law.throughput(432) > 0
    with pytest.raises(InvalidInput, match="measured up to N = 216"):
        law.throughput(433)


def test_four_loads_are_too_few() -> None:
    with pytest.raises(InvalidInput, match="needs 5 different loads, got 4"):
        fit([(1, 10), (2, 18), (4, 30), (8, 40), (8, 41)])


def test_throughput_that_grows_more_than_linearly_gives_no_negative_coefficients() -> None:
    law = fit([(1, 10), (2, 25), (4, 60), (8, 140), (16, 300)])
    assert law.alpha >= 0
    assert law.beta >= 0
    assert law.peak_n is None


def test_one_spoiled_load_does_not_bend_the_curve() -> None:
    truth = Usl(gamma=10_000, alpha=0.25, beta=0.0004, sse=0, largest_n=32)
    points = [(n, truth.throughput(n)) for n in (4, 8, 12, 16, 20, 24, 28, 32)]
    points[6] = (28, points[6][1] * 0.6)
    assert robust_fit(points).throughput(48) == pytest.approx(truth.throughput(48), rel=0.02)
    assert abs(fit(points).throughput(48) / truth.throughput(48) - 1) > 0.05


def test_the_scatter_is_how_far_the_points_lie_off() -> None:
    truth = Usl(gamma=100, alpha=0.05, beta=0.0005, sse=0, largest_n=64)
    points = [(n, truth.throughput(n) * (1.04 if n % 3 else 0.96)) for n in (1, 2, 3, 6, 12, 32)]
    assert scatter(truth, points) == pytest.approx(0.04)
