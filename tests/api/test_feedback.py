"""Feedback over HTTP: each event once, each mistake pointed at."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.feedback import routes
from heartcast.api.route import Answer, Call, Identity
from heartcast.core.errors import HeartcastError
from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.intake import FeedbackIntake
from heartcast.ranking.store.memory import MemoryRankingStore

NOW_MS = 1_700_000_000_000
SERVER = Identity(is_server=True)


class Desk:
    def __init__(self) -> None:
        self.learnt: list[Feedback] = []
        numbers = iter(range(10**6))
        intake = FeedbackIntake(MemoryRankingStore(), [self.learnt.extend])
        (self.route,) = routes(intake, lambda: NOW_MS, lambda: f"made-{next(numbers)}")

    def post(self, body: object, identity: Identity = SERVER) -> dict[str, int]:
        answers: list[Answer] = []
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        assert self.route.handler(Call(body=raw, identity=identity, respond=answers.append)) is None
        assert answers[0].status == 200
        return msgspec.json.decode(answers[0].body)

    def send(self, *events: dict[str, object], identity: Identity = SERVER) -> dict[str, int]:
        return self.post({"events": list(events)}, identity)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def an_event(**more: object) -> dict[str, object]:
    return {"type": "click", "user_id": 12, "item_id": "post_1"} | more


def test_what_happened_is_learnt_once_however_often_it_is_sent(desk: Desk) -> None:
    events = [an_event(at_ms=NOW_MS - 5), an_event(id="e2"), an_event(type="watch", value=12.5, id="e3")]

    assert desk.send(*events) == {"taken": 3, "repeated": 0}
    assert desk.send(*events) == {"taken": 0, "repeated": 3}
    assert [(event.kind, event.user_id, event.at_ms, event.value) for event in desk.learnt] == [
        (Kind.CLICK, "12", NOW_MS - 5, 0.0),
        (Kind.CLICK, "12", NOW_MS, 0.0),
        (Kind.WATCH, "12", NOW_MS, 12.5),
    ]


def test_an_event_with_nothing_to_know_it_by_is_new_every_time(desk: Desk) -> None:
    assert desk.send(an_event(), an_event()) == {"taken": 2, "repeated": 0}


def test_no_two_different_events_share_a_name(desk: Desk) -> None:
    events = [
        an_event(user_id="a", item_id="b c", at_ms=NOW_MS),
        an_event(user_id="a b", item_id="c", at_ms=NOW_MS),
        an_event(type="exposure", user_id="a", item_id="b c", at_ms=NOW_MS),
    ]

    assert desk.send(*events)["taken"] == 3


def test_people_report_what_they_did_and_nobody_else(desk: Desk) -> None:
    ann = Identity(user="12")

    assert desk.send(an_event(), identity=ann)["taken"] == 1
    with pytest.raises(HeartcastError) as caught:
        desk.send(an_event(user_id="other"), identity=ann)
    assert caught.value.code == "not_yours"


@pytest.mark.parametrize(
    ("wrong", "pointer", "said"),
    [
        ({"type": "smell"}, "/events/1/type", "Invalid enum value"),
        ({"user_id": ""}, "/events/1/user_id", "must not be empty"),
        ({"item_id": "x" * 201}, "/events/1/item_id", "at most 200 bytes"),
        ({"at_ms": 1_700_000_000}, "/events/1/at_ms", "looks like seconds"),
        ({"at_ms": NOW_MS + 300_001}, "/events/1/at_ms", "five minutes ahead"),
        ({"value": 3.0}, "/events/1/value", "nothing else has"),
        ({"type": "watch"}, "/events/1/value", "a watch has its seconds"),
        ({"type": "watch", "value": -1.0}, "/events/1/value", "must be 0 to 86400 seconds"),
        ({"type": "watch", "value": 1e300}, "/events/1/value", "must be 0 to 86400 seconds"),
        ({"propensity": 0.5}, "/events/1/propensity", "only exposures"),
        ({"type": "exposure", "propensity": 0.0}, "/events/1/propensity", "above 0"),
        ({"id": "a\nb"}, "/events/1/id", "control characters"),
        ({"surprise": 1}, "/events/1/surprise", "unknown field"),
    ],
)
def test_a_mistake_is_pointed_at_and_nothing_is_taken(
    desk: Desk, wrong: dict[str, object], pointer: str, said: str
) -> None:
    with pytest.raises(HeartcastError, match=said) as caught:
        desk.send(an_event(), an_event(**wrong))

    assert caught.value.pointer == pointer  # type: ignore[attr-defined]
    assert desk.learnt == []


@pytest.mark.parametrize("count", [0, 1001])
def test_batches_have_bounds(desk: Desk, count: int) -> None:
    with pytest.raises(HeartcastError, match="1 to 1000 events"):
        desk.send(*[an_event()] * count)


@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_no_bytes_break_it(raw: bytes) -> None:
    with pytest.raises(HeartcastError):
        Desk().post(b'{"events":[' + raw + b"]}x")
