"""A subscriber that stops reading costs bounded memory and hurts nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.realtime.options import NamespaceOptions
from heartcast.realtime.outbound import HIGH_WATER_BYTES, Backlog

PIECE = b'"' + b"x" * 10_000 + b'"'


def waiting_bytes(session: Any) -> int:
    return session.socket.buffered + (session.backlog.size if session.backlog is not None else 0)


async def test_it_is_closed_when_its_queue_is_full_and_the_others_miss_nothing(stage: Any) -> None:
    slow, quick = stage.session("public:a"), stage.session("public:a")
    slow.socket.is_reading = False
    most = 0
    for number in range(200):
        stage.publish("public:a", b'[%d,"%s"]' % (number, b"x" * 10_000))
        stage.hub.flush()
        most = max(most, waiting_bytes(slow))

    assert slow.closed_with == 3008
    assert most <= 1_048_576
    assert [item[0] for item in quick.data()] == list(range(200))
    assert stage.hub.slow_disconnects == 1


async def test_it_is_closed_when_it_takes_nothing_until_the_write_deadline(make_stage: Any) -> None:
    stage = make_stage(write_deadline_s=10.0, ping_interval_s=100.0)
    slow = stage.session("public:a")
    slow.socket.is_reading = False
    for _ in range(10):
        stage.publish("public:a", PIECE)
        stage.hub.flush()
    assert slow.backlog is not None
    stage.advance(10.2)

    assert slow.closed_with == 3008


async def test_one_that_reads_again_gets_everything_in_order_and_is_quick_again(stage: Any) -> None:
    session = stage.session("public:a")
    session.socket.is_reading = False
    for number in range(20):
        stage.publish("public:a", b'[%d,"%s"]' % (number, b"x" * 10_000))
        stage.hub.flush()
    queued = len(session.backlog)
    assert session in stage.room("public:a").others
    session.socket.read_all()
    stage.publish("public:a", b"[20]")
    stage.hub.flush()

    assert [item[0] for item in session.data()] == [*range(20 - queued, 21)]
    assert session.backlog is None
    assert session in stage.room("public:a").plain


async def test_drop_oldest_keeps_the_connection_and_the_newest(make_stage: Any) -> None:
    stage = make_stage(namespaces={"live": NamespaceOptions(overflow="drop_oldest", queue_bytes=524_288)})
    session = stage.session("live:a")
    session.socket.is_reading = False
    for number in range(200):
        stage.publish("live:a", b'[%d,"%s"]' % (number, b"x" * 10_000))
        stage.hub.flush()
        assert waiting_bytes(session) <= 524_288 + HIGH_WATER_BYTES
    session.socket.read_all()

    numbers = [item[0] for item in session.data()]
    assert session.closed_with is None
    assert numbers == list(range(numbers[0], 200))
    assert stage.hub.dropped > 100


async def test_keep_latest_holds_one_value_per_channel(stage: Any) -> None:
    session = stage.session("hearts:a", "hearts:b")
    session.socket.is_reading = False
    for number in range(100):
        stage.publish("hearts:a", b'{"v":%d,"x":"%s"}' % (number, b"x" * 10_000))
        stage.publish("hearts:b", b'{"v":%d,"x":"%s"}' % (1_000 + number, b"x" * 10_000))
        stage.hub.flush()
    assert session.backlog.size < 30_000
    session.socket.read_all()

    assert [item["v"] for item in session.data()] == [99, 1_099]


async def test_a_reply_to_a_slow_reader_waits_behind_its_messages(stage: Any) -> None:
    session = stage.session("public:a")
    session.socket.is_reading = False
    for _ in range(8):
        stage.publish("public:a", PIECE)
        stage.hub.flush()
    session.send(b"reply")
    session.socket.read_all()

    assert session.socket.written[-1].endswith(b"reply")


@given(
    pieces=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), max_size=60),
    rule=st.sampled_from(["disconnect", "drop_oldest", "keep_latest"]),
)
def test_a_backlog_never_holds_more_than_it_may(pieces: list[tuple[str, int]], rule: Any) -> None:
    backlog, limit = Backlog(), 100
    for channel, size in pieces:
        if backlog.make_room(channel, b"x" * size, limit - backlog.size, rule):
            backlog.add(channel, b"x" * size)
        assert backlog.size <= limit
    held = backlog.size

    assert len(backlog.take(1_000)) == held
    assert backlog.size == 0


@pytest.mark.parametrize("rule", ["drop_oldest", "keep_latest"])
def test_only_the_full_channels_own_messages_give_way(rule: Any) -> None:
    backlog = Backlog()
    backlog.add("a", b"1" * 40)
    backlog.add("b", b"2" * 40)
    assert backlog.make_room("b", b"3" * 40, 100 - backlog.size, rule)
    backlog.add("b", b"3" * 40)

    assert backlog.take(1_000) == b"1" * 40 + b"3" * 40
