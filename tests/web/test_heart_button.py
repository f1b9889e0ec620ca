"""The heart button on somebody else's page, in a real browser, with a network that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def host_page(url: str, *buttons: str) -> str:
    head = f'<meta charset="utf-8"><script src="{url}/widget/heart.js" defer></script>'
    return f'<!doctype html><html lang="en">{head}{"".join(buttons)}</html>'


def button(page: Page, target: str) -> Locator:
    return page.locator(f"heart-button[target='{target}']").first.get_by_role("button")


def count(page: Page, target: str) -> Locator:
    return page.locator(f"heart-button[target='{target}']").first.locator(".count")


def note(page: Page) -> Locator:
    return page.locator("heart-button").first.locator(".note")


@pytest.fixture
def visit(people: Any, site: Callable[[str], str]) -> Callable[..., Page]:
    """Opens a page of another origin that holds these buttons."""

    def open_page(
        *buttons: str, before: Callable[[Page], object] = lambda page: None, **options: Any
    ) -> Page:
        page = people.window(url=site(host_page(people.url, *buttons)), **options)
        before(page)
        page.goto("/")
        return page

    return open_page


def add(people: Any, page: Page, target: str, user: str) -> None:
    answer = page.request.post(f"{people.url}/api/v1/hearts", data={"target_id": target, "user_id": user})
    assert answer.ok


def test_one_script_tag_puts_a_working_live_heart_on_a_plain_page_of_another_origin(people, visit) -> None:
    page = visit('<heart-button target="plain" user="u456"></heart-button>')
    expect(count(page, "plain")).to_have_text("0")
    button(page, "plain").click()
    expect(button(page, "plain")).to_have_attribute("aria-pressed", "true")
    expect(count(page, "plain")).to_have_text("1")
    add(people, page, "plain", "somebody else")
    expect(count(page, "plain")).to_have_text("2")


def test_the_page_of_the_how_to_works_as_it_is_printed(people, site) -> None:
    how_to = (Path(__file__).parents[2] / "docs" / "how-to" / "heart-button.md").read_text()
    printed = how_to.partition("```html\n")[2].partition("```")[0]
    page = people.window(url=site(printed.replace("https://hearts.example.org", people.url)))
    page.goto("/")
    expect(count(page, "post_123")).to_have_text("0")
    button(page, "post_123").click()
    expect(count(page, "post_123")).to_have_text("1")


def test_a_visitor_who_is_nobody_keeps_the_heart_without_a_cookie(visit) -> None:
    page = visit('<heart-button target="anonymous"></heart-button>')
    button(page, "anonymous").click()
    expect(count(page, "anonymous")).to_have_text("1")
    page.wait_for_load_state("networkidle")
    page.reload()
    expect(button(page, "anonymous")).to_have_attribute("aria-pressed", "true")
    assert page.context.cookies() == []


def test_targets_with_any_characters_are_followed_live(people, visit) -> None:
    target = "news:2026/11 “héart” ~(1)!*"
    page = visit(f'<heart-button target="{target}" user="u1"></heart-button>')
    expect(count(page, target)).to_have_text("0")
    add(people, page, target, "u2")
    expect(count(page, target)).to_have_text("1")


def test_a_hundred_hearts_share_one_request_and_one_socket(visit) -> None:
    asked: list[str] = []
    sockets: list[str] = []

    def watch(page: Page) -> None:
        page.on("request", lambda request: asked.append(request.url) if "/counts" in request.url else None)
        page.on("websocket", lambda socket: sockets.append(socket.url))

    tags = [f'<heart-button target="many-{n}" user="u1"></heart-button>' for n in range(100)]
    page = visit(*tags, before=watch)
    expect(count(page, "many-99")).to_have_text("0")
    page.wait_for_load_state("networkidle")
    # Once when the buttons appear and once when the socket stands, so that nothing is missed between.
    assert len([url for url in asked if url.endswith("/counts")]) <= 4  # each with its CORS preflight
    assert len(sockets) == 1


def test_more_hearts_than_a_connection_has_channels_are_all_live_without_being_asked_for(
    people, visit
) -> None:
    tags = [f'<heart-button target="crowd-{n}" user="u1"></heart-button>' for n in range(300)]
    # The page's clock stands still after loading: what is asked for now and then would never come.
    page = visit(*tags, before=lambda page: page.clock.install())
    page.clock.run_for(1000)
    expect(count(page, "crowd-299")).to_have_text("0")
    page.wait_for_load_state("networkidle")
    for target in ("crowd-0", "crowd-150", "crowd-299"):
        add(people, page, target, "u2")
        expect(count(page, target)).to_have_text("1")


def test_a_heart_that_left_the_page_is_not_tracked_any_more_and_one_that_moved_is(people, visit) -> None:
    sent: list[str] = []

    def watch(page: Page) -> None:
        page.on("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(str(text))))

    tags = [f'<heart-button target="{name}" user="u1"></heart-button>' for name in ("stays", "moves", "goes")]
    page = visit(*tags, before=watch)
    expect(count(page, "goes")).to_have_text("0")
    page.evaluate(
        """() => { const find = (name) => document.querySelector(`[target=${name}]`);
                   find("goes").remove(); document.body.prepend(find("moves")); }"""
    )
    add(people, page, "moves", "u2")
    expect(count(page, "moves")).to_have_text("1")
    [untrack] = [text for text in sent if "untrack" in text]
    assert json.loads(untrack.splitlines()[0])["rpc"] == {"method": "untrack", "data": {"targets": ["goes"]}}


def test_hearts_beyond_what_one_connection_may_track_are_asked_for_now_and_then(people, visit) -> None:
    tags = [f'<heart-button target="mass-{n}" user="u1"></heart-button>' for n in range(1050)]
    page = visit(*tags, before=lambda page: page.clock.install())
    page.clock.run_for(1000)
    expect(count(page, "mass-1049")).to_have_text("0")
    page.wait_for_load_state("networkidle")
    add(people, page, "mass-0", "u2")
    add(people, page, "mass-1049", "u2")
    expect(count(page, "mass-0")).to_have_text("1")
    expect(count(page, "mass-1049")).to_have_text("0")
    page.clock.run_for(25_000)
    expect(count(page, "mass-1049")).to_have_text("1")


def test_two_buttons_of_one_target_show_the_same(visit) -> None:
    tag = '<heart-button target="twice" user="u1"></heart-button>'
    page = visit(tag, tag)
    expect(count(page, "twice")).to_have_text("0")
    button(page, "twice").click()
    expect(page.locator("heart-button").nth(1).locator(".count")).to_have_text("1")
    expect(page.locator("heart-button").nth(1).get_by_role("button")).to_have_attribute(
        "aria-pressed", "true"
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "that was a lot of hearts. Try again in 7 seconds."),
        (503, "the server is busy. Try again in 7 seconds."),
        (401, "Please sign in"),
        (500, "something went wrong"),
    ],
)
def test_a_refused_heart_is_taken_back_and_the_person_is_told(visit, status: int, words: str) -> None:
    headers = {
        "retry-after": "7",
        "access-control-allow-origin": "*",
        "access-control-allow-headers": "*",
        "access-control-expose-headers": "retry-after",
    }

    def refuse(route: Any) -> None:
        is_preflight = route.request.method == "OPTIONS"
        route.fulfill(status=204 if is_preflight else status, headers=headers)

    page = visit('<heart-button target="refused" user="u1"></heart-button>')
    expect(count(page, "refused")).to_have_text("0")
    page.route("**/api/v1/hearts", refuse)
    button(page, "refused").click()
    expect(note(page)).to_contain_text(words)
    expect(page.locator("heart-button").get_by_role("status")).to_contain_text(words)
    expect(button(page, "refused")).to_have_attribute("aria-pressed", "false")
    expect(count(page, "refused")).to_have_text("0")


def test_a_click_without_a_network_is_kept_and_sent_later(people, visit) -> None:
    page = visit('<heart-button target="offline" user="u1"></heart-button>')
    other = visit('<heart-button target="offline" user="u2"></heart-button>')
    expect(count(page, "offline")).to_have_text("0")
    page.context.set_offline(True)
    button(page, "offline").click()
    expect(note(page)).to_contain_text("You seem to be offline. Your click is kept")
    expect(button(page, "offline")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("heart-button")).to_have_attribute("queued", "")
    expect(count(other, "offline")).to_have_text("0")
    page.context.set_offline(False)
    expect(count(other, "offline")).to_have_text("1")
    expect(count(page, "offline")).to_have_text("1")
    expect(page.locator("heart-button")).not_to_have_attribute("queued", "")
    assert page.evaluate("localStorage.getItem('heartcast.queue')") == "[]"


def test_clicks_that_wait_survive_a_reload_and_leave_in_one_request(visit) -> None:
    tags = [f'<heart-button target="kept-{n}" user="u1"></heart-button>' for n in range(3)]
    page = visit(*tags)
    expect(count(page, "kept-2")).to_have_text("0")
    page.route("**/api/v1/**", lambda route: route.abort())
    for n in range(3):
        button(page, f"kept-{n}").click()
    button(page, "kept-1").click()  # and taken back: nothing is left to send
    expect(page.locator("heart-button[queued]")).to_have_count(2)
    page.reload()
    expect(page.locator("heart-button[queued]")).to_have_count(2)
    expect(button(page, "kept-0")).to_have_attribute("aria-pressed", "true")
    expect(button(page, "kept-1")).to_have_attribute("aria-pressed", "false")
    page.unroute_all()
    with page.expect_request(lambda request: request.method == "POST" and "batch" in request.url) as sent:
        page.evaluate("dispatchEvent(new Event('online'))")
    assert len(sent.value.post_data_json["items"]) == 2
    expect(page.locator("heart-button[queued]")).to_have_count(0)
    for n, hearts in enumerate(("1", "0", "1")):
        expect(count(page, f"kept-{n}")).to_have_text(hearts)


def test_a_click_shows_at_once_and_clicks_during_a_request_are_summed_up(visit) -> None:
    page = visit('<heart-button target="eager" user="u1"></heart-button>')
    expect(count(page, "eager")).to_have_text("0")
    held: list[Any] = []
    methods: list[str] = []

    def hold(route: Any) -> None:
        if route.request.method == "OPTIONS":
            route.continue_()
            return
        methods.append(route.request.method)
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/v1/hearts**", hold)
    with page.expect_request("**/api/v1/hearts"):
        button(page, "eager").click()
    expect(button(page, "eager")).to_have_attribute("aria-pressed", "true")
    expect(count(page, "eager")).to_have_text("1")
    for _ in range(5):
        button(page, "eager").click()
    expect(button(page, "eager")).to_have_attribute("aria-pressed", "false")
    held[0].continue_()
    expect(page.locator("heart-button").get_by_role("status")).to_have_text("Heart taken back, 0 hearts")
    assert [method for method in methods if method != "OPTIONS"][:2] == ["POST", "DELETE"]


def _with_scripted_news(visit: Callable[..., Page], target: str) -> tuple[Page, Callable[[int, int], None]]:
    """A button whose live counts are what the test says: ``publish(count, version)``."""
    opened: list[WebSocketRoute] = []

    def publish(count_: int, version: int) -> None:
        data = {"target_id": target, "count": count_, "version": version}
        opened[0].send(json.dumps({"push": {"channel": f"hearts:{target}", "pub": {"data": data}}}))

    def answer(message: str) -> None:
        replies = []
        for command in map(json.loads, message.split("\n")):
            if "connect" in command:
                replies.append({"id": command["id"], "connect": {"client": "c", "version": "x"}})
            elif "subscribe" in command:
                replies.append({"id": command["id"], "subscribe": {}})
        if replies:
            opened[0].send("\n".join(map(json.dumps, replies)))

    def speak(socket: WebSocketRoute) -> None:
        opened.append(socket)
        socket.on_message(answer)

    page = visit(
        f'<heart-button target="{target}" user="u1"></heart-button>',
        before=lambda page: page.route_web_socket("**/connection/websocket", speak),
    )
    return page, publish


def test_older_news_that_comes_during_a_write_is_not_what_the_person_is_told(visit) -> None:
    page, publish = _with_scripted_news(visit, "overtaken")
    expect(count(page, "overtaken")).to_have_text("0")
    button(page, "overtaken").click()
    status = page.locator("heart-button").get_by_role("status")
    expect(status).to_have_text("Hearted, 1 heart")
    held: list[Any] = []
    page.route("**/api/v1/hearts?**", lambda route: held.insert(0, route))
    with page.expect_request("**/api/v1/hearts?**"):
        button(page, "overtaken").click()
    page.evaluate(
        """() => customElements.get("heart-button").live()
        .subscribe("hearts:overtaken", () => (window.heard = true))"""
    )
    publish(1, 1)
    page.wait_for_function("window.heard")
    held[0].continue_()
    expect(status).to_have_text("Heart taken back, 0 hearts")


def test_a_count_never_goes_back_to_an_older_version(visit) -> None:
    page, publish = _with_scripted_news(visit, "versions")
    expect(count(page, "versions")).to_have_text("0")
    publish(50, 5)
    expect(count(page, "versions")).to_have_text("50")
    publish(40, 4)
    publish(60, 6)
    expect(count(page, "versions")).to_have_text("60")
    publish(59, 5)
    publish(61, 7)
    expect(count(page, "versions")).to_have_text("61")


def test_a_lost_connection_comes_back_by_itself_and_misses_nothing(people, visit) -> None:
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page = visit(
        '<heart-button target="lost" user="u1"></heart-button>',
        before=lambda page: page.route_web_socket("**/connection/websocket", through),
    )
    expect(count(page, "lost")).to_have_text("0")
    add(people, page, "lost", "u2")
    expect(count(page, "lost")).to_have_text("1")
    sockets[0].close(code=3012, reason="shutdown")
    add(people, page, "lost", "u3")
    expect(count(page, "lost")).to_have_text("2")
    assert len(sockets) == 2
    add(people, page, "lost", "u4")
    expect(count(page, "lost")).to_have_text("3")


def test_counts_of_a_server_whose_store_is_away_are_marked(visit) -> None:
    def stale(route: Any) -> None:
        counts = [{"target_id": "old", "count": 7, "version": 7}]
        body = json.dumps({"counts": counts, "as_of": "2026-01-01T00:00:00.000Z", "stale": True})
        route.fulfill(
            body=body, headers={"access-control-allow-origin": "*", "access-control-allow-headers": "*"}
        )

    page = visit(
        '<heart-button target="old" user="u1"></heart-button>',
        before=lambda page: page.route("**/api/v1/hearts/counts", stale),
    )
    expect(count(page, "old")).to_have_text("7")
    expect(page.locator("heart-button")).to_have_attribute("stale", "")


def test_the_look_can_be_changed_from_outside(visit) -> None:
    page = visit(
        "<style>heart-button { --heart-color: rgb(1, 2, 3) }</style>",
        "<style>heart-button::part(count) { font-size: 31px }</style>",
        '<heart-button target="theme" user="u1"></heart-button>',
    )
    button(page, "theme").click()
    expect(button(page, "theme")).to_have_css("color", "rgb(1, 2, 3)")
    expect(count(page, "theme")).to_have_css("font-size", "31px")


def test_a_page_of_an_origin_that_is_not_allowed_gets_no_count_and_no_heart(people, visit) -> None:
    page = visit('<heart-button target="foreign" user="u1"></heart-button>')
    expect(count(page, "foreign")).to_have_text("0")
    people.faults.clear()
    page.goto(page.url.replace("127.0.0.1", "localhost"))
    button(page, "foreign").click()
    expect(note(page)).to_contain_text("Not saved")
    expect(count(page, "foreign")).to_have_text("")
    page.close()
    # The browser itself says why, in its console.
    assert all("CORS" in fault or "WebSocket" in fault for fault in people.faults)
    people.faults.clear()


def test_the_page_hears_of_hearts_by_events(visit) -> None:
    page = visit('<heart-button target="events" user="u1"></heart-button>')
    expect(count(page, "events")).to_have_text("0")
    heard = page.evaluate(
        """() => new Promise((resolve) => {
        document.addEventListener("heart", (event) => resolve(event.detail), { once: true });
        document.querySelector("heart-button").toggle(); })"""
    )
    assert heard == {"target": "events", "hearted": True, "count": 1}
