"""Limits per client and shedding: who is refused, with what, and who is not."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.admission import Admission, LimitOptions, prefix_of
from heartcast.api.push_post import weigh
from heartcast.api.route import Answer, Call, Identity, Route
from heartcast.resilience.shedding import Priority
from heartcast.testing import ManualClock

HEARTS = Route(
    method="POST", path="/hearts", handler=lambda call: Answer(201), summary="", tag="", budget="hearts"
)
BATCH = replace(HEARTS, is_batch=True)
PUSHES = replace(HEARTS, budget="pushes")
OPTIONS = LimitOptions(hearts_per_client="2/s burst 3", hearts_per_prefix="10/s burst 20")


def _call(user: str | None = "u1", peer: str = "192.0.2.1", body: bytes = b"", key: str = "") -> Call:
    headers = [(b"x-api-key", key.encode())] if key else []
    return Call(
        identity=Identity(user=user), peer=peer, body=body, headers=headers, respond=lambda answer: None
    )


def _judge(admission: Admission, route: Route, call: Call) -> Answer | None:
    late: list[Answer | None] = []
    refusal = admission.limit(route, call, late.append)
    assert not late
    return refusal


def _admitted(admission: Admission, route: Route, call: Call, times: int) -> int:
    return sum(_judge(admission, route, call) is None for _ in range(times))


@pytest.fixture
def admission(clock: ManualClock) -> Admission:
    return Admission(OPTIONS, clock, limits_on=True)


def test_a_client_gets_its_burst_and_then_429_with_when_to_come_back(admission: Admission) -> None:
    assert _admitted(admission, HEARTS, _call(), 3) == 3
    refusal = _judge(admission, HEARTS, _call())

    assert refusal is not None
    assert refusal.status == 429
    headers = dict(refusal.headers)
    assert headers[b"retry-after"] == b"1"
    assert headers[b"ratelimit-policy"] == b'"client";q=2'
    assert headers[b"ratelimit"] == b'"client";r=0;t=1'


def test_the_time_it_names_is_enough(admission: Admission, clock: ManualClock) -> None:
    _admitted(admission, HEARTS, _call(), 4)
    clock.advance(1)

    assert _judge(admission, HEARTS, _call()) is None


def test_clients_do_not_use_up_each_others_budget(admission: Admission) -> None:
    _admitted(admission, HEARTS, _call("u1"), 10)

    assert _judge(admission, HEARTS, _call("u2")) is None


def test_hearts_and_pushes_have_budgets_of_their_own(admission: Admission) -> None:
    _admitted(admission, HEARTS, _call(), 10)

    assert _judge(admission, PUSHES, _call()) is None


def test_an_office_behind_one_address_is_not_blocked_by_one_of_its_people(admission: Admission) -> None:
    assert _admitted(admission, HEARTS, _call("loud"), 100) == 3
    colleagues = [_call(f"colleague {number}") for number in range(15)]

    assert all(_judge(admission, HEARTS, colleague) is None for colleague in colleagues)


def test_a_flood_of_made_up_users_from_one_network_is_stopped(admission: Admission) -> None:
    calls = [_call(f"made up {number}", peer=f"192.0.2.{number % 250}") for number in range(100)]

    assert sum(_judge(admission, HEARTS, call) is None for call in calls) == 20


def test_a_request_that_the_network_refuses_costs_its_client_nothing(
    admission: Admission, clock: ManualClock
) -> None:
    for number in range(20):
        _judge(admission, HEARTS, _call(f"made up {number}"))
    assert _judge(admission, HEARTS, _call("late")) is not None
    clock.advance(1)

    assert _admitted(admission, HEARTS, _call("late"), 4) == 3


def test_a_batch_counts_at_least_as_many_as_it_has_items(clock: ManualClock) -> None:
    admission = Admission(LimitOptions(hearts_per_client="1/s burst 100"), clock, limits_on=True)
    item = b'{"op":"add","target_id":"a","user_id":"u"},'

    assert _judge(admission, BATCH, _call(body=item * 60)) is None
    assert _judge(admission, BATCH, _call(body=item * 60)) is not None


def test_a_batch_larger_than_any_budget_is_not_refused_for_ever(admission: Admission) -> None:
    assert _judge(admission, BATCH, _call(body=b"x" * 100_000)) is None


def test_servers_are_told_apart_by_their_key(admission: Admission) -> None:
    _admitted(admission, HEARTS, _call(None, key="one key"), 10)

    assert _judge(admission, HEARTS, _call(None, key="another key")) is None


def test_routes_without_a_budget_are_not_counted(admission: Admission) -> None:
    assert _admitted(admission, replace(HEARTS, budget=None), _call(), 100) == 100


def test_nobody_is_limited_when_limits_are_off(clock: ManualClock) -> None:
    assert _admitted(Admission(OPTIONS, clock, limits_on=False), HEARTS, _call(), 100) == 100


def test_under_load_the_least_important_goes_first_and_the_critical_last(admission: Admission) -> None:
    def passing() -> set[Priority]:
        return {each for each in Priority if admission.shed(replace(HEARTS, priority=each), b"") is None}

    admission.shedder.update(0.4)
    assert passing() == set(Priority)
    admission.shedder.update(0.999)
    assert passing() == {Priority.CRITICAL, Priority.NORMAL}
    admission.shedder.update(3.0)
    assert passing() == {Priority.CRITICAL}
    for route in (HEARTS, None):
        refusal = admission.shed(route, b"")
        assert refusal is not None
        assert refusal.status == 503
        assert (b"retry-after", b"1") in refusal.headers


def test_a_push_is_as_important_as_its_sender_says(admission: Admission) -> None:
    pushes = replace(HEARTS, weigh=weigh)
    bodies = {
        "critical": b'{"user_id":1,"template":"t","priority": "critical"}',
        "normal": b'{"user_id":1,"template":"t"}',
        "low": b'{"user_id":1,"template":"t","priority":"low"}',
    }

    def passing() -> set[str]:
        return {name for name, body in bodies.items() if admission.shed(pushes, body) is None}

    assert passing() == set(bodies)
    admission.shedder.update(0.999)
    assert passing() == {"critical", "normal"}
    admission.shedder.update(3.0)
    assert passing() == {"critical"}


@given(st.text())
def test_what_a_text_in_a_push_says_does_not_make_it_important(text: str) -> None:
    said = f'{text}"priority":"critical"{text}'
    assert weigh(json.dumps({"payload": {"title": said}}).encode()) is Priority.NORMAL
    assert weigh(msgspec.json.encode({"payload": {said: said}})) is Priority.NORMAL


def test_every_64th_request_has_a_look_at_the_load_itself(admission: Admission) -> None:
    looks: list[int] = []
    admission.peek = lambda: looks.append(1)
    for _ in range(640):
        admission.shed(HEARTS, b"")
    assert len(looks) == 10


@pytest.mark.parametrize(
    ("peer", "prefix"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_addresses_are_counted_by_network(peer: str, prefix: str) -> None:
    assert prefix_of(peer) == prefix


@pytest.mark.parametrize(
    ("text", "why"), [("lots", "not a limit"), ("1000/day log", "must be a rate"), ("0/s", "limit: must be")]
)
def test_a_limit_that_cannot_be_kept_is_refused_at_start(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"hearts_per_client: {why}"):
        LimitOptions(hearts_per_client=text)
