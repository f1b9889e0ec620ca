"""Pushes that leave as one: who is taken along, who is not, and that nothing is lost by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.errors import Conflict
from heartcast.push.digests import MAX_PUSHES
from heartcast.push.model import Priority, Push, State
from heartcast.push.options import CapOptions
from heartcast.push.preferences import Preferences, QuietHours, Window, wishes_of
from heartcast.push.routes.options import Webhook
from heartcast.testing.pushes import PushRig

HOUR_MS = 3_600_000
# Near, so that a push is one object throughout; and nothing is sent again meanwhile.
CALM: dict[str, Any] = {
    "quiet_jitter_s": 0,
    "near_s": 100_000,
    "redeliver_after_s": 100_000,
    "redeliver_at_most_s": 100_000,
}


@pytest.fixture
def rig() -> PushRig:
    rig = PushRig(**CALM)
    rig.connect("ann")
    return rig


def put(rig: PushRig, title: str = "x", user: str = "ann", key: str = "k", **more: Any) -> Push:
    return rig.special(user, title, digest_key=key, digest_ms=HOUR_MS, **more)


def sent(rig: PushRig) -> list[list[str]]:
    """Of each push that was sent, the titles inside."""
    found = []
    for _, data, _, _ in rig.sent:
        payload = json.loads(data)["payload"]
        items = payload.get("digest", {"pushes": [{"payload": payload}]})["pushes"]
        found.append([item["payload"]["title"] for item in items])
    return found


def test_far_away_they_wait_in_the_journal_alone_and_come_together() -> None:
    rig = PushRig(**CALM | {"near_s": 60})
    rig.connect("ann")
    for title in "abc":
        put(rig, title)
    assert rig.service.waiting.far == 3
    rig.turns.advance(3601, step_s=0.5)
    assert sent(rig) == [["a", "b", "c"]]


def test_what_comes_within_the_window_leaves_as_one_at_its_end(rig: PushRig) -> None:
    first = put(rig, "a")
    rig.turns.advance(1800, step_s=1)
    second, third = put(rig, "b"), put(rig, "c")
    assert {push.state for push in (first, second, third)} == {State.DEFERRED}
    assert sent(rig) == []
    rig.turns.advance(1801, step_s=1)
    assert sent(rig) == [["a", "b", "c"]]
    assert first.state is State.SENT
    for other in (second, third):
        assert (other.state, other.reason) == (State.SUPPRESSED, "merged")
        assert other.asked.rounds[-1].other == first.id
    document = json.loads(rig.sent[0][1])["payload"]["digest"]
    assert document["count"] == 3
    assert [item["id"] for item in document["pushes"]] == [first.id, second.id, third.id]


def test_one_alone_leaves_as_it_is(rig: PushRig) -> None:
    put(rig, "a")
    rig.turns.advance(3601, step_s=1)
    [(_, data, _, _)] = rig.sent
    assert json.loads(data)["payload"] == {"title": "a"}


def test_after_the_window_the_next_one_opens_another(rig: PushRig) -> None:
    put(rig, "a")
    rig.turns.advance(3601, step_s=1)
    put(rig, "b")
    rig.turns.advance(3601, step_s=1)
    assert sent(rig) == [["a"], ["b"]]


def test_users_and_keys_are_kept_apart(rig: PushRig) -> None:
    rig.connect("bob")
    put(rig, "a")
    put(rig, "b", user="bob")
    put(rig, "c", key="other")
    rig.turns.advance(3601, step_s=1)
    assert sorted(sent(rig)) == [["a"], ["b"], ["c"]]


def test_one_that_was_cancelled_is_not_in_it_even_the_first(rig: PushRig) -> None:
    pushes = [put(rig, title) for title in "abc"]
    rig.service.recall.cancel(pushes[0], tuple, lambda error: None)
    rig.turns.advance(3601, step_s=1)
    assert sent(rig) == [["b", "c"]]
    assert pushes[0].state is State.CANCELLED


def test_one_that_a_gate_holds_back_is_not_taken_along(rig: PushRig) -> None:
    rig.service.preferences.put("ann", wishes_of(Preferences(categories={"ads": False})))
    put(rig, "a")
    held = put(rig, "b", category="ads")
    late = put(rig, "c", ttl_ms=1000)
    put(rig, "d")
    rig.turns.advance(3601, step_s=1)
    assert sent(rig) == [["a", "d"]]
    assert (held.reason, late.state) == ("category_off", State.EXPIRED)


def test_a_digest_counts_as_one_against_the_cap() -> None:
    rig = PushRig(**CALM, cap=CapOptions(cap="2/day log", smooth="100/min"))
    rig.connect("ann")
    for title in "abcde":
        put(rig, title)
    rig.turns.advance(3601, step_s=1)
    after = rig.push(title="f")
    over = rig.push(title="g")
    rig.turns.settle()
    assert sent(rig) == [["a", "b", "c", "d", "e"], ["f"]]
    assert (after.state, over.reason) == (State.SENT, "cap")


def test_a_digest_is_bounded_in_number_and_in_bytes(rig: PushRig) -> None:
    for number in range(MAX_PUSHES + 10):
        put(rig, str(number))
    rig.turns.advance(3601, step_s=1)
    assert [len(titles) for titles in sent(rig)] == [MAX_PUSHES, 10]
    rig.sent.clear()
    for number in range(5):
        rig.service.accept("ann", "news_v2", {"title": str(number), "more": "x" * 5000}, put(rig).extra)
    rig.turns.advance(3601, step_s=1)
    assert [title for titles in sent(rig) for title in titles if title != "x"] == list("01234")
    assert len(sent(rig)) > 1


def test_it_leaves_by_webhook_too(rig: PushRig) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    rig.service.webhooks.put(
        "crm", rig.service.webhooks.ready("crm", Webhook(url="https://crm.example/", secrets=[secret]))
    )
    pushes = [put(rig, title, routes=["webhook"]) for title in "ab"]
    rig.turns.advance(3602, step_s=1)
    [request] = rig.receiver.received
    assert json.loads(request.body)["data"]["payload"]["digest"]["count"] == 2
    assert [push.state for push in pushes] == [State.DELIVERED, State.SUPPRESSED]


def quiet(rig: PushRig, mode: Any) -> None:
    hours = QuietHours("UTC", [Window("22:00", "07:00")], mode)
    rig.service.preferences.put("ann", wishes_of(Preferences(quiet_hours=hours)))


def test_the_night_comes_as_one_in_the_morning(rig: PushRig) -> None:
    # The clock stands at 22:13.
    quiet(rig, "digest")
    pushes = [rig.push(title=title) for title in "abc"]
    urgent = rig.special(title="now", priority=Priority.CRITICAL)
    rig.turns.advance(1, step_s=1)
    assert {push.state for push in pushes} == {State.DEFERRED}
    assert urgent.state is State.SENT
    rig.turns.advance(9 * 3600, step_s=10)
    assert sent(rig)[0] == ["now"]
    assert ["a", "b", "c"] in sent(rig)
    assert [push.reason for push in pushes[1:]] == ["merged", "merged"]


def test_without_that_mode_the_night_comes_one_by_one(rig: PushRig) -> None:
    quiet(rig, "defer")
    for title in "abc":
        rig.push(title=title)
    rig.turns.advance(9 * 3600, step_s=10)
    assert sent(rig)[:3] == [["a"], ["b"], ["c"]]


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["k", "l"])),
    st.tuples(st.just("plain"), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([1, 1800, 3600])),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_every_push_reaches_its_user_by_itself_or_inside_another_or_was_cancelled(
    steps: list[tuple[str, Any]],
) -> None:
    rig = PushRig(**CALM)
    rig.connect("ann")
    pushes: list[Push] = []
    for step, what in steps:
        if step == "put":
            pushes.append(put(rig, str(len(pushes)), key=what))
        elif step == "plain":
            pushes.append(rig.push(title=str(len(pushes))))
        elif step == "pass":
            rig.turns.advance(what, step_s=max(0.1, what / 20))
        elif pushes:
            try:
                rig.service.recall.cancel(pushes[what % len(pushes)], tuple, lambda error: None)
            except Conflict:
                continue
    rig.turns.advance(3700, step_s=10)
    arrived = [title for titles in sent(rig) for title in titles]
    wanted = [str(number) for number, push in enumerate(pushes) if push.state is not State.CANCELLED]
    assert sorted(arrived) == sorted(wanted)
    assert rig.service.ledger.kept_bytes == sum(
        len(push.payload) for push in rig.service.ledger.live.values()
    ) + sum(len(push.payload) for push in rig.service.ledger.timed.values())
