"""Over which ways a push leaves, what follows when one fails, and that each push ends once."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.backends.webhook import key_of, verify
from heartcast.core.errors import Conflict
from heartcast.push.model import Push, State
from heartcast.push.preferences import Preferences, wishes_of
from heartcast.push.routes.options import Webhook, WebhookOptions
from heartcast.push.webhooks import webhook_note
from heartcast.testing.providers import (
    Answer,
    Behaviour,
    Received,
    gone,
    healthy,
    hung,
    resetting,
    storm,
    throttling,
)
from heartcast.testing.pushes import PushRig

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://crm.example/hook"


def options(**more: Any) -> WebhookOptions:
    endpoints = {
        "crm": Webhook(url=URL, secrets=[SECRET]),
        "log": Webhook(url="https://log.example/", secrets=[SECRET], categories=["audit"]),
    }
    return WebhookOptions(endpoints=endpoints, **more)


def rig_with(behave: Behaviour = healthy, **more: Any) -> PushRig:
    push = {name: more.pop(name) for name in ("max_deliveries", "ttl_s") if name in more}
    return PushRig(behave=behave, webhooks=options(**more), **push)


@pytest.fixture
def rig() -> PushRig:
    return rig_with()


def told(push: Push) -> list[tuple[str, str, str]]:
    return [(told.gate, told.verdict, told.reason) for told in push.asked.rounds]


def ids(requests: list[Received]) -> list[str]:
    """Push ids in the order in which they arrived."""
    found = []
    for request in requests:
        body = json.loads(request.body)
        found += [part["data"]["id"] for part in (body if isinstance(body, list) else [body])]
    return found


# ── one route ────────────────────────────────────────────────────────────────


def test_a_push_by_webhook_is_delivered_when_the_endpoint_took_it(rig: PushRig) -> None:
    push = rig.special(5, routes=["webhook"])
    rig.turns.advance(0.1)
    assert (push.state, push.offset, push.asked.posted) == (State.DELIVERED, 0, 1)
    [request] = rig.receiver.received
    assert verify(request.headers, request.body, [key_of(SECRET)], rig.clock.wall_ms()) == push.id
    body = json.loads(request.body)
    assert (body["type"], body["user_id"], body["data"]["id"], body["data"]["title"]) == (
        "push",
        5,
        push.id,
        "x",
    )
    assert rig.service.posts.latency.count == 1


def test_its_users_inbox_does_not_see_it(rig: PushRig) -> None:
    rig.receiver.behave = hung
    rig.special(routes=["webhook"])
    rig.turns.advance(0.1)
    assert rig.inbox.box("ann") is None
    rig.connect("ann")
    rig.turns.advance(30)
    assert rig.take_sent() == []


def test_a_try_that_failed_is_made_again_later_and_later_until_it_is_taken() -> None:
    rig = rig_with(storm(100))
    push = rig.special(routes=["webhook:crm"])
    rig.turns.advance(600, step_s=1)
    tries = len(rig.receiver.received)
    assert 4 <= tries <= 60
    assert push.state is State.SENT
    assert told(push) == [("webhook:crm", "failed", "503")]
    rig.receiver.behave = healthy
    rig.turns.advance(3600, step_s=1)
    assert push.state is State.DELIVERED
    assert push.asked.posted == len(rig.receiver.received) == tries + 1
    assert {request.id for request in rig.receiver.received} == {push.id}


def test_after_the_last_try_it_is_a_dead_letter() -> None:
    rig = rig_with(resetting)
    push = rig.special(routes=["webhook"])
    rig.turns.advance(12 * 3600, step_s=5)
    assert (push.state, push.reason) == (State.DEAD, "routes_failed")
    assert len(rig.receiver.received) == 12
    assert rig.service.dead.find(push.id).detail == "no_answer"
    assert len(rig.service.outgoing) == 0


def test_what_is_refused_for_good_is_tried_once() -> None:
    rig = rig_with(storm(100, status=404))
    push = rig.special(routes=["webhook"])
    rig.turns.advance(60)
    assert (push.state, len(rig.receiver.received)) == (State.DEAD, 1)
    assert told(push) == [("webhook", "refused", "404")]


def test_retry_after_holds_up_the_whole_endpoint() -> None:
    rig = rig_with(throttling(1, retry_after_s=100))
    first = rig.special(routes=["webhook"])
    rig.turns.advance(1)
    rig.receiver.behave = healthy
    second = rig.special("bob", routes=["webhook"])
    rig.turns.advance(97)
    assert len(rig.receiver.received) == 1
    rig.turns.advance(60)
    assert first.state is second.state is State.DELIVERED


def test_a_410_disables_the_endpoint_and_what_waited_for_it_dies(rig: PushRig) -> None:
    rig.receiver.behave = gone
    push = rig.special(routes=["webhook"])
    rig.turns.advance(0.1)
    assert push.state is State.DEAD
    assert rig.service.webhooks.get("crm").webhook.disabled
    later = rig.special(routes=["webhook"])
    rig.turns.advance(0.1)
    assert (later.state, later.reason) == (State.SUPPRESSED, "no_endpoint")
    assert len(rig.receiver.received) == 1


def test_a_hung_endpoint_has_a_bounded_number_of_posts_and_its_breaker_opens() -> None:
    rig = rig_with(hung, in_flight=4)
    pushes = [rig.special(number, routes=["webhook:crm"]) for number in range(100)]
    rig.turns.advance(1)
    assert rig.receiver.under_way == 4
    other = rig.special(routes=["webhook"], category="audit")
    rig.receiver.behave = lambda request: Answer(hangs="crm" in request.path)
    rig.turns.advance(0.1)
    assert other.state is State.DELIVERED
    rig.turns.advance(60)
    [crm, _] = rig.service.posts.health()
    assert (crm.name, crm.circuit != "closed") == ("webhook:crm", True)
    rig.receiver.behave = healthy
    rig.turns.advance(2 * 3600, step_s=1)
    assert {push.state for push in pushes} == {State.DELIVERED}


def test_a_rate_is_kept() -> None:
    rig = rig_with(rate="10/s burst 1")
    for number in range(30):
        rig.special(number, routes=["webhook"])
    rig.turns.advance(1)
    assert 9 <= len(rig.receiver.received) <= 12
    rig.turns.advance(3)
    assert rig.ends() == {State.DELIVERED: 30}


def test_the_ttl_counts_while_it_is_tried() -> None:
    rig = rig_with(storm(100))
    push = rig.special(routes=["webhook"], ttl_ms=60_000)
    rig.turns.advance(70)
    assert (push.state, push.reason) == (State.EXPIRED, "ttl")
    tries = len(rig.receiver.received)
    rig.turns.advance(600)
    assert len(rig.receiver.received) == tries


def test_what_was_posted_cannot_be_cancelled_and_what_waits_can(rig: PushRig) -> None:
    rig.receiver.behave = hung
    posted = [rig.special(number, routes=["webhook"]) for number in range(8)]
    waiting = rig.special("late", routes=["webhook"])
    rig.turns.advance(0.1)
    rig.service.recall.cancel(waiting, tuple, lambda error: None)
    with pytest.raises(Conflict):
        rig.service.recall.cancel(posted[0], tuple, lambda error: None)
    rig.receiver.behave = healthy
    rig.turns.advance(120)
    assert waiting.state is State.CANCELLED
    assert waiting.id not in ids(rig.receiver.received)


# ── merging ──────────────────────────────────────────────────────────────────


def test_while_half_of_the_posts_fail_pushes_leave_as_arrays_and_singly_again_when_all_is_well() -> None:
    rig = rig_with(storm(50))
    sizes = []
    for second in range(40):
        if second == 20:
            rig.receiver.behave = healthy
        for number in range(100):
            rig.special(f"{second}-{number}", routes=["webhook"])
        rig.turns.advance(1)
        sizes.append(rig.service.posts.health()[0].batch_size)
    assert max(sizes) == 50
    assert sizes[-1] == 1
    rig.turns.advance(4 * 3600, step_s=1)
    assert rig.ends() == {State.DELIVERED: 4000}
    assert any(request.body.startswith(b"[") for request in rig.receiver.received)
    got = Counter(ids(rig.receiver.accepted))
    assert len(got) == 4000
    assert set(got.values()) == {1}


def test_of_an_array_that_is_refused_each_push_is_tried_alone() -> None:
    poison: set[str] = set()

    def behave(request: Received) -> Answer:
        return Answer(422 if poison & set(ids([request])) else 204)

    rig = rig_with(behave)
    bad, *good = [rig.special(number, routes=["webhook"]) for number in range(10)]
    poison.add(bad.id)
    lane = rig.service.posts.lane("crm")
    lane.merging.size = 50
    rig.turns.advance(1)
    assert bad.state is State.DEAD
    assert {push.state for push in good} == {State.DELIVERED}


def test_the_same_pushes_are_the_same_message_in_every_try() -> None:
    rig = rig_with(storm(100))
    lane = rig.service.posts.lane("crm")
    lane.merging.size = 50
    rig.special("a", routes=["webhook"])
    rig.special("b", routes=["webhook"])
    rig.turns.advance(0.3)
    [request] = rig.receiver.received
    assert len(json.loads(request.body)) == 2
    assert request.id.startswith(json.loads(request.body)[0]["data"]["id"] + "-")


# ── several routes and fallback ──────────────────────────────────────────────


def test_the_first_acknowledgement_ends_it_and_the_other_route_stops() -> None:
    rig = rig_with(storm(100))
    rig.connect("ann")
    push = rig.special(routes=["realtime", "webhook"])
    rig.turns.advance(1)
    assert len(rig.receiver.received) == 1
    assert rig.take_sent() == [(push.id, 1, False)]
    rig.service.on_send("ann", json.dumps({"ack": [push.id]}).encode())
    assert push.state is State.DELIVERED
    rig.turns.advance(600)
    assert len(rig.receiver.received) == 1
    assert len(rig.service.outgoing) == 0


def test_a_webhook_that_took_it_takes_it_out_of_the_inbox(rig: PushRig) -> None:
    push = rig.special(routes=["realtime", "webhook"])
    rig.turns.advance(0.1)
    assert push.state is State.DELIVERED
    assert not rig.connect("ann").pushes  # type: ignore[union-attr]


def test_offline_too_long_it_falls_back(rig: PushRig) -> None:
    push = rig.special(fallback=["webhook"], fallback_ms=30_000)
    rig.turns.advance(29)
    assert (push.state, rig.receiver.received) == (State.SENT, [])
    rig.turns.advance(2)
    assert push.state is State.DELIVERED
    assert told(push) == [("fallback", "began", "no_ack"), ("webhook", "delivered", "")]


def test_an_acknowledgement_in_time_keeps_it_from_falling_back(rig: PushRig) -> None:
    push = rig.special(fallback=["webhook"], fallback_ms=30_000)
    rig.connect("ann")
    rig.turns.advance(10)
    rig.service.on_send("ann", json.dumps({"ack": [push.id]}).encode())
    rig.turns.advance(60)
    assert (push.state, rig.receiver.received) == (State.DELIVERED, [])


def test_a_first_route_that_is_over_does_not_wait_for_the_time() -> None:
    rig = rig_with(lambda request: Answer(404 if "log" in request.path else 204))
    push = rig.special(routes=["webhook:log"], fallback=["webhook:crm"], fallback_ms=3_600_000)
    rig.turns.advance(0.3)
    assert push.state is State.DELIVERED
    assert [gate for gate, _, _ in told(push)] == ["webhook:log", "fallback", "webhook:crm"]


def test_in_the_inbox_it_waits_for_its_user_when_all_else_has_failed() -> None:
    rig = rig_with(storm(100, status=400))
    push = rig.special(fallback=["webhook"], fallback_ms=1000)
    rig.turns.advance(10)
    assert push.state is State.SENT
    assert rig.connect("ann").pushes == [push]  # type: ignore[union-attr]


def test_who_has_switched_realtime_off_gets_the_rest(rig: PushRig) -> None:
    rig.service.preferences.put("ann", wishes_of(Preferences(routes={"realtime": False})))
    push = rig.special(routes=["realtime", "webhook"])
    plain = rig.push()
    rig.turns.advance(0.1)
    assert (push.state, push.offset) == (State.DELIVERED, 0)
    assert (plain.state, plain.reason) == (State.SUPPRESSED, "route_off")


def test_who_has_switched_all_off_gets_nothing_and_the_trace_says_why(rig: PushRig) -> None:
    rig.service.preferences.put("ann", wishes_of(Preferences(routes={"webhook": False})))
    push = rig.special(routes=["webhook"])
    rig.turns.advance(0.1)
    assert (push.state, push.reason) == (State.SUPPRESSED, "route_off")
    assert told(push) == [("route", "suppressed", "route_off")]


@pytest.mark.parametrize("route", ["webhook:nobody", "pigeon"])
def test_a_route_to_nobody_suppresses(rig: PushRig, route: str) -> None:
    push = rig.special(routes=[route])
    rig.turns.advance(0.1)
    assert push.state is State.SUPPRESSED
    assert push.reason in ("no_endpoint", "no_such_route")


def test_the_endpoint_that_says_most_about_a_push_gets_it(rig: PushRig) -> None:
    rig.service.webhooks.put(
        "own",
        rig.service.webhooks.ready(
            "own", Webhook(url="https://ann.example/", secrets=[SECRET], user_id="ann")
        ),
    )
    for user, category in (("ann", ""), ("ann", "audit"), ("bob", "audit"), ("bob", "other")):
        rig.special(user, routes=["webhook"], category=category)
    rig.turns.advance(0.1)
    hosts = sorted(request.path.split("/")[2] for request in rig.receiver.received)
    assert hosts == ["ann.example", "ann.example", "crm.example", "log.example"]


def test_a_client_that_never_acknowledges_is_given_up() -> None:
    rig = rig_with(max_deliveries=5)
    push = rig.push()
    rig.connect("ann")
    rig.turns.advance(1000, step_s=1)
    assert (push.state, push.reason, push.attempts) == (State.DEAD, "unacknowledged", 5)


# ── conservation ─────────────────────────────────────────────────────────────

BEHAVIOURS: dict[str, Behaviour] = {
    "healthy": healthy,
    "storm": storm(50),
    "hung": hung,
    "resetting": resetting,
    "gone": gone,
    "refusing": storm(30, status=400),
    "throttling": throttling(3, 5),
}
ROUTES = st.sampled_from(
    [[], ["webhook"], ["realtime", "webhook"], ["webhook:log", "webhook:crm"], ["pigeon"]]
)
STEPS = st.one_of(
    st.tuples(st.just("push"), ROUTES, st.sampled_from([[], ["webhook"], ["webhook:log"]])),
    st.tuples(st.just("behave"), st.sampled_from(sorted(BEHAVIOURS)), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([0.1, 3.0, 40.0]), st.none()),
    st.tuples(st.just("ack"), st.integers(0, 30), st.none()),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_over_all_routes_every_push_ends_exactly_once(steps: list[tuple[str, Any, Any]]) -> None:
    rig = PushRig(webhooks=options(in_flight=2))
    ended: Counter[str] = Counter()
    told_before = rig.service.ledger.on_end
    assert told_before is not None

    def count(push: Push) -> None:
        ended[push.id] += 1
        told_before(push)

    rig.service.ledger.on_end = count
    pushes: list[Push] = []
    rig.connect("u0")
    for step, what, more in steps:
        if step == "push":
            user = f"u{len(pushes) % 3}"
            pushes.append(rig.special(user, routes=what, fallback=more, fallback_ms=5000, ttl_ms=3_600_000))
        elif step == "behave":
            rig.receiver.behave = BEHAVIOURS[what]
        elif step == "pass":
            rig.turns.advance(what, step_s=0.1 if what < 1 else 0.5)
        elif pushes and step == "ack":
            push = pushes[what % len(pushes)]
            rig.service.delivery.acknowledge(push.user, [push.id], rig.clock.wall_ms())
        elif pushes:
            with contextlib.suppress(Conflict):
                rig.service.recall.cancel(pushes[what % len(pushes)], tuple, lambda error: None)
    rig.turns.advance(3700, step_s=10)
    assert {push.id: 1 for push in pushes} == ended
    assert all(push.state.is_terminal for push in pushes)
    assert len(rig.service.outgoing) == 0
    assert sum(rig.ends().values()) == len(pushes)


def test_notes_of_endpoints_are_read_again() -> None:
    rig = rig_with()
    note = webhook_note("later", Webhook(url=URL, secrets=[SECRET], disabled=True))
    rig.service.webhooks.restore([note])
    assert rig.service.webhooks.get("later").webhook.disabled
