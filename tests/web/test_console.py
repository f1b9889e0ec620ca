"""The operators' console in a real browser: behind a key, by keyboard, with what people typed as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from heartcast.testing.server import RunningServer, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

KEY = "a key of the help desk"
BACKEND = "a key of the back end"
TRICK = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    keys = f'[{{key = "{KEY}", scopes = ["console"]}}, "{BACKEND}"]'
    with running("--mode", "prod", "--in-memory", environ={"HEARTCAST_AUTH__API_KEYS": keys}) as server:
        yield server


def heart(page: Page, target: str, user: str) -> None:
    data = {"target_id": target, "user_id": user}
    assert page.request.post("/api/v1/hearts", data=data, headers={"x-api-key": BACKEND}).ok


@pytest.fixture
def console(people: Any) -> Page:
    page: Page = people.window()
    for target, user in (("post_1", "u1"), ("post_1", "u2"), (TRICK, "u1")):
        heart(page, target, user)
    page.goto("/console")
    return page


def sign_in(page: Page) -> None:
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Hearts", exact=True)).to_be_visible()


def test_nothing_is_shown_without_a_key_and_a_wrong_one_is_named(console: Page) -> None:
    expect(console.get_by_role("heading", name="Who are you?")).to_be_visible()
    expect(console.get_by_label("API key")).to_be_focused()
    expect(console.locator("#content")).to_be_empty()
    console.get_by_label("API key").fill("a wrong key, long enough")
    console.keyboard.press("Enter")
    expect(console.get_by_role("status")).to_have_text("This key may not open the console.")
    sign_in(console)
    console.get_by_role("button", name="Forget key").click()
    expect(console.get_by_role("heading", name="Who are you?")).to_be_visible()


def test_targets_and_users_are_found_by_keyboard(console: Page) -> None:
    sign_in(console)
    console.keyboard.press("/")
    console.keyboard.type("post_1")
    console.keyboard.press("Enter")
    expect(console.get_by_role("heading", name="post_1")).to_be_visible()
    counts = console.get_by_role("region", name="Counts").get_by_role("row").nth(1).get_by_role("cell")
    expect(counts).to_have_text(["heart", "2", "2", "0", "2", "0"])
    console.get_by_role("region", name="Hearts, oldest first").get_by_role("link", name="u2").click()
    expect(console.get_by_role("heading", name="u2")).to_be_visible()
    console.keyboard.press("Escape")
    expect(console.get_by_role("heading", name="Hearts", exact=True)).to_be_visible()


def test_what_people_typed_is_shown_as_text(console: Page) -> None:
    sign_in(console)
    console.get_by_role("region", name="Last hearts").get_by_role("link", name=TRICK).first.click()
    expect(console.get_by_role("heading", name=TRICK)).to_be_visible()
    assert console.locator("#content img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(people: Any, scheme: Any) -> None:
    page = people.window(color_scheme=scheme)
    page.goto("/console")
    sign_in(page)
    paper, ink = page.evaluate(
        "() => { const look = getComputedStyle(document.body); return [look.backgroundColor, look.color]; }"
    )
    lightness = [sum(map(int, color[4:-1].split(","))) for color in (paper, ink)]
    assert (lightness[0] > lightness[1]) is (scheme == "light")
    assert abs(lightness[0] - lightness[1]) > 450
