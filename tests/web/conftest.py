"""A real headless Chromium, and people who look at the page with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from heartcast.testing.server import RunningServer, running

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Path of the system's Chromium; where there is none the test is skipped, but fails in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and os.environ.get("CI"):
        pytest.fail("no Chromium here, and in CI there must be one: apt-get install chromium")
    if path is None:
        pytest.skip("no Chromium here: the page was not tested in a browser (apt-get install chromium)")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that lets pages of other origins on this machine use it."""
    environ = {
        "HEARTCAST_HTTP__ALLOWED_ORIGINS": '["http://127.0.0.1:*"]',
        "HEARTCAST_RANKING__RECOMMENDATIONS": "on",
    }
    with running("--in-memory", environ=environ) as server:
        yield server


class People:
    """Opens windows of the page, each as somebody else, and notes what goes wrong in them."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url
        self.faults: list[str] = []

    def window(self, url: str = "", **options: Any) -> Page:
        """An empty window with cookies and storage of its own."""
        page = self._browser.new_context(base_url=url or self.url, **options).new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._note)
        return page

    def _note(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def reader(self, user: str, **options: Any) -> Page:
        """The page, open and connected, as this user."""
        page = self.window(**options)
        page.goto(f"/demo?user={user}")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        return page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()


@pytest.fixture
def people(browser: Browser, server: RunningServer) -> Iterator[People]:
    people = People(browser, server.url)
    yield people
    people.close()
    assert people.faults == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Somebody else's web site: ``site(html)`` serves the page and returns its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing: pytest shows what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def serve(html: str) -> str:
        (tmp_path / "index.html").write_text(html)
        (tmp_path / "favicon.ico").touch()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    server.shutdown()
    thread.join()
    server.server_close()
