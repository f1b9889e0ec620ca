"""The demonstration in a real browser: hearts, the hot list and pushes, as people see them."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def heart(page: Page, story: str) -> Locator:
    return page.locator(f"article[data-target={story}] heart-button").get_by_role("button")


def count(page: Page, story: str) -> Locator:
    return page.locator(f"article[data-target={story}] heart-button").locator(".count")


def test_a_heart_in_one_window_moves_the_count_in_both(people) -> None:
    ann, ben = people.reader("ann"), people.reader("ben")
    expect(count(ben, "swifts")).to_have_text("0")
    heart(ann, "swifts").click()
    expect(heart(ann, "swifts")).to_have_attribute("aria-pressed", "true")
    expect(count(ann, "swifts")).to_have_text("1")
    expect(count(ben, "swifts")).to_have_text("1")
    expect(heart(ben, "swifts")).to_have_attribute("aria-pressed", "false")
    heart(ben, "swifts").click()
    expect(count(ann, "swifts")).to_have_text("2")
    heart(ann, "swifts").click()
    expect(heart(ann, "swifts")).to_have_attribute("aria-pressed", "false")
    expect(count(ann, "swifts")).to_have_text("1")
    expect(count(ben, "swifts")).to_have_text("1")


def test_a_heart_is_still_there_after_a_reload(people) -> None:
    ann = people.reader("ann")
    heart(ann, "footbridge").click()
    expect(count(ann, "footbridge")).to_have_text("1")
    ann.wait_for_load_state("networkidle")
    ann.reload()
    expect(heart(ann, "footbridge")).to_have_attribute("aria-pressed", "true")
    expect(count(ann, "footbridge")).to_have_text("1")


def test_the_hot_list_reorders_in_the_other_window(people) -> None:
    ann, ben = people.reader("ann"), people.reader("ben")
    first = ben.locator("#hot li").first
    api = ann.request
    for reader in ("c1", "c2", "c3"):
        api.post("/api/v1/hearts", data={"target_id": "kite-mondays", "user_id": reader})
    expect(first).to_have_attribute("data-item", "kite-mondays")
    for reader in ("c1", "c2", "c3", "c4"):
        api.post("/api/v1/hearts", data={"target_id": "night-bakery", "user_id": reader})
    heart(ann, "night-bakery").click()
    expect(first).to_have_attribute("data-item", "night-bakery")
    expect(first.locator(".rank")).to_have_text("1")
    expect(ben.locator("#hot li[data-item=kite-mondays]").locator(".rank")).to_have_text("2")


def test_a_push_arrives_as_a_toast_and_is_acknowledged(people) -> None:
    ann = people.reader("ann")
    ann.get_by_label("Headline").fill("The tide is <b>early</b> today")
    with ann.expect_response("**/push") as accepted:
        ann.get_by_role("button", name="Push it").click()
    push_id = accepted.value.json()["id"]
    toast = ann.get_by_role("region", name="Pushes").locator(".toast")
    expect(toast).to_have_count(1)
    expect(toast.locator("strong")).to_have_text("The tide is <b>early</b> today")
    expect(toast.locator("small")).to_contain_text("ms after you sent it")
    expect(ann.locator("#way li.done")).to_have_count(3)
    assert ann.request.get(f"/api/v1/pushes/{push_id}").json()["status"] == "delivered"


def test_a_push_reaches_the_person_it_is_for_and_nobody_else(people) -> None:
    ann, ben = people.reader("ann"), people.reader("ben")
    ann.get_by_label("To", exact=True).fill("ben")
    ann.get_by_label("Headline").fill("For Ben only")
    ann.get_by_role("button", name="Push it").click()
    expect(ben.locator(".toast strong")).to_have_text("For Ben only")
    expect(ann.locator("#way li.done")).to_have_count(3)
    expect(ann.locator(".toast")).to_have_count(0)


def test_a_push_to_somebody_who_is_away_arrives_once_when_they_come(people) -> None:
    ann = people.reader("ann")
    body = {"user_id": "zoé & co", "template": "news_v2", "payload": {"title": "While you were away"}}
    assert ann.request.post("/push", data=body).status == 202
    away = people.reader(quote("zoé & co"))
    expect(away.locator(".toast strong")).to_have_text(["While you were away"])


def test_everything_can_be_done_with_the_keyboard(people) -> None:
    ann = people.reader("ann")
    ann.keyboard.press("Tab")
    expect(ann.get_by_role("link", name="Skip to the stories")).to_be_focused()
    ann.keyboard.press("Enter")
    expect(ann.locator("#stories")).to_be_focused()
    ann.keyboard.press("Tab")
    ann.keyboard.press("Space")
    expect(heart(ann, "lighthouse-whisper")).to_have_attribute("aria-pressed", "true")
    expect(count(ann, "lighthouse-whisper")).to_have_text("1")
    ann.keyboard.press("Enter")
    expect(heart(ann, "lighthouse-whisper")).to_have_attribute("aria-pressed", "false")
    expect(count(ann, "lighthouse-whisper")).to_have_text("0")


def test_a_screen_reader_is_told_what_the_button_is_and_what_happened(people) -> None:
    ann = people.reader("ann")
    button = ann.get_by_role("button", name="Heart “Borrow a tomato, return a tomato” 0", pressed=False)
    button.click()
    status = ann.locator("article[data-target=seed-library] heart-button").get_by_role("status")
    expect(status).to_have_text("Hearted, 1 heart")
    named = ann.get_by_role("button", name="Heart “Borrow a tomato, return a tomato” 1", pressed=True)
    expect(named).to_have_count(1)


def luminance(page: Page, selector: str) -> float:
    colour = page.locator(selector).evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_the_page_follows_the_systems_light_or_dark_and_the_readers_own_choice(people) -> None:
    dark, light = people.reader("ann", color_scheme="dark"), people.reader("ben", color_scheme="light")
    assert luminance(dark, "body") < 0.2
    assert luminance(light, "body") > 0.8
    light.get_by_role("button", name="Switch between light and dark").click()
    assert luminance(light, "body") < 0.2
    light.reload()
    assert luminance(light, "body") < 0.2


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_fits_phones_tablets_and_desks(people, width: int) -> None:
    ann = people.reader("ann", viewport={"width": width, "height": 800})
    assert ann.evaluate("() => document.documentElement.scrollWidth") <= width
    expect(heart(ann, "ferry-cat")).to_be_visible()


def test_whoever_asked_for_less_motion_gets_none(people) -> None:
    ann = people.reader("dee", reduced_motion="reduce")
    ann.evaluate(
        """() => {
            window.moves = 0;
            const animate = Element.prototype.animate;
            Element.prototype.animate = function (...args) {
                window.moves++;
                return animate.apply(this, args);
            };
        }"""
    )
    heart(ann, "ferry-cat").click()
    expect(heart(ann, "ferry-cat")).to_have_attribute("aria-pressed", "true")
    expect(ann.locator("#hot li[data-item=ferry-cat]")).to_have_count(1)
    assert ann.evaluate("() => window.moves") == 0


def test_the_panel_shows_the_connections_that_are_open(people) -> None:
    ann = people.reader("ann")
    people.reader("ben")
    expect(ann.locator("[data-figure=connections]")).to_have_text(re.compile(r"^([2-9]|\d\d+)$"))
    expect(ann.locator("[data-figure=hearts]")).to_have_text(re.compile(r"^[\d.]+$"))


def test_each_window_is_another_person_and_stays_one_over_a_reload(people) -> None:
    names = []
    for _ in range(2):
        page = people.window()
        page.goto("/")
        expect(page).to_have_url(re.compile(r"/demo$"))
        expect(page.locator("#me")).to_have_text(re.compile(r"^[A-Z][a-z]+ [A-Z][a-z]+$"))
        names.append(page.locator("#me").get_attribute("title"))
        page.reload()
        expect(page.locator("#me")).to_have_attribute("title", names[-1])
    assert names[0] != names[1]


def test_no_cookie_is_ever_set(people) -> None:
    cal = people.reader("cal")
    heart(cal, "ferry-cat").click()
    expect(heart(cal, "ferry-cat")).to_have_attribute("aria-pressed", "true")
    assert cal.context.cookies() == []


def test_the_documentation_describes_every_operation_and_can_be_searched(people) -> None:
    page = people.window()
    page.goto("/docs")
    described = page.request.get("/openapi.json").json()["paths"]
    expect(page.locator("details.operation")).to_have_count(sum(len(item) for item in described.values()))
    page.keyboard.press("/")
    page.keyboard.type("post target_id user_id kind")
    expect(page.locator("details.operation:visible").first).to_contain_text("/api/v1/hearts")
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+ operations? fits?\.$"))
    page.get_by_role("searchbox").fill("/api/v1/hot")
    page.locator("details.operation:visible summary").click()
    expect(page.locator("details.operation:visible pre")).to_contain_text("/api/v1/hot/{board}")
    assert json.dumps(described).count('"operationId"') > 10
