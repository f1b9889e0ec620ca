"""Visitors who are nobody: a signed name of their device, which nobody else can make up."""

import json
from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.api.auth.devices import COOKIE, Devices
from heartcast.api.auth.signing import Signer
from heartcast.core.errors import Unauthenticated
from heartcast.core.ids import IdSource
from heartcast.testing import ManualClock
from heartcast.testing.server import RunningServer

DAY_S = 86_400


def devices(clock: ManualClock, *keys: bytes, purpose: str = "visitor") -> Devices:
    return Devices(Signer(keys or (b"key",), purpose), clock, IdSource(clock), 30 * DAY_S)


def cookie(proof: str, before: str = "") -> list[tuple[bytes, bytes]]:
    return [(b"cookie", f"{before}{COOKIE}={proof}; theme=dark".encode("latin-1"))]


def test_a_visitor_is_known_by_cookie_and_by_header(clock: ManualClock) -> None:
    known = devices(clock)
    visitor = known.issue()
    authenticator = Authenticator(AuthOptions(), clock, is_open=False, devices=known)

    for headers in (
        cookie(visitor.proof),
        cookie(visitor.proof, before="session=1; "),
        [(b"authorization", f"Visitor {visitor.proof}".encode())],
    ):
        identity = authenticator.identify(headers, "")
        assert (identity.user, identity.is_visitor, identity.is_server) == (visitor.user, True, False)
    assert authenticator.identify([(b"cookie", b"session=1")], "").user is None


def test_a_forged_name_is_nobodys(clock: ManualClock) -> None:
    known = devices(clock)
    mine, theirs = known.issue().proof, known.issue().proof
    user, issued, signature = mine.split(".")
    forged = [
        "",
        "..",
        f"{user}.{issued}",
        f"{theirs.split('.')[0]}.{issued}.{signature}",
        f"{user}.{int(issued) + 1}.{signature}",
        f"{user}.{issued}.{signature[:-1]}",
        f"{user}.{issued}.",
        devices(clock, b"another key").issue().proof,
        devices(clock, purpose="cursor").issue().proof,
    ]
    authenticator = Authenticator(AuthOptions(), clock, is_open=False, devices=known)

    assert [known.read(proof) for proof in forged] == [None] * len(forged)
    assert {authenticator.identify(cookie(proof), "").user for proof in forged} == {None}
    for proof in forged:
        with pytest.raises(Unauthenticated):
            authenticator.identify([(b"authorization", f"Visitor {proof}".encode())], "")


def test_a_name_expires_and_one_of_the_future_is_not_known_yet(clock: ManualClock) -> None:
    known = devices(clock)
    early = known.issue().proof
    clock.advance(30 * DAY_S - 1)
    assert known.read(early) is not None
    clock.advance(1)
    assert known.read(early) is None
    late = known.issue().proof
    behind = devices(ManualClock())
    assert behind.read(late) is None


def test_a_name_is_renewed_when_half_its_time_is_over_or_its_key_is_old(clock: ManualClock) -> None:
    first = devices(clock, b"old").issue()

    rotated = devices(clock, b"new", b"old").read(first.proof)
    assert rotated is not None
    assert (rotated.user, rotated.is_fresh) == (first.user, False)
    clock.advance(15 * DAY_S)
    half = devices(clock, b"old").read(first.proof)
    assert half is not None
    assert not half.is_fresh
    assert devices(clock, b"new").read(first.proof) is None


@given(st.text(max_size=100))
def test_no_text_at_all_is_a_name_or_an_error(text: str) -> None:
    known = devices(ManualClock())
    assert known.read(text) is None
    assert known.of([(b"cookie", f"{COOKIE}={text}".encode("utf-8", "replace"))]) is None


def test_a_real_browserless_visitor_hearts_what_visitors_may(serve: Callable[..., RunningServer]) -> None:
    environ = {
        "HEARTCAST_AUTH__JWT_SECRET": "a secret of more than thirty-two bytes",
        "HEARTCAST_HEARTS__KINDS": '["heart", "star"]',
        "HEARTCAST_HEARTS__VISITOR_KINDS": '["heart"]',
    }
    server = serve("--mode", "prod", "--in-memory", environ=environ)
    with httpx2.Client(base_url=server.url) as browser:
        assert browser.post("/api/v1/hearts", json={"target_id": "t", "user_id": "u"}).status_code == 401
        named = browser.post("/api/v1/visitors")
        attributes = named.headers["set-cookie"].split("; ")
        user = named.json()["user_id"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert named.headers["cache-control"] == "no-store"
        assert browser.post("/api/v1/visitors").json()["user_id"] == user

        def heart(user_id: str, kind: str = "heart") -> tuple[int, str]:
            body = {"target_id": "t", "user_id": user_id, "kind": kind}
            answer = browser.post("/api/v1/hearts", json=body)
            return answer.status_code, json.loads(answer.content).get("code", "")

        assert heart(user) == (201, "")
        assert heart(user, "star") == (403, "user_needed")
        assert heart("visitor-of-somebody") == (403, "forbidden")
        query = {"target_id": "t", "user_id": user}
        counts = browser.get("/api/v1/hearts/counts", params=query)
        assert counts.json()["counts"][0]["hearted"] is True
        etag = {"if-none-match": counts.headers["etag"]}
        known = browser.get("/api/v1/hearts/counts", params=query, headers=etag)
        assert (known.status_code, known.content) == (304, b"")
        assert browser.delete("/api/v1/hearts", params=query).json()["count"] == 0
