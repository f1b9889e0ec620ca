"""What operators are told of targets and users, and who may ask."""

from typing import Any

import pytest

from heartcast.api.auth import ApiKey, Authenticator, AuthOptions
from heartcast.api.console import Console, routes
from heartcast.api.route import ANONYMOUS, Identity
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.abuse import AbuseGuard, Giver
from heartcast.hearts.model import HeartChanged, HeartKey
from heartcast.hearts.options import AbuseOptions
from heartcast.hearts.recent import Recent
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

OPERATOR = Identity(scopes=frozenset({"console"}))
PATH = "/api/v1/console"


def nothing(_: object) -> None: ...


class Desk(Caller):
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.guard = AbuseGuard(AbuseOptions(per_user="1/h burst 1"))
        bus: Bus[HeartChanged] = Bus(lambda flush: flush())
        recent = Recent(clock)
        bus.follow(recent)
        store = MemoryHeartStore(IdSource(SystemClock()))
        self.service = HeartService(store, clock, bus, ("heart", "star"), has_shadows=True)
        super().__init__(routes(Console(self.service, recent, lambda: {"credit": 3}, self.guard)), OPERATOR)

    def heart(self, target: str, user: str) -> None:
        """As the API does it: a heart beyond the first is shadowed."""
        now_ns, now_ms = self.clock.monotonic_ns(), self.clock.wall_ms()
        giver = Giver(user, "", "203.0.113.0/24", False)
        if self.guard.judge(giver, target, now_ns=now_ns, now_ms=now_ms) is None:
            self.service.add((HeartKey(target, user),), nothing)
        else:
            self.service.add_shadowed(HeartKey(target, user), nothing)


@pytest.fixture
def desk(clock: ManualClock) -> Desk:
    desk = Desk(clock)
    desk.heart("post", "u1")
    desk.heart("post", "u2")
    desk.heart("other", "u1")
    desk.service.remove((HeartKey("post", "u2"),), nothing)
    return desk


async def test_the_overview_says_what_is_going_on(desk: Desk) -> None:
    status, found = await desk.json("GET", PATH)

    assert status == 200
    assert (found["added"], found["removed"], found["judged"]) == (2, 1, 3)
    assert {reason: hearts for reason, hearts in found["shadowed"].items() if hearts} == {"user": 1}
    assert (found["lags"], found["degraded"]) == ({"credit": 3}, [])
    newest = found["recent"][0]
    assert (newest["target_id"], newest["user_id"], newest["delta"], newest["count"]) == ("post", "u2", -1, 1)
    [verdict] = found["verdicts"]
    assert verdict == {
        "at": "2023-11-14T22:13:20.000Z",
        "reason": "user",
        "user_id": "u1",
        "target_id": "other",
        "network": "203.0.113.0/24",
    }


async def test_a_target_is_shown_beside_its_recount(desk: Desk) -> None:
    _, post = await desk.json("GET", f"{PATH}/target", {"id": "post"})
    _, other = await desk.json("GET", f"{PATH}/target", {"id": "other"})
    _, nobody = await desk.json("GET", f"{PATH}/target", {"id": "nobody"})

    assert post["kinds"] == [
        {"kind": "heart", "count": 1, "version": 3, "rows": 1, "drift": 0, "shadowed": 0}
    ]
    assert [(heart["user_id"], heart["is_shadowed"]) for heart in post["hearts"]] == [("u1", False)]
    assert [change["delta"] for change in post["recent"]] == [-1, 1, 1]
    assert (other["kinds"][0]["count"], other["kinds"][0]["shadowed"]) == (0, 1)
    assert [verdict["reason"] for verdict in other["verdicts"]] == ["user"]
    assert (nobody["kinds"], nobody["hearts"], nobody["recent"]) == ([], [], [])


async def test_a_user_is_shown_with_what_does_not_count(desk: Desk) -> None:
    _, found = await desk.json("GET", f"{PATH}/user", {"id": "u1"})

    hearts = {(heart["target_id"], heart["kind"], heart["is_shadowed"]) for heart in found["hearts"]}
    assert hearts == {("post", "heart", False), ("other", "heart", True)}
    assert len(found["verdicts"]) == 1
    assert [change["target_id"] for change in found["recent"]] == ["post"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}/target", f"{PATH}/user"])
async def test_only_servers_and_keys_with_the_scope_may_look(desk: Desk, path: str) -> None:
    query: Any = {"id": "post"} if path != PATH else ()
    for identity in (ANONYMOUS, Identity(user="u1"), Identity(scopes=frozenset({"push:write"}))):
        assert (await desk.json("GET", path, query, as_=identity))[0] == 403
    assert (await desk.json("GET", path, query, as_=Identity(is_server=True)))[0] == 200


def test_a_key_for_the_console_may_do_nothing_else(clock: ManualClock) -> None:
    key = ApiKey(key="a key of the help desk", scopes=["console"])
    identity = Authenticator(AuthOptions(api_keys=[key]), clock, is_open=False).identify(
        [(b"x-api-key", b"a key of the help desk")], ""
    )

    assert identity.may("console")
    may = [identity.is_server, identity.may_heart_for("u1"), identity.may_act_for("u1")]
    assert may == [False, False, False]


@pytest.mark.parametrize("query", [{}, {"id": ""}, {"id": "a\n"}, {"id": "a", "more": "b"}])
async def test_bad_questions_are_refused(desk: Desk, query: Any) -> None:
    assert (await desk.json("GET", f"{PATH}/target", query))[0] == 422
