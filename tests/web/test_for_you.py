"""The demonstration's “For you” in a real browser: it follows the reader's heart and says why."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from heartcast.testing import running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def heart(page: Page, story: str) -> Locator:
    return page.locator(f"article[data-target={story}] heart-button").get_by_role("button")


def give(page: Page, readers: str, *stories: str) -> None:
    for reader in readers.split():
        for story in stories:
            page.request.post("/api/v1/hearts", data={"target_id": story, "user_id": reader})


def test_what_is_for_you_follows_your_heart_within_a_second_and_explains_itself(people) -> None:
    ann = people.reader("ann-for-you")
    give(ann, "e1 e2 e3 e4 e5 e6", "seed-library")
    give(ann, "f1 f2 f3", "swifts", "footbridge")
    picks = ann.locator("#for-you li")
    expect(picks.first).to_have_attribute("data-item", "seed-library")
    heart(ann, "swifts").click()
    expect(picks.first).to_have_attribute("data-item", "footbridge", timeout=1000)
    expect(ann.locator("#for-you li[data-item=swifts]")).to_have_count(0)
    reason = re.compile("^You hearted “The swifts are back, eleven days early”, and 3 others hearted both")
    expect(picks.first.get_by_role("tooltip", include_hidden=True)).to_have_text(reason)


def test_why_something_is_for_you_shows_under_the_pointer_and_under_the_focus(people) -> None:
    give(people.window(), "g1 g2 g3", "kite-mondays")
    ann = people.reader("ann-why")
    link = ann.locator("#for-you li").first.get_by_role("link")
    why = ann.locator("#for-you li").first.locator(".why")
    expect(why).to_be_hidden()
    expect(link).to_have_accessible_description(re.compile("hearts' worth right now"))
    link.hover()
    expect(why).to_be_visible()
    why.hover()
    expect(why).to_be_visible()
    ann.keyboard.press("Escape")
    expect(why).to_be_hidden()
    ann.mouse.move(0, 0)
    link.focus()
    expect(why).to_be_visible()
    link.blur()
    expect(why).to_be_hidden()


def test_where_the_server_does_not_recommend_there_is_no_empty_card(people) -> None:
    with running("--in-memory", environ={"HEARTCAST_RANKING__RECOMMENDATIONS": "off"}) as server:
        page = people.window(server.url)
        with page.expect_response("**/api/v1/recommend/**") as asked:
            page.goto("/demo?user=ann")
        assert asked.value.status == 404
        heart(page, "swifts").click()
        expect(page.locator("#hot li")).to_have_count(1)
        expect(page.get_by_role("heading", name="For you")).to_be_hidden()
        # Before its server stops: a page that loses its connection says so, which is no fault here.
        page.context.close()
