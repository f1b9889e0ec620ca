"""What the book of benchmarks says of peers follows from their figures alone."""

from __future__ import annotations

from typing import Any

from benchmarks import comparison


def _server(cpu_us: float, *, delivered: int = 100) -> dict[str, Any]:
    fanout = {
        "delivered": delivered,
        "of": 100,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "subscriber_cpu": 0.5,
        "cpu_us_per_delivery": cpu_us,
        "kb_per_connection": 1.5,
    }
    return {"version": "1", "lively": fanout, "quiet": fanout}


def _page(**servers: dict[str, Any]) -> str:
    load = {"subscribers": 10, "messages": 10, "per_s": 5}
    figures = {"lively": load, "quiet": load, "servers": servers}
    return "\n".join(comparison.page({"command": "c", "machine": "m", "figures": figures}))


def _section(page: str, title: str) -> str:
    return page.partition(f"### {title}\n")[2].partition("\n###")[0]


def test_a_peer_is_named_on_the_side_its_ratio_puts_it() -> None:
    page = _page(heartcast=_server(2.0), slow=_server(6.0), fast=_server(1.0), like=_server(2.1))

    assert "lively channel**: slow 3.0x. What is published" in _section(page, "Ahead")
    assert "lively channel**: fast 2.0x. A delivery crosses" in _section(page, "Behind")
    assert "Processor time per delivery, lively channel: like." in _section(page, "Level")


def test_a_reason_is_not_given_where_nobody_is_behind() -> None:
    page = _page(heartcast=_server(2.0), fast=_server(1.0))

    assert "Nowhere in this run." in _section(page, "Ahead")
    assert "What is published" not in page


def test_nothing_is_compared_with_a_peer_that_lost_deliveries() -> None:
    page = _page(heartcast=_server(2.0), lossy=_server(9.0, delivered=40))

    assert "lossy" not in _section(page, "Ahead")
    assert "| lossy 1 | 40% |" in page


def test_a_peer_that_was_skipped_says_why() -> None:
    page = _page(heartcast=_server(2.0), absent={"skipped": "no absent here"})

    assert "- absent: no absent here" in _section(page, "Not measured in this run")
