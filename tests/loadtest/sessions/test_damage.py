"""Whatever one byte of a message becomes, it is counted as one damaged message, in every protocol."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest

from heartcast.loadtest.audience import Audience
from heartcast.loadtest.marks import Marker
from heartcast.loadtest.meter import Meter
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.sessions.kinds import KINDS
from heartcast.loadtest.verdict import Ledger
from heartcast.wire import v1

CHANNEL = "public:a"
NOW_US = 5_000_000


def listening(name: str) -> Subscriber:
    crowd = SimpleNamespace(now_us=lambda: NOW_US)
    ledger = Ledger(late_us=10_000_000)
    ledger.open_stream(CHANNEL)
    kind = KINDS[name]
    audience = Audience(
        crowd, ledger, Marker("t-1"), kind=kind, delivery=Meter(), random=Random(1), start_us=0
    )  # fmt: skip
    audience.cached = False
    subscriber = kind(audience, 0, CHANNEL, stream=0)
    subscriber.state, subscriber.is_listening = 3, True
    return subscriber


def message(name: str, sequence: int) -> bytes:
    mark = Marker("t-1").make(0, sequence, NOW_US - 1_000, "xxx").encode()
    if name == "json":
        return b'{"push":{"channel":"public:a","pub":{"data":"%s"}}}' % mark
    if name == "sse":
        return b'data: {"channel":"public:a","data":"%s"}' % mark
    published = v1.published(b'"%s"' % mark, 0, None, None)
    return v1.write(v1.ServerFrame(batch=v1.Batch(CHANNEL, [published])))


@pytest.mark.parametrize("name", KINDS)
async def test_a_whole_message_is_delivered(name) -> None:
    subscriber = listening(name)
    subscriber.received(message(name, 1))
    ledger = subscriber.audience.ledger
    assert (ledger.delivered, subscriber.track.top, sum(ledger.counts.values())) == (1, 1, 0)


@pytest.mark.parametrize("name", KINDS)
async def test_every_byte_that_changes_is_one_damaged_message_and_no_other(name) -> None:
    whole = message(name, 1)
    for at in range(len(whole)):
        for change in (0x01, 0x0A ^ whole[at], 0x20, 0x30, 0x38, 0x80, 0xFF):
            if not change:
                continue
            subscriber = listening(name)
            subscriber.received(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            ledger = subscriber.audience.ledger
            found = {kind: count for kind, count in ledger.counts.items() if count}
            assert (found, ledger.delivered) == ({"damaged": 1}, 0), (at, change)
