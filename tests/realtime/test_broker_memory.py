"""The broker of one process keeps the port's promises."""

from __future__ import annotations

import pytest

from heartcast.realtime.broker.memory import MemoryBroker
from heartcast.realtime.log.memory import MemoryLog
from heartcast.testing import ManualClock
from heartcast.testing.contracts.broker import BrokerContract, Node


@pytest.fixture
def nodes(clock: ManualClock) -> list[Node]:
    return [Node(MemoryBroker(clock), MemoryLog(clock, lambda channel: (100, 60.0)))]


class TestMemoryBroker(BrokerContract):
    """Runs every guarantee against the broker in memory."""
