"""Blogs that speak OpenHeart, and readers without JavaScript."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.auth.signing import Signer
from heartcast.api.cors import Origins
from heartcast.api.openheart import OpenHeart, _origin, routes
from heartcast.api.route import ANONYMOUS, Identity
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

PATH = "/oh/{target}"
FORM = {"content-type": "application/x-www-form-urlencoded", "host": "hearts.example"}
HEART = "❤️"


class Blog(Caller):
    def __init__(self) -> None:
        self.store = MemoryHeartStore(IdSource(SystemClock()))
        service = HeartService(self.store, ManualClock(), Bus(lambda _: None), ("heart", "star"))
        subject = OpenHeart(
            service,
            {HEART: "heart", "⭐": "star"},
            guests=Signer([b"key"], "guest"),
            judging=None,
            origins=Origins(["https://blog.example"]),
        )
        super().__init__(routes(subject), ANONYMOUS)

    async def send(self, body: str | bytes, *, target: str = "post", **more: Any) -> Any:
        raw = body if isinstance(body, bytes) else body.encode()
        return await self.answer("POST", PATH, (), raw, params={"target": target}, **more)


@pytest.fixture
def blog() -> Blog:
    return Blog()


async def test_an_emoji_is_a_heart_and_the_answer_the_counts(blog: Blog) -> None:
    first = await blog.send(HEART)
    plain = await blog.send("\u2764 \n", peer="198.51.100.1")  # without the mark for colour
    star = await blog.send("⭐")
    read = await blog.answer("GET", PATH, params={"target": "post"})
    nobody = await blog.answer("GET", PATH, params={"target": "another"})

    assert [json.loads(answer.body) for answer in (first, plain, star)] == [
        {HEART: 1},
        {HEART: 2},
        {HEART: 2, "⭐": 1},
    ]
    assert (read.status, read.body) == (200, star.body)
    assert nobody.body == b"{}"


async def test_a_guest_hearts_once_and_an_office_with_two_browsers_twice(blog: Blog) -> None:
    firefox, chromium = {"user-agent": "Firefox"}, {"user-agent": "Chromium"}
    counts = [
        json.loads((await blog.send(HEART, headers=headers)).body)[HEART]
        for headers in (firefox, firefox, chromium, firefox)
    ]

    assert counts == [1, 1, 2, 2]
    users = [heart.key.user_id async for hearts in blog.store.scan() for heart in hearts]
    assert all(user.startswith("guest-") and "203.0.113.7" not in user for user in users)


async def test_who_is_known_hearts_in_the_own_name(blog: Blog) -> None:
    await blog.send(HEART, as_=Identity(user="u1"))
    refused = await blog.send(HEART, as_=Identity(user="u2", scopes=frozenset()))

    assert refused.status == 403
    assert [heart.key.user_id async for hearts in blog.store.scan() for heart in hearts] == ["u1"]


@pytest.mark.parametrize("body", ["", "🍕", "<3", b"\xff\xfe", "❤️" * 1000])
async def test_what_is_no_heart_here_is_refused(blog: Blog, body: str | bytes) -> None:
    answer = await blog.send(body)
    assert (answer.status, json.loads(answer.body)["code"]) == (422, "unknown_emoji")


@pytest.mark.parametrize(
    ("back", "referer", "location"),
    [
        ("https://blog.example/post?x=1", "", "https://blog.example/post?x=1"),
        ("", "https://blog.example/", "https://blog.example/"),
        ("", "http://hearts.example/demo", "http://hearts.example/demo"),
        ("https://evil.example/", "https://blog.example/", None),
        ("https://blog.example.evil.example/", "", None),
        ("https://blog.example@evil.example/", "", None),
        ("javascript:alert(1)", "", None),
        ("//evil.example", "", None),
        ("https://blog.example/\r\nset-cookie: a=b", "", None),
        ("https://[broken", "", None),
        ("", "", None),
    ],
)
async def test_a_form_leads_back_to_pages_that_may_use_us_and_nowhere_else(
    blog: Blog, back: str, referer: str, location: str | None
) -> None:
    body = urlencode({"heart": HEART, **({"back": back} if back else {})})
    answer = await blog.send(body, headers={**FORM, **({"referer": referer} if referer else {})})

    assert answer.status == (204 if location is None else 303)
    found = dict(answer.headers).get(b"location")
    assert found == (None if location is None else location.encode())


@given(st.text(max_size=60))
def test_no_address_at_all_breaks_the_way_back(page: str) -> None:
    origin = _origin(page)
    assert origin == "" or page.lower().startswith(origin.lower())


def test_an_emoji_must_give_a_kind_that_visitors_may_give() -> None:
    with pytest.raises(ValueError, match="openheart: "):
        HeartOptions(openheart={"❤️": "heart"})
    assert HeartOptions(openheart={"❤️": "heart"}, visitor_kinds=["heart"]).openheart
