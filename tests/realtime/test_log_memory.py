"""The channel log in memory keeps the port's promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heartcast.realtime.log.memory import MemoryLog
from heartcast.testing import ManualClock
from heartcast.testing.contracts.channel_log import CHANNEL, HISTORY_SIZE, HISTORY_TTL_S, ChannelLogContract


@pytest.fixture
def log(clock: ManualClock) -> MemoryLog:
    return MemoryLog(clock, lambda channel: (HISTORY_SIZE, HISTORY_TTL_S), max_channels=50)


@pytest.fixture
def lose(log: MemoryLog) -> Callable[[], MemoryLog]:
    def forget() -> MemoryLog:
        log.remove(CHANNEL)
        return log

    return forget


class TestMemoryLog(ChannelLogContract):
    """Runs every guarantee against the memory log."""


def test_the_channel_used_longest_ago_goes_first(log: MemoryLog) -> None:
    for number in range(60):
        log.append(f"feed:{number}", b"1", None, None, lambda position: None)
        log.since("feed:0", None, 1, lambda answer: None)
    pages: list[object] = []
    log.history("feed:0", None, 10, False, pages.append)

    assert len(log) == 50
    assert "b'1'" in str(pages[0])
