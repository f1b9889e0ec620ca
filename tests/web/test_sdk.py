"""The client helper in a real browser, on somebody else's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>
<ol id="shown"></ol><div style="height: 3000px"></div><p id="far">far below</p>
<script type="module">
  import {{ Heartcast }} from "{url}/sdk/heartcast.js";
  const heartcast = new Heartcast({{ url: "{url}", user: "{user}" }});
  heartcast.onPush = ({{ id, data }}) => {{
    const item = document.createElement("li");
    item.textContent = (data.payload ?? data).title;
    document.querySelector("#shown").append(item);
    heartcast.watch(document.querySelector("#far"), id);
  }};
  heartcast.onState = (state) => (document.documentElement.dataset.state = state);
  heartcast.connect();
</script></html>"""


@pytest.fixture
def visit(people: Any, site: Callable[[str], str]) -> Callable[[str], Page]:
    """Opens a page of another origin that shows this user's pushes."""

    def open_page(user: str) -> Page:
        page = people.window(url=site(PAGE.format(url=people.url, user=user)))
        page.goto("/")
        connected(page)
        return page

    return open_page


def connected(page: Page) -> None:
    expect(page.locator("html")).to_have_attribute("data-state", "connected")


def push(people: Any, page: Page, user: str, title: str) -> str:
    body = {"user_id": user, "template": "news_v2", "payload": {"title": title}}
    answer = page.request.post(f"{people.url}/push", data=body)
    assert answer.status == 202
    return str(answer.json()["id"])


def record(people: Any, page: Page, push_id: str) -> str:
    return page.request.get(f"{people.url}/api/v1/pushes/{push_id}").text()


def wait_for(people: Any, page: Page, push_id: str, word: str) -> None:
    for _ in range(100):
        if word in record(people, page, push_id):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{word} is not in {record(people, page, push_id)}")


def test_a_push_is_shown_once_also_over_a_reload(people: Any, visit: Callable[[str], Page]) -> None:
    page = visit("sdk1")
    first = push(people, page, "sdk1", "one")
    expect(page.locator("li")).to_have_text(["one"])
    wait_for(people, page, first, '"delivered"')
    page.reload()
    connected(page)
    push(people, page, "sdk1", "two")

    expect(page.locator("li")).to_have_text(["two"])


def test_two_tabs_show_it_once(people: Any, visit: Callable[[str], Page]) -> None:
    page = visit("sdk2")
    other = page.context.new_page()
    other.goto("/")
    connected(other)
    for number in range(5):
        wait_for(people, page, push(people, page, "sdk2", f"n{number}"), '"delivered"')
    shown = [*page.locator("li").all_text_contents(), *other.locator("li").all_text_contents()]

    assert sorted(shown) == [f"n{number}" for number in range(5)]


def test_a_push_is_exposed_when_its_element_was_in_view(people: Any, visit: Callable[[str], Page]) -> None:
    page = visit("sdk3")
    push_id = push(people, page, "sdk3", "far")
    expect(page.locator("li")).to_have_text(["far"])
    wait_for(people, page, push_id, '"delivered"')
    assert '"exposed"' not in record(people, page, push_id)
    page.locator("#far").scroll_into_view_if_needed()

    wait_for(people, page, push_id, '"exposed"')
