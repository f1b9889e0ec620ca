"""REST of a push's life: what may be asked for, keys, cancelling, traces, receipts, letters, preferences."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heartcast.api.problems import problem
from heartcast.api.push import routes
from heartcast.api.route import CONSOLE, Answer, Call, Identity
from heartcast.core.errors import HeartcastError, StoreUnavailable
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.model import Push
from heartcast.testing.pushes import PushRig

SERVER = Identity(is_server=True)


class SlowJournal(MemoryJournal):
    """As one on a disk: answers when the test says so, or refuses."""

    is_durable = True

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = []

    def write(self, change: Any, done: Any) -> None:
        if done is not None:
            self.held.append(done)

    def answer(self, error: StoreUnavailable | None = None) -> None:
        held, self.held = self.held, []
        for done in held:
            done(error)


class Api:
    def __init__(self, **options: Any) -> None:
        self.rig = PushRig(**options)
        self.routes = {(route.method, route.path): route for route in routes(self.rig.service)}
        self.answers: list[Answer] = []

    def start(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        identity: Identity = SERVER,
        query: str = "",
        headers: dict[str, str] | None = None,
        **params: str,
    ) -> list[Answer]:
        """Call a route; its answer comes in the list, now or later."""
        answers: list[Answer] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        call = Call(
            body=raw,
            params=params,
            identity=identity,
            query=query.encode(),
            headers=[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            respond=answers.append,
        )
        try:
            answer = self.routes[method, path].handler(call)
        except HeartcastError as error:
            answer = problem(error)
        if isinstance(answer, Answer):
            answers.append(answer)
        return answers

    def call(self, *args: Any, **more: Any) -> tuple[int, Any]:
        [answer] = self.start(*args, **more)
        return answer.status, json.loads(answer.body) if answer.body else None

    def post(self, key: str | None = None, **more: Any) -> tuple[int, Any]:
        body = {"user_id": "ann", "template": "news_v2", "payload": {"title": "x"}} | more
        return self.call("POST", "/push", body, headers={"idempotency-key": key} if key else None)

    def get(self, push_id: str) -> Any:
        return self.call("GET", "/api/v1/pushes/{id}", id=push_id)[1]

    def cancel(self, push_id: str, **more: Any) -> tuple[int, Any]:
        return self.call("POST", "/api/v1/pushes/{id}/cancel", id=push_id, **more)

    def steps(self, push_id: str) -> list[tuple[str, str]]:
        return [(step["step"], step["verdict"]) for step in self.get(push_id)["trace"]]


@pytest.fixture
def api() -> Api:
    return Api()


GATES = [
    "expired", "cancelled", "preference", "dedupe", "experiment", "frequency", "quiet_hours", "merge",
    "route", "digest",
]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code", "pointer"),
    [
        ({"ttl": 0}, "invalid_input", "/ttl"),
        ({"ttl": -1}, "invalid_input", "/ttl"),
        ({"ttl": 1e9}, "invalid_input", "/ttl"),
        ({"ttl": "5"}, "invalid_input", "/ttl"),
        ({"priority": "urgent"}, "invalid_input", "/priority"),
        ({"send_at": "tomorrow"}, "invalid_input", "/send_at"),
        ({"send_at": "2023-11-14T22:13:19Z"}, "send_at_in_past", "/send_at"),
        ({"send_at": "2024-12-14T22:13:19Z"}, "send_at_too_far", "/send_at"),
        ({"send_at": "2023-12-01T09:00"}, "invalid_input", "/send_at"),
        ({"send_at": "2023-13-01T09:00:00Z"}, "invalid_input", "/send_at"),
        ({"send_at": "2023-12-01T25:00:00Z"}, "invalid_input", "/send_at"),
        ({"send_at": "2023-12-01T09:00", "zone": "Mars/Olympus"}, "unknown_zone", "/zone"),
        ({"send_at": "2023-12-01T09:00:00Z", "zone": "Europe/Berlin"}, "conflicting_options", "/zone"),
        ({"zone": "Europe/Berlin"}, "conflicting_options", "/zone"),
        ({"dedupe_window": 5}, "conflicting_options", "/dedupe_window"),
        ({"dedupe_key": "k", "dedupe_window": 0}, "invalid_input", "/dedupe_window"),
        ({"dedupe_key": ""}, "invalid_id", "/dedupe_key"),
        ({"category": "a\u0007b"}, "invalid_id", "/category"),
        ({"collapse_key": "x" * 201}, "invalid_id", "/collapse_key"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_taken(
    api: Api, more: dict[str, Any], code: str, pointer: str
) -> None:
    status, document = api.post(**more)
    assert (status, document["code"]) == (422, code)
    assert document["errors"][0]["pointer"] == pointer
    assert api.rig.service.ledger.accepted == 0


@pytest.mark.parametrize(
    ("send_at", "zone", "due"),
    [
        ("2023-12-01T09:00:00+01:00", None, "2023-12-01T08:00:00.000Z"),
        ("2023-12-01T09:00", "Europe/Berlin", "2023-12-01T08:00:00.000Z"),
        ("2024-03-31T02:30", "Europe/Berlin", "2024-03-31T01:30:00.000Z"),
        ("2024-03-10T02:30", "America/New_York", "2024-03-10T07:30:00.000Z"),
        ("2024-11-03T01:30", "America/New_York", "2024-11-03T05:30:00.000Z"),
        ("2024-04-07T01:45", "Australia/Lord_Howe", "2024-04-06T14:45:00.000Z"),
    ],
)
def test_a_time_with_an_offset_or_a_zone_is_kept_to_the_minute_also_in_the_night_of_the_change(
    api: Api, send_at: str, zone: str | None, due: str
) -> None:
    more = {"send_at": send_at} | ({"zone": zone} if zone else {})
    status, push = api.post(**more)
    assert (status, push["status"]) == (202, "deferred")
    state = api.get(push["id"])
    assert (state["due_at"], state["reason"]) == (due, "send_at")


def test_a_duplicate_gets_the_first_ones_id(api: Api) -> None:
    _, first = api.post(dedupe_key="welcome")
    status, second = api.post(dedupe_key="welcome")
    assert (status, second["id"], second["deduplicated"]) == (200, first["id"], True)
    assert second["status"] == "queued"
    assert api.post(dedupe_key="welcome", user_id="bob")[0] == 202
    items = [{"user_id": "cid", "template": "news_v2", "payload": {"title": "x"}, "dedupe_key": "k"}] * 2
    _, answer = api.call("POST", "/api/v1/pushes/batch", {"items": items})
    assert [result["status"] for result in answer["results"]] == [202, 200]


# ── Idempotency-Key ──────────────────────────────────────────────────────────


def test_a_repeated_request_is_answered_and_not_done_again(api: Api) -> None:
    first = api.post("k1")
    assert api.post('"k1"') == first
    assert api.rig.service.ledger.accepted == 1
    assert api.post("k2")[1]["id"] != first[1]["id"]
    status, document = api.post("k1", ttl=5)
    assert (status, document["code"]) == (422, "idempotency_key_reused")
    assert api.post("x" * 256)[1]["code"] == "invalid_idempotency_key"
    replay = api.start(
        "POST", "/push", {"user_id": "ann", "template": "news_v2", "payload": {"title": "x"}},
        headers={"idempotency-key": "k1"},
    )  # fmt: skip
    assert (b"idempotent-replayed", b"true") in replay[0].headers


def test_a_failed_request_may_be_tried_again_with_its_key(api: Api) -> None:
    assert api.post("k1", template="nope")[0] == 404
    assert api.post("k1")[0] == 202


def test_while_the_first_is_under_way_a_second_one_is_told_so_and_a_refused_one_frees_the_key() -> None:
    api = Api(journal=(journal := SlowJournal()))
    arguments = ("POST", "/push", {"user_id": "ann", "template": "news_v2", "payload": {"title": "x"}})
    first = api.start(*arguments, headers={"idempotency-key": "k"})
    assert first == []
    assert api.call(*arguments, headers={"idempotency-key": "k"})[1]["code"] == "idempotency_key_in_use"
    journal.answer(StoreUnavailable("disk full"))
    assert [answer.status for answer in first] == [503]
    assert api.rig.service.ledger.accepted == 0

    second = api.start(*arguments, headers={"idempotency-key": "k"})
    journal.answer()
    assert [answer.status for answer in second] == [202]
    assert api.start(*arguments, headers={"idempotency-key": "k"})[0].body == second[0].body


def test_keys_mean_nothing_elsewhere(api: Api) -> None:
    _, first = api.post("k")
    _, second = api.post("other")
    assert api.cancel(first["id"], headers={"idempotency-key": "k"})[0] == 200
    assert api.cancel(second["id"], headers={"idempotency-key": "k"})[0] == 200


# ── durable answers ──────────────────────────────────────────────────────────


def test_202_is_answered_after_the_commit_and_a_refusal_leaves_nothing() -> None:
    api = Api(journal=(journal := SlowJournal()))
    arguments = ("POST", "/push", {"user_id": 5, "template": "news_v2", "payload": {"title": "x"}})
    answers = api.start(*arguments)
    api.rig.turns.settle()
    assert answers == []
    assert api.rig.service.queued == 0
    journal.answer(StoreUnavailable("disk full"))
    assert json.loads(answers[0].body)["code"] == "store_unavailable"
    ledger, shard = api.rig.service.ledger, api.rig.service.pool.shards[5]
    assert (ledger.accepted, ledger.kept_bytes, len(ledger.live), shard.reserved) == (0, 0, 0, 0)

    answers = api.start(*arguments)
    journal.answer()
    assert answers[0].status == 202
    api.rig.turns.settle()
    assert api.get(json.loads(answers[0].body)["id"])["status"] == "sent"


def test_what_is_on_its_way_to_the_disk_counts_for_its_shard() -> None:
    api = Api(journal=SlowJournal(), max_queued_per_shard=2)
    arguments = ("POST", "/push", {"user_id": 5, "template": "news_v2", "payload": {"title": "x"}})
    answers = [api.start(*arguments) for _ in range(3)]
    assert [len(found) for found in answers] == [0, 0, 1]
    assert json.loads(answers[2][0].body)["code"] == "shard_full"


# ── one push ─────────────────────────────────────────────────────────────────


def test_the_trace_answers_why_somebody_did_not_get_it(api: Api) -> None:
    api.call(
        "PUT", "/api/v1/users/{id}/preferences", {"categories": {"marketing": False}}, id="u456",
    )  # fmt: skip
    _, push = api.post(user_id="u456", category="marketing")
    api.rig.turns.settle()
    state = api.get(push["id"])
    assert (state["status"], state["reason"], state["category"]) == (
        "suppressed",
        "category_off",
        "marketing",
    )
    assert [(step["step"], step["verdict"], step.get("reason")) for step in state["trace"]] == [
        ("accepted", "accepted", None),
        ("expired", "passed", None),
        ("cancelled", "passed", None),
        ("preference", "suppressed", "category_off"),
        ("end", "suppressed", "category_off"),
    ]


def test_the_trace_of_a_delivered_push_names_every_gate_it_passed(api: Api) -> None:
    _, push = api.post()
    api.rig.connect("ann")
    api.rig.turns.settle()
    api.rig.service.on_send("ann", json.dumps({"ack": [push["id"]]}).encode())
    assert api.steps(push["id"]) == [
        ("accepted", "accepted"),
        *((gate, "passed") for gate in GATES),
        ("inbox", "stored"),
        ("realtime", "sent"),
        ("end", "delivered"),
    ]


def test_a_deferred_push_says_until_when_and_what_came_after(api: Api) -> None:
    hours = {"zone": "UTC", "windows": [{"start": "22:00", "end": "07:00"}]}
    api.call("PUT", "/api/v1/users/{id}/preferences", {"quiet_hours": hours}, id="ann")
    _, push = api.post()
    api.rig.turns.settle()
    state = api.get(push["id"])
    assert (state["status"], state["reason"]) == ("deferred", "quiet_hours")
    assert state["due_at"] == state["trace"][-1]["until"] > "2023-11-15T07:00:00"

    api.rig.clock.advance(9.5 * 3600)
    api.rig.turns.advance(0.5)
    verdicts = [verdict for _, verdict in api.steps(push["id"])]
    assert verdicts.index("deferred") < len(verdicts) - 1 - verdicts[::-1].index("passed")
    assert api.get(push["id"])["status"] == "sent"


def test_a_push_can_be_changed_and_cancelled_over_rest(api: Api) -> None:
    _, push = api.post(send_at="2023-12-01T09:00:00Z")
    path = ("PATCH", "/api/v1/pushes/{id}")
    assert api.call(*path, {}, id=push["id"])[0] == 422
    assert api.call(*path, {"payload": {"title": 3}}, id=push["id"])[1]["code"] == "payload_does_not_fit"
    status, state = api.call(*path, {"send_at": "2023-12-02T09:00:00Z", "ttl": 60}, id=push["id"])
    assert (status, state["due_at"]) == (200, "2023-12-02T09:00:00.000Z")
    assert state["expires_at"] == "2023-12-02T09:01:00.000Z"
    status, state = api.cancel(push["id"])
    assert (status, state["status"]) == (200, "cancelled")
    assert api.cancel(push["id"])[0] == 200
    assert api.call(*path, {"ttl": 5}, id=push["id"])[1]["code"] == "push_ended"
    assert api.cancel("01HF0000000000000000000000")[1]["code"] == "push_forgotten"
    assert api.cancel(push["id"], identity=Identity(user="ann"))[0] == 403


def test_receipts_are_taken_once_and_delivered_is_an_acknowledgement(api: Api) -> None:
    _, push = api.post()
    api.rig.turns.settle()
    path = ("POST", "/api/v1/pushes/{id}/receipts")
    ann = Identity(user="ann")
    for _ in range(2):
        assert api.call(*path, {"event": "opened", "device_id": "d1"}, id=push["id"], identity=ann)[0] == 204
    assert api.rig.service.receipts.counts
    assert sum(api.rig.service.receipts.counts.values()) == 1
    assert api.call(*path, {"event": "delivered"}, id=push["id"])[0] == 204
    state = api.get(push["id"])
    assert state["status"] == "delivered"
    assert sorted(state["receipts"]) == ["delivered", "opened"]
    assert api.call(*path, {"event": "smelled"}, id=push["id"])[0] == 422
    assert api.call(*path, {"event": "opened"}, id=push["id"], identity=Identity(user="bob"))[0] == 403


# ── dead letters ─────────────────────────────────────────────────────────────


def test_a_dead_letter_can_be_listed_looked_at_and_sent_again_as_a_new_push() -> None:
    def poisonous(push: Push, now_ms: int) -> None:
        if b"poison" in push.payload and not push.asked.retry_of:
            raise RuntimeError("boom")

    rig_api = Api()
    rig_api.rig = PushRig(poisonous)
    rig_api.routes = {(route.method, route.path): route for route in routes(rig_api.rig.service)}
    ids = [rig_api.post(payload={"title": f"poison {n}"})[1]["id"] for n in range(3)]
    rig_api.rig.turns.advance(10.0)
    assert [rig_api.get(push_id)["status"] for push_id in ids] == ["dead"] * 3

    _, page = rig_api.call("GET", "/api/v1/dead-letters", query="limit=2")
    assert [item["id"] for item in page["items"]] == ids[:2]
    _, rest = rig_api.call("GET", "/api/v1/dead-letters", query=f"limit=2&cursor={page['next_cursor']}")
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (ids[2:], None)
    _, letter = rig_api.call("GET", "/api/v1/dead-letters/{id}", id=ids[0])
    assert (letter["reason"], letter["payload"]) == ("worker_crashed", {"title": "poison 0"})
    assert "boom" in letter["detail"]

    status, again = rig_api.call("POST", "/api/v1/dead-letters/{id}/retry", id=ids[0])
    assert status == 202
    rig_api.rig.turns.settle()
    state = rig_api.get(again["id"])
    assert (state["status"], state["trace"][0]["push"]) == ("sent", ids[0])
    assert rig_api.get(ids[0])["status"] == "dead"
    status, document = rig_api.call("POST", "/api/v1/dead-letters/{id}/retry", id=ids[0])
    assert (status, document["code"]) == (404, "no_dead_letter")
    assert rig_api.call("GET", "/api/v1/dead-letters", query="limit=0")[0] == 422


# ── preferences ──────────────────────────────────────────────────────────────


def test_preferences_are_guarded_against_lost_updates(api: Api) -> None:
    path = "/api/v1/users/{id}/preferences"
    [empty] = api.start("GET", path, id="ann")
    headers = dict(empty.headers)
    assert (empty.status, empty.body) == (200, b"{}")

    [put] = api.start("PUT", path, {"routes": {"realtime": False}}, id="ann",
                      headers={"if-match": headers[b"etag"].decode()})  # fmt: skip
    assert put.status == 200
    [stale] = api.start("PUT", path, {}, id="ann", headers={"if-match": headers[b"etag"].decode()})
    assert (stale.status, json.loads(stale.body)["code"]) == (412, "precondition_failed")
    tag = dict(put.headers)[b"etag"].decode()
    [same] = api.start("GET", path, id="ann", headers={"if-none-match": tag})
    assert same.status == 304
    assert api.call("GET", path, id="ann")[1] == {"routes": {"realtime": False}}
    assert api.call("DELETE", path, id="ann", headers={"if-match": tag})[0] == 204
    assert api.call("GET", path, id="ann")[1] == {}


def test_users_see_and_write_their_own_preferences_only(api: Api) -> None:
    path = "/api/v1/users/{id}/preferences"
    assert api.call("PUT", path, {}, id="ann", identity=Identity(user="ann"))[0] == 200
    assert api.call("PUT", path, {}, id="ann", identity=Identity(user="bob"))[0] == 403
    hours = {"zone": "Europe/Atlantis", "windows": [{"start": "22:00", "end": "07:00"}]}
    status, document = api.call("PUT", path, {"quiet_hours": hours}, id="ann")
    assert (status, document["code"]) == (422, "unknown_zone")
    assert api.call("PUT", path, {"quiet": 1}, id="ann")[0] == 422


def test_preferences_that_could_not_be_written_are_not_kept() -> None:
    api = Api(journal=(journal := SlowJournal()))
    path = "/api/v1/users/{id}/preferences"
    answers = api.start("PUT", path, {"routes": {"realtime": False}}, id="ann")
    journal.answer(StoreUnavailable("disk full"))
    assert [answer.status for answer in answers] == [503]
    assert api.call("GET", path, id="ann")[1] == {}


# ── everything of one user ───────────────────────────────────────────────────


def test_a_users_inbox_is_shown_in_pages_and_what_its_user_saw_cannot_be_taken_back(api: Api) -> None:
    ids = [api.post(payload={"title": str(n)})[1]["id"] for n in range(3)]
    api.rig.turns.settle()
    path, ann = ("GET", "/api/v1/users/{id}/inbox"), Identity(user="ann")
    _, page = api.call(*path, id="ann", query="limit=2")
    assert [(item["id"], item["data"]["title"]) for item in page["items"]] == [(ids[0], "0"), (ids[1], "1")]
    _, rest = api.call(*path, id="ann", query=f"cursor={page['next_cursor']}", identity=ann)
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([ids[2]], None)
    assert api.cancel(ids[0])[0] == 200
    assert api.cancel(ids[2])[1]["code"] == "push_on_its_way"
    assert api.call(*path, id="ann", identity=Identity(user="bob"))[0] == 403
    assert api.call(*path, id="ann", query="cursor=x")[0] == 422


def test_a_key_of_the_console_sees_what_became_of_a_push_and_changes_nothing(api: Api) -> None:
    operator = Identity(scopes=frozenset((CONSOLE,)))
    push = api.post(send_at="2023-12-01T09:00:00Z")[1]["id"]
    user, one = "/api/v1/users/{id}", "/api/v1/pushes/{id}"

    assert api.call("GET", one, id=push, identity=operator)[0] == 200
    export = api.call("GET", f"{user}/export", id="ann", identity=operator)[1]
    assert [found["id"] for found in export["pushes"]] == [push]

    assert api.cancel(push, identity=operator)[0] == 403
    assert api.call("PATCH", one, {"ttl": 5}, id=push, identity=operator)[0] == 403
    assert api.call("DELETE", f"{user}/pushes", id="ann", identity=operator)[0] == 403
    # Reading an inbox is what its user does: it can no longer be taken back then.
    assert api.call("GET", f"{user}/inbox", id="ann", identity=operator)[0] == 403
    assert api.call("GET", f"{user}/export", id="ann", identity=Identity(user="bob"))[0] == 403


def test_a_user_is_exported_and_erased_wherever_its_pushes_are() -> None:
    api = Api(near_s=10.0)
    api.call("PUT", "/api/v1/users/{id}/preferences", {"categories": {"x": False}}, id="ann")
    in_inbox = api.post()[1]["id"]
    api.rig.turns.settle()
    ended = api.post(category="x")[1]["id"]
    api.rig.turns.settle()
    far = api.post(send_at="2023-12-01T09:00:00Z", dedupe_key="k")[1]["id"]
    near = api.post(send_at="2023-11-14T22:13:25Z")[1]["id"]
    other = api.post(user_id="bob")[1]["id"]

    _, export = api.call("GET", "/api/v1/users/{id}/export", id="ann")
    assert [(push["id"], push["status"]) for push in export["pushes"]] == [
        (in_inbox, "sent"), (ended, "suppressed"), (far, "deferred"), (near, "deferred"),
    ]  # fmt: skip
    assert export["preferences"] == {"categories": {"x": False}}

    status, erased = api.call("DELETE", "/api/v1/users/{id}/pushes", id="ann")
    assert (status, erased) == (200, {"cancelled": 3, "records": 1, "dead_letters": 0})
    _, export = api.call("GET", "/api/v1/users/{id}/export", id="ann")
    assert (export["pushes"], export["preferences"]) == ([], {})
    assert api.call("GET", "/api/v1/users/{id}/inbox", id="ann")[1]["items"] == []
    assert api.post(dedupe_key="k")[0] == 202
    api.rig.turns.advance(20.0)
    assert api.get(other)["status"] == "sent"
    waiting = api.rig.service.waiting
    assert (waiting.far, waiting.near) == (0, 0)


class NotedJournal(MemoryJournal):
    """Knows the notes that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {}

    def write(self, change: Any, done: Any) -> None:
        self.kept |= {note.key: note.value for note in change.notes}
        super().write(change, done)


def test_erasing_a_user_takes_its_webhooks_and_the_windows_of_its_digests_away() -> None:
    api = Api(journal=NotedJournal())
    for name, user in (("hers", "ann"), ("his", "bob"), ("all", None)):
        body = {"url": "https://hooks.example.com/in", "user_id": user}
        assert api.call("PUT", "/api/v1/webhooks/{name}", body, name=name)[0] == 201
    for user in ("ann", "bob"):
        assert api.post(user_id=user, digest_key="d", digest_window=3600)[0] == 202
    assert api.call("DELETE", "/api/v1/users/{id}/pushes", id="ann")[0] == 200
    kept = api.rig.service.journal.kept  # type: ignore[attr-defined]
    assert sorted(key for key, value in kept.items() if value is not None and key[:2] in ("w:", "g:")) == [
        "g:bob\0d", "w:all", "w:his",
    ]  # fmt: skip
    assert [endpoint.name for endpoint in api.rig.service.webhooks] == ["all", "his"]


def test_the_tail_gives_each_end_once_and_counts_what_it_left_out() -> None:
    api = Api()
    api.call("PUT", "/api/v1/users/{id}/preferences", {"categories": {"x": False}}, id="ann")

    def end(count: int) -> list[str]:
        ids = [api.post(category="x")[1]["id"] for _ in range(count)]
        api.rig.turns.settle()
        return ids

    def look(query: str) -> tuple[list[str], str, int]:
        tail = api.call("GET", "/api/v1/tail", query=query)[1]
        return [push["id"] for push in tail["items"]], tail["next"], tail["missed"]

    first = end(3)
    assert look("") == ([], look("")[1], 0)  # more may end in this millisecond
    api.rig.turns.advance(0.1)
    ids, place, missed = look("limit=2")
    assert (ids, missed) == (first[1:], 0)
    second = end(4)
    assert look(f"after={place}")[0] == []
    api.rig.turns.advance(0.1)
    assert look(f"after={place}&limit=3")[::2] == (second[1:], 1)
    ids, place, _ = look(f"after={place}")
    assert ids == second
    assert look(f"after={place}")[::2] == ([], 0)
    # A place that lies ahead is of another clock: as if there had been no look.
    assert look(f"after={int(place) + 10**9}")[::2] == ([*first, *second], 0)
    assert api.call("GET", "/api/v1/tail", query="after=x")[1]["code"] == "invalid_input"
