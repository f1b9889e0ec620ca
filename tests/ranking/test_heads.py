"""Measures come from rates or from models of one's own, and a model that fails fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from heartcast.ranking.heads import Heads
from heartcast.ranking.interactions import Floats
from heartcast.ranking.rates import Rates


def twice_the_rate(user_id: str, item_ids: Sequence[str], known: Mapping[str, Floats]) -> Floats:
    return known["ctr"] * 2


def raises(user_id: str, item_ids: Sequence[str], known: Mapping[str, Floats]) -> Floats:
    raise RuntimeError("no model today")


def too_few(user_id: str, item_ids: Sequence[str], known: Mapping[str, Floats]) -> Floats:
    return np.zeros(1)


def rates() -> Rates:
    return Rates(3600.0, 100, 0)


def test_a_model_takes_the_place_of_a_rate() -> None:
    plain = Heads(rates(), {}).measure("ann", ["a", "b"], 0)

    measures = Heads(rates(), {"ctr": twice_the_rate}).measure("ann", ["a", "b"], 0)

    np.testing.assert_allclose(measures["ctr"], plain["ctr"] * 2)
    np.testing.assert_allclose(measures["watch"], plain["watch"])


@pytest.mark.parametrize("model", [raises, too_few])
def test_a_model_that_fails_leaves_the_rate_and_is_reported(model) -> None:
    failures: list[tuple[str, Exception]] = []
    heads = Heads(rates(), {"ctr": model, "mood": model}, lambda name, error: failures.append((name, error)))

    measures = heads.measure("ann", ["a", "b"], 0)

    assert measures["ctr"][0] == pytest.approx(0.05)
    assert np.isnan(measures["mood"]).all()
    assert [name for name, _ in failures] == ["ctr", "mood"]
