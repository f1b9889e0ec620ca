"""The page: complete in itself, and true to the report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.loadtest import page, report
from heartcast.loadtest.bench import bench
from heartcast.loadtest.plots import Line, histogram, lines, nice_ticks, number
from heartcast.loadtest.scenario import of
from heartcast.loadtest.target import Target

_VOID = {"meta", "br"}


class _Balanced(HTMLParser):
    """Fails on a tag that is not closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
async def found(server) -> report.Report:
    load = {"rate_per_s": 60.0, "seconds": 2.5, "warmup_s": 0.5, "shape": "sweep"}
    scenario = of("fanout", {"subscribers": 6, "channels": 2, "load": load, "bounds": {"late_ms": 3_000.0}})
    return await bench(Target.parse(server.url), scenario)


async def test_a_report_reads_back_from_its_file_as_it_was(found, tmp_path) -> None:
    report.write(found, tmp_path / "r.json")
    assert report.read(tmp_path / "r.json") == found


async def test_the_page_needs_nothing_from_elsewhere_and_is_well_formed(found) -> None:
    html = page.page(found)
    parser = _Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"(src|href)=|@import|url\(", html)
    assert html.count("<figure>") >= 5
    for svg in re.findall(r"<svg.*?</svg>", html):
        ElementTree.fromstring(svg)


async def test_the_page_says_what_the_report_says(found) -> None:
    html = page.page(found)
    assert f"{found.delivered:,}" in html
    assert ">passed</span>" in html
    for check in found.checks:
        assert check.sentence in html
    assert "The knee" in html


async def test_what_comes_from_the_server_cannot_break_out_of_the_page(found) -> None:
    evil = msgspec.structs.replace(found, closes={"<script>alert(1)</script>": 1}, notes=["<b>"])
    assert "<script" not in page.page(evil)


async def test_two_runs_stand_beside_each_other(found) -> None:
    faster = msgspec.structs.replace(found, answered_per_s=found.answered_per_s * 2)
    html = page.comparison(found, faster)
    parser = _Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "+100%" in html


def test_changes_are_said_in_percent_where_there_is_a_base() -> None:
    assert page.change(100, 150) == "+50%"
    assert page.change(100, 50) == "-50%"
    assert page.change(0, 7) == "+7"
    assert page.change(3, 3) == ""
    assert page.change(None, 3) == ""


@given(st.floats(1e-6, 1e9))
def test_ticks_are_round_reach_the_top_and_are_few(top) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] >= top * (1 - 1e-6)
    assert 2 <= len(ticks) <= 7


def test_gaps_in_a_series_are_gaps_in_its_line() -> None:
    svg = lines("t", [Line("a", [(0, 1.0), (1, None), (2, 3.0), (3, 4.0)])], unit="ms")
    assert svg.count('<path class="line') == 2


def test_a_plot_of_nothing_is_left_out() -> None:
    assert lines("t", [Line("a", [(0, None)])], unit="ms") == ""
    assert histogram("t", []) == ""


def test_a_histogram_shows_every_message() -> None:
    svg = histogram("t", [(900, 5), (1_000, 2), (90_000, 1)])
    assert sum(int(n) for n in re.findall(r"<title>(\d+) took", svg)) == 8


@pytest.mark.parametrize(("value", "text"), [(0.25, "0.25"), (12, "12"), (1500, "1.5k"), (2.5e6, "2.5M")])
def test_numbers_are_short(value, text) -> None:
    assert number(value) == text
