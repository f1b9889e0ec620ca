"""Take the README's pictures of the demonstration: ``python tests/web/screenshot.py``.

Starts a server in memory, lets some readers give hearts, and writes
``docs/images/demo-light.png`` and ``docs/images/demo-dark.png``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from playwright.sync_api import APIRequestContext, Browser, Page, expect, sync_playwright

from conftest import FLAGS, chromium
from heartcast.testing.server import running

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAX_BYTES = 200_000
HEARTS = {
    "ferry-cat": 342,
    "lighthouse-whisper": 287,
    "night-bakery": 164,
    "seed-library": 91,
    "swifts": 76,
    "footbridge": 48,
    "kite-mondays": 33,
}


def give_hearts(api: APIRequestContext, url: str) -> None:
    """The same hearts in the same order on every run."""
    items = [
        {"op": "add", "target_id": target, "user_id": f"reader-{n}"}
        for target, count in HEARTS.items()
        for n in range(count)
    ]
    Random(7).shuffle(items)
    for start in range(0, len(items), 20):
        api.post(f"{url}/api/v1/hearts/batch", data={"items": items[start : start + 20]})


def take(browser: Browser, url: str, scheme: str) -> None:
    # Every picture in a context of its own; the second shows what the first left behind.
    page = browser.new_context(
        viewport={"width": 1180, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    ).new_page()
    page.goto(f"{url}/demo?user=Merry-Puffin-{417 if scheme == 'light' else 418}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    give_hearts(page.request, url)
    page.locator("article[data-target=lighthouse-whisper] heart-button").get_by_role("button").click()
    page.get_by_label("Headline").fill("The last ferry waits for you tonight")
    page.get_by_role("button", name="Push it").click()
    expect(page.locator("#way li.done")).to_have_count(3)
    expect(page.locator("#hot li")).to_have_count(5)
    _shoot(page, IMAGES / f"demo-{scheme}.png")


def _shoot(page: Page, path: Path) -> None:
    # Until the panel has noticed the traffic.
    expect(page.locator("[data-figure=hearts]")).not_to_have_text("0")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"{path.name} has {size:,} bytes; the README takes at most {MAX_BYTES:,}")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        with running("--in-memory") as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            take(browser, server.url, scheme)
            browser.close()


if __name__ == "__main__":
    main()
