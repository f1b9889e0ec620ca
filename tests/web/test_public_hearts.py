"""The heart button of a server that faces the public: visitors with signed names, and no script at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from heartcast.testing.server import RunningServer, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

HEART = "\u2764\ufe0f"
TAG = '<heart-button target="post"></heart-button>'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    environ = {
        "HEARTCAST_AUTH__JWT_SECRET": "a secret of more than thirty-two bytes",
        "HEARTCAST_HEARTS__VISITOR_KINDS": '["heart"]',
        "HEARTCAST_HEARTS__OPENHEART": f'{{"{HEART}" = "heart"}}',
        "HEARTCAST_HTTP__ALLOWED_ORIGINS": '["http://127.0.0.1:*"]',
    }
    with running("--mode", "prod", "--in-memory", environ=environ) as server:
        yield server


def host_page(url: str, body: str) -> str:
    head = f'<meta charset="utf-8"><script src="{url}/widget/heart.js" defer></script>'
    return f'<!doctype html><html lang="en">{head}{body}</html>'


def pressed(page: Page) -> Any:
    return expect(page.get_by_role("button"))


def test_visitors_get_signed_names_at_the_first_click_and_keep_their_hearts(people, site) -> None:
    url = site(host_page(people.url, TAG))
    first, second = people.window(url=url), people.window(url=url)
    for page in (first, second):
        page.goto("/")
        expect(page.locator(".count")).to_have_text("0")
        assert page.evaluate("localStorage.length") == 0
    first.get_by_role("button").click()
    expect(second.locator(".count")).to_have_text("1")
    second.get_by_role("button").click()
    expect(first.locator(".count")).to_have_text("2")
    first.wait_for_load_state("networkidle")
    first.reload()
    pressed(first).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button").click()
    expect(second.locator(".count")).to_have_text("1")


def test_a_name_that_the_server_does_not_know_any_more_is_replaced(people, site) -> None:
    page = people.window(url=site(host_page(people.url, TAG.replace("post", "renamed"))))
    forged = '{"user":"visitor-01ARZ3NDEKTSV4RRFFQ69G5FAV","proof":"visitor-01ARZ3NDEKTSV4RRFFQ69G5FAV.1.x"}'
    page.add_init_script(f"""localStorage.getItem("heartcast.visitor {people.url}") ??
        localStorage.setItem("heartcast.visitor {people.url}", '{forged}')""")
    page.goto("/")
    expect(page.locator(".count")).to_have_text("0")
    page.get_by_role("button").click()
    expect(page.locator(".count")).to_have_text("1")
    pressed(page).to_have_attribute("aria-pressed", "true")


def test_without_javascript_a_plain_form_gives_the_heart_and_leads_back(
    browser: Browser, server: RunningServer, site: Callable[[str], str]
) -> None:
    form = f"""<heart-button target="plain"><form method="post" action="{server.url}/oh/plain">
        <input type="hidden" name="back" value="BACK"><button name="heart" value="{HEART}">Heart</button>
        </form></heart-button>"""
    url = site("")
    site(host_page(server.url, form.replace("BACK", f"{url}/?thanks")))
    context = browser.new_context(base_url=url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("button", name="Heart").click()
    page.wait_for_url("**/?thanks")
    answer = page.request.get(f"{server.url}/oh/plain")
    assert answer.json() == {HEART: 1}
    context.close()
