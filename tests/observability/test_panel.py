"""The live panel: rates from counters, without a clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.observability.panel import KEPT, Panel


class Traffic:
    hearts = 0
    connections = 0
    p99_ms: float | None = None


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def panel(traffic: Traffic) -> Panel:
    return Panel(
        {"hearts": lambda: traffic.hearts},
        {"connections": lambda: traffic.connections, "p99_ms": lambda: traffic.p99_ms},
    )


def test_before_the_first_sample_every_rate_is_zero_and_every_gauge_unknown(panel: Panel) -> None:
    figures = panel.figures()
    assert figures.rates == {"hearts": 0.0}
    assert figures.gauges == {"connections": None, "p99_ms": None}
    assert figures.history["hearts"] == []


def test_a_rate_is_the_growth_per_second_over_the_last_three_samples(panel: Panel, traffic: Traffic) -> None:
    for now_s, hearts in enumerate([100, 100, 130, 160]):
        traffic.hearts = hearts
        panel.sample(1000.0 + now_s)
    assert panel.figures().rates["hearts"] == pytest.approx(20.0)


def test_a_rate_falls_to_zero_once_traffic_has_been_quiet_for_the_window(
    panel: Panel, traffic: Traffic
) -> None:
    panel.sample(0.0)
    traffic.hearts = 50
    for now_s in (1.0, 2.0, 3.0, 4.0):
        panel.sample(now_s)
    assert panel.figures().rates["hearts"] == 0.0


def test_gauges_are_the_latest_reading(panel: Panel, traffic: Traffic) -> None:
    traffic.connections, traffic.p99_ms = 7, 1.5
    panel.sample(1.0)
    traffic.connections, traffic.p99_ms = 8, None
    panel.sample(2.0)
    assert panel.figures().gauges == {"connections": 8, "p99_ms": None}
    assert panel.figures().history["p99_ms"] == [1.5, None]


def test_a_reading_that_is_not_later_is_ignored(panel: Panel, traffic: Traffic) -> None:
    panel.sample(1.0)
    traffic.hearts = 10
    panel.sample(1.0)
    assert panel.figures().rates["hearts"] == 0.0
    panel.sample(2.0)
    assert panel.figures().rates["hearts"] == 10.0


def test_a_counter_that_was_reset_is_not_negative_traffic(panel: Panel, traffic: Traffic) -> None:
    traffic.hearts = 1000
    panel.sample(1.0)
    traffic.hearts = 3
    panel.sample(2.0)
    assert panel.figures().rates["hearts"] == 0.0


def test_a_figure_is_a_counter_or_a_gauge() -> None:
    with pytest.raises(ValueError, match="hearts"):
        Panel({"hearts": int}, {"hearts": float})


@given(growth=st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_rates_are_never_negative_and_the_history_never_exceeds_a_minute(growth: list[int]) -> None:
    traffic = Traffic()
    panel = Panel({"hearts": lambda: traffic.hearts}, {})
    for second, more in enumerate(growth):
        traffic.hearts += more
        panel.sample(float(second))
        assert 0 <= panel.figures().rates["hearts"] <= max(growth)
    assert len(panel.figures().history["hearts"]) == min(len(growth), KEPT)
