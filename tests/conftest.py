"""What every test shares: a clock moved by hand, and real servers on free ports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from heartcast.testing import ManualClock
from heartcast.testing.server import RunningServer, running

ROOT = Path(__file__).parent.parent

# How long an example takes says something about the machine and its other work, not about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    # pytest-asyncio asks for "the current loop" to put it back later. Without this
    # line asking makes one that nobody closes, and unclosed loops are errors here.
    asyncio.set_event_loop(None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """Starts ``heartcast serve`` with these flags on a free port; stopped after the test."""
    with ExitStack() as stack:
        yield lambda *flags, **options: stack.enter_context(running(*flags, **options))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One server in memory for all tests of a module: they must not trip over each other's data."""
    with running("--in-memory") as server:
        yield server


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared data sets, which are not part of the project; see CONTRIBUTING."""
    folder = Path(os.environ.get("HEARTCAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}: checks against published data were not run")
    return folder
