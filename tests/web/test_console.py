"""The console in a real browser: why somebody did not get a push."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from heartcast.testing.server import RunningServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def push(page: Page, server: RunningServer, user: str, **more: object) -> str:
    body = {"user_id": user, "template": "news_v2", "payload": {"title": "x"}} | more
    return str(page.request.post(f"{server.url}/push", data=json.dumps(body), headers=JSON).json()["id"])


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_says_why_a_user_did_not_get_a_push(browser: Browser, server: RunningServer, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    user = f"u456-{scheme}"
    wishes = json.dumps({"categories": {"ads": False}})
    page.request.put(f"{server.url}/api/v1/users/{user}/preferences", data=wishes, headers=JSON)
    held = push(page, server, user, category="ads")
    push(page, server, user)

    page.goto(f"{server.url}/console/pushes")
    expect(page.get_by_label("User or push id")).to_be_focused()
    page.keyboard.type(user)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("2 pushes, newest first: 1 not delivered, 1 waiting.")
    page.get_by_role("button", name="suppressed 1").click()
    opened = page.locator("details")
    expect(opened).to_have_count(1)
    expect(opened.locator("summary")).to_contain_text(
        f"{user} did not get it: the user switched this category off."
    )
    expect(opened).to_contain_text(held)
    expect(opened.locator("li[data-kind=bad]").first).to_contain_text("preference suppressed")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(251, 247, 241)" if scheme == "light" else "rgb(20, 17, 25)")
    assert problems == []
    page.close()


def test_it_is_used_by_keyboard_alone_and_a_link_leads_to_a_user(
    browser: Browser, server: RunningServer
) -> None:
    page = browser.new_page()
    for _ in range(3):
        push(page, server, "kay")
    page.goto(f"{server.url}/console/pushes#kay")
    expect(page.locator("details")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("details").nth(1)).to_have_attribute("open", "")
    page.keyboard.press("/")
    expect(page.get_by_label("User or push id")).to_be_focused()
    page.keyboard.type("nobody")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("No push to nobody is known.")
    page.get_by_label("User or push id").fill("01HF0000000000000000000000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("no push has this id")
    page.close()
