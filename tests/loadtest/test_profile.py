"""Flame graphs of a local server."""

from __future__ import annotations

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput
from heartcast.loadtest import profile
from heartcast.loadtest.run import Run
from heartcast.loadtest.scenario import of
from heartcast.loadtest.target import Target

SVG = '<svg><text id="title" x="1">py-spy record --pid 1 --output /home/me/x.svg</text><rect/></svg>'


@pytest.fixture
def run() -> Run:
    return Run(Target.parse("http://127.0.0.1:9"), of("push", {}), SystemClock(), name="r1")


def test_without_py_spy_it_is_said_before_the_load(run, monkeypatch) -> None:
    monkeypatch.setattr(profile.shutil, "which", lambda name: None)
    monkeypatch.setattr(profile.sys, "executable", "/nowhere/python")
    with pytest.raises(InvalidInput, match="pip install py-spy"):
        profile.Profile(run)


def test_a_server_elsewhere_gives_a_note_and_no_graph(run, monkeypatch) -> None:
    monkeypatch.setattr(profile, "_found", lambda: "py-spy")
    assert profile.Profile(run).flame() == ""
    assert "not a process of this machine" in run.notes[0]


def test_the_title_names_the_server_and_no_paths() -> None:
    assert profile._TITLE.sub(r"\1heartcast serve", SVG) == (
        '<svg><text id="title" x="1">heartcast serve</text><rect/></svg>'
    )
