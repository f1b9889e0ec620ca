"""Take the README's pictures of the demonstration: ``python tests/web/screenshot.py``.

Starts a server in memory, lets some readers give hearts for most of a minute, and writes
``docs/images/demo-light.png`` and ``docs/images/demo-dark.png``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

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


SAMPLES = 45
"""Seconds of traffic, so that the panel's curves have something to show."""


def give_hearts(page: Page, url: str) -> None:
    """Every heart once, spread over the seconds by dice that fall the same way on every run."""
    dice = Random(7)
    items = [
        {"op": "add", "target_id": target, "user_id": f"reader-{n}"}
        for target, count in HEARTS.items()
        for n in range(count)
    ]
    dice.shuffle(items)
    shares = [dice.uniform(0.2, 1.0) for _ in range(SAMPLES)]
    for share in shares:
        some = [
            items.pop() for _ in range(min(len(items), round(share / sum(shares) * sum(HEARTS.values()))))
        ]
        for item in some:
            page.request.post(f"{url}/api/v1/hearts/batch", data={"items": [item]})
        page.wait_for_timeout(1000)
    page.request.post(f"{url}/api/v1/hearts/batch", data={"items": items})


def open_page(browser: Browser, url: str, scheme: str, user: str) -> Page:
    page = browser.new_context(
        viewport={"width": 1180, "height": 1080},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    ).new_page()
    page.goto(f"{url}/demo?user={user}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    return page


def shoot(page: Page, path: Path) -> None:
    """Give a heart, get a push, and take the picture while the toast is there."""
    page.bring_to_front()
    page.locator("article[data-target=lighthouse-whisper] heart-button").get_by_role("button").click()
    page.get_by_label("Headline").fill("The last ferry waits for you tonight")
    page.get_by_role("button", name="Push it").click()
    expect(page.locator("#way li.done")).to_have_count(3)
    expect(page.locator("#hot li")).to_have_count(5)
    expect(page.locator("#for-you li")).to_have_count(3)
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.locator("#for-you li a").first.hover()
    page.screenshot(path=path)
    with Image.open(path) as picture:
        # 256 colours are enough for a drawn page, and a third of the bytes.
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"{path.name} has {size:,} bytes; the README takes at most {MAX_BYTES:,}")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        running("--in-memory", environ={"HEARTCAST_RANKING__RECOMMENDATIONS": "on"}) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        light = open_page(browser, server.url, "light", "Merry-Puffin-417")
        dark = open_page(browser, server.url, "dark", "Calm-Heron-203")
        give_hearts(light, server.url)
        shoot(light, IMAGES / "demo-light.png")
        shoot(dark, IMAGES / "demo-dark.png")
        browser.close()


if __name__ == "__main__":
    main()
