"""The hub: who gets what, once, in order, whatever others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heartcast.core.errors import InvalidInput, NotFound, StoreUnavailable
from heartcast.realtime.log import Appended, Complete, Gap, Position, Publication, Since
from heartcast.realtime.options import NamespaceOptions
from heartcast.realtime.recovery import Joined
from heartcast.wire.envelopes import INTERNAL


async def test_everyone_in_the_channel_gets_it_once(stage: Any) -> None:
    here = [stage.session("public:a") for _ in range(3)]
    elsewhere = stage.session("public:b")
    stage.publish("public:a", b"1")
    stage.hub.flush()

    assert [session.data() for session in here] == [[1], [1], [1]]
    assert elsewhere.data() == []
    assert stage.hub.deliveries == 3


async def test_the_messages_of_a_tick_leave_in_one_write_per_session(stage: Any) -> None:
    one = stage.session("public:a")
    several = stage.session("public:a", "public:b", "public:c")
    for number in range(4):
        stage.publish("public:a", b"%d" % number)
        stage.publish("public:b", b"%d" % (10 + number))
    stage.hub.flush()

    assert len(one.socket.written) == 1
    assert one.data() == [0, 1, 2, 3]
    assert len(several.socket.written) == 1
    assert several.data() == [0, 1, 2, 3, 10, 11, 12, 13]


async def test_the_bytes_of_a_channel_are_shared_by_its_subscribers(stage: Any) -> None:
    sessions = [stage.session("public:a") for _ in range(2)]
    writes: list[Any] = []
    for session in sessions:
        session.socket.write = writes.append
    stage.publish("public:a", b'{"x":1}')
    stage.hub.flush()

    assert writes[0] is writes[1]


async def test_one_broken_socket_does_not_stop_the_others(stage: Any) -> None:
    sessions = [stage.session("public:a") for _ in range(5)]
    sessions[2].socket.is_broken = True
    stage.publish("public:a", b"1")
    stage.hub.flush()

    assert [session.data() for session in sessions] == [[1], [1], [], [1], [1]]
    assert stage.hub.failed_writes == 1


async def test_a_newcomer_gets_nothing_that_was_published_before(stage: Any) -> None:
    old = stage.session("public:a")
    stage.publish("public:a", b"1")
    new = stage.session("public:a")
    stage.publish("public:a", b"2")
    stage.hub.flush()

    assert old.data() == [1, 2]
    assert new.data() == [2]


async def test_a_newcomer_of_a_stream_gets_a_pending_message_only_once(stage: Any) -> None:
    stage.publish("feed:a", b"1")
    first = stage.session("feed:a")
    stage.publish("feed:a", b"2")
    joined = stage.join(second := stage.session(), "feed:a", Position(1, stage_epoch(stage)))
    stage.hub.flush()

    assert [p.data for p in joined[0].publications] == [b"2"]
    assert second.data() == []
    assert first.data() == [2]


def stage_epoch(stage: Any) -> str:
    tops: list[Any] = []
    stage.realtime.log.since("feed:a", None, 1, tops.append)
    return str(tops[0].top.epoch)


async def test_a_session_that_left_gets_nothing_and_an_empty_channel_is_forgotten(stage: Any) -> None:
    session = stage.session("public:a")
    stage.hub.leave(session, stage.room("public:a"))
    stage.publish("public:a", b"1")
    stage.hub.flush()

    assert session.data() == []
    assert not stage.hub.is_watched("public:a")
    assert stage.hub.subscriptions == 0


async def test_a_closed_session_leaves_no_trace(stage: Any) -> None:
    session = stage.session("public:a", "feed:b", user="u1")
    session.connection_lost(None)

    assert (stage.hub.connections, stage.hub.subscriptions, stage.hub.user_count) == (0, 0, 0)
    assert stage.hub.rooms() == {}
    assert list(stage.hub.sessions()) == []


async def test_deliver_reaches_the_present_only_and_says_how_many(stage: Any) -> None:
    stage.hub.use_log("inbox", stage.realtime.log)
    session = stage.session("inbox:#u1", user="u1")
    reached = stage.hub.deliver("inbox:#u1", Publication(b"1", 0, {"redelivered": "1"}))
    stage.hub.flush()

    assert reached == 1
    assert session.pushes() == [{"data": 1, "tags": {"redelivered": "1"}}]
    assert stage.hub.deliver("inbox:#u2", Publication(b"1")) == 0


@pytest.mark.parametrize(
    ("channel", "data", "error"),
    [
        ("nowhere:a", b"1", NotFound),
        ("plain", b"1", NotFound),
        ("public:\u00fc", b"1", InvalidInput),
        ("public:" + "x" * 2_000, b"1", InvalidInput),
        ("public:a", b'"\xff"', InvalidInput),
        ("public:a", b'{"a":\n', InvalidInput),
        ("public:a", b"", InvalidInput),
        ("public:a", b'"' + b"x" * 200_000 + b'"', InvalidInput),
    ],
)
async def test_what_cannot_be_published_is_refused(
    stage: Any, channel: str, data: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        stage.publish(channel, data)


async def test_those_who_asked_are_told_who_joins_and_leaves(stage: Any) -> None:
    watcher = stage.session(user="u1")
    stage.join(watcher, "feed:a", tells=True)
    other = stage.session("feed:a", user="u2")
    stage.hub.leave(other, stage.room("feed:a"))

    assert [join["info"]["user"] for join in watcher.told("join")] == ["u1", "u2"]
    assert [leave["info"]["user"] for leave in watcher.told("leave")] == ["u2"]
    assert other.told("join") == []


async def test_a_big_tick_is_split_into_frames_that_clients_accept(stage: Any) -> None:
    session = stage.session("public:a")
    for number in range(50):
        stage.publish("public:a", b'"%d%s"' % (number, b"x" * 5_000))
    stage.hub.flush()

    assert len(session.data()) == 50
    [wire] = session.socket.written
    sizes = []
    while wire:
        size = int.from_bytes(wire[2:4], "big")
        assert wire[1] == 126
        sizes.append(size)
        wire = wire[4 + size :]
    assert max(sizes) <= 65_536


# -- seeds -----------------------------------------------------------------------------


async def test_a_cache_channel_without_a_value_asks_its_source_once(stage: Any) -> None:
    asked: list[tuple[str, Callable[[bytes | None], None]]] = []
    stage.hub.seed("hearts", lambda channel, done: asked.append((channel, done)))
    answers = [stage.join(stage.session(), "hearts:p") for _ in range(3)]
    assert len(asked) == 1
    asked[0][1](b'{"count":7,"version":7}')

    for answer in answers:
        assert [p.data for p in answer[0].publications] == [b'{"count":7,"version":7}']
        assert answer[0].recovered
    again = stage.join(stage.session(), "hearts:p")
    assert len(asked) == 1
    assert again[0].publications[0].data == b'{"count":7,"version":7}'


async def test_a_first_subscribe_to_a_cache_is_no_recovery_in_the_counters(stage: Any) -> None:
    stage.hub.seed("hearts", lambda channel, done: done(b'{"count":7,"version":7}'))
    stage.join(stage.session(), "hearts:p")
    assert (stage.hub.recovered, stage.hub.unrecovered) == (0, 0)

    stage.join(stage.session(), "hearts:p", Position(1, "an epoch of before"))
    assert (stage.hub.recovered, stage.hub.unrecovered) == (1, 0)


async def test_a_value_never_goes_back_to_an_older_version(stage: Any) -> None:
    asked: list[Callable[[bytes | None], None]] = []
    stage.hub.seed("hearts", lambda channel, done: asked.append(done))
    answers = stage.join(session := stage.session(), "hearts:p")
    stage.publish("hearts:p", b'{"count":9,"version":9}')
    asked[0](b'{"count":7,"version":7}')
    stage.publish("hearts:p", b'{"count":8,"version":8}')
    stage.publish("hearts:p", b'{"count":10,"version":10}')
    stage.hub.flush()

    assert [p.data for p in answers[0].publications] == [b'{"count":9,"version":9}']
    assert [value["version"] for value in session.data()] == [10]


async def test_a_seeded_channel_is_forgotten_with_its_last_subscriber(stage: Any) -> None:
    values = iter([b'{"count":1,"version":1}', b'{"count":2,"version":2}'])
    stage.hub.seed("hearts", lambda channel, done: done(next(values)))
    session = stage.session("hearts:p")
    session.connection_lost(None)
    stage.publish("hearts:p", b'{"count":99,"version":99}')
    answer = stage.join(stage.session(), "hearts:p")

    assert len(stage.realtime.log) == 1
    assert answer[0].publications[0].data == b'{"count":2,"version":2}'


async def test_a_source_without_a_value_leaves_the_channel_empty(stage: Any) -> None:
    stage.hub.seed("hearts", lambda channel, done: done(None))
    answer = stage.join(stage.session(), "hearts:p")

    assert answer[0].publications == []
    assert answer[0].recovered


# -- logs that answer later --------------------------------------------------------------


class SlowLog:
    """Answers when told to. It keeps unacknowledged publications, as an inbox does."""

    def __init__(self, kept: list[Publication]) -> None:
        self.kept = kept
        self.waiting: list[Callable[[], None]] = []

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()

    def append(self, channel: str, data: bytes, tags: Any, client: Any, done: Appended) -> None:
        raise AssertionError("deliver never touches the log")

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        first = self.kept[0].offset - 1 if self.kept else 0
        page = list(self.kept[:limit])
        self.waiting.append(lambda: done(Complete(page, Position(first, "e"))))

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        page = [p for p in self.kept if after is None or p.offset > after.offset][:limit]
        self.waiting.append(lambda: done(Complete(page, Position(self.kept[-1].offset, "e"))))


def kept(start: int, end: int) -> list[Publication]:
    return [Publication(b"%d" % offset, offset) for offset in range(start, end)]


async def test_an_inbox_larger_than_one_answer_follows_as_pushes_in_order(make_stage: Any) -> None:
    stage = make_stage(recovery_limit=3)
    log = SlowLog(kept(5, 13))
    stage.hub.use_log("inbox", log)
    answers = stage.join(session := stage.session(user="u1"), "inbox:#u1")
    log.answer()
    stage.hub.deliver("inbox:#u1", Publication(b"13", 13))
    stage.hub.deliver("inbox:#u1", Publication(b"5", 0, {"redelivered": "1"}))
    log.kept.append(Publication(b"13", 13))
    while log.waiting:
        log.answer()
    stage.hub.flush()

    assert answers[0].position == Position(4, "e")
    assert [p.offset for p in answers[0].publications] == [5, 6, 7]
    assert session.data() == [8, 9, 10, 11, 12, 13, 5]


async def test_what_arrives_while_the_log_is_asked_is_neither_lost_nor_doubled(stage: Any) -> None:
    log = SlowLog(kept(1, 4))
    stage.hub.use_log("inbox", log)
    answers = stage.join(session := stage.session(user="u1"), "inbox:#u1")
    for publication in kept(3, 6):
        stage.hub.deliver("inbox:#u1", publication)
    stage.hub.flush()
    log.answer()
    stage.hub.deliver("inbox:#u1", Publication(b"6", 6))
    stage.hub.flush()

    assert [p.offset for p in answers[0].publications] == [1, 2, 3, 4, 5]
    assert session.data() == [6]


async def test_leaving_before_the_log_answered_is_final(stage: Any) -> None:
    log = SlowLog(kept(1, 4))
    stage.hub.use_log("inbox", log)
    answers = stage.join(session := stage.session(user="u1"), "inbox:#u1")
    stage.hub.leave(session, stage.room("inbox:#u1"))
    log.answer()

    assert answers == []
    assert not stage.hub.is_watched("inbox:#u1")


async def test_a_log_that_fails_refuses_the_subscription(stage: Any) -> None:
    class FailingLog(SlowLog):
        def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
            done(StoreUnavailable("the disk is full"))

    stage.hub.use_log("inbox", FailingLog([]))
    session = stage.session(user="u1")
    answers = stage.join(session, "inbox:#u1")

    assert answers == [INTERNAL]
    assert session.channel_count == 0


async def test_a_client_behind_the_history_is_told_and_gets_what_is_new(make_stage: Any) -> None:
    namespace = NamespaceOptions(delivery="stream", recovery="stream", history_size=2)
    stage = make_stage(namespaces={"feed": namespace})
    for number in range(5):
        stage.publish("feed:a", b"%d" % number)
    answers = stage.join(session := stage.session(), "feed:a", Position(1, stage_epoch(stage)))
    stage.publish("feed:a", b"5")
    stage.hub.flush()

    joined = answers[0]
    assert isinstance(joined, Joined)
    assert (joined.was_recovering, joined.recovered, joined.publications) == (True, False, [])
    assert session.data() == [5]
    assert (stage.hub.recovered, stage.hub.unrecovered) == (0, 1)
    assert Gap(Position(0, "")).top == Position(0, "")


# -- pings and deadlines --------------------------------------------------------------------


async def test_a_client_that_answers_no_ping_is_closed(make_stage: Any) -> None:
    stage = make_stage(ping_interval_s=4.0, pong_timeout_s=2.0)
    silent, lively = stage.session(), stage.session()
    for _ in range(80):
        stage.advance(0.1)
        lively.awaits_pong = False

    assert silent.closed_with == 3012
    assert lively.closed_with is None
    assert lively.socket.written


async def test_a_socket_that_never_connects_is_closed_as_stale(make_stage: Any) -> None:
    stage = make_stage(connect_timeout_s=5.0)
    session = stage.session()
    stage.hub._unconnected[session] = stage.clock.monotonic_s() + 5.0
    stage.advance(4.0)
    assert session.closed_with is None
    stage.advance(3.0)

    assert session.closed_with == 3502
