"""The static pages: what each answers, what browsers may keep, and what they must not load."""

import gzip
import re

import pytest

from heartcast.api.pages import routes
from heartcast.api.route import Answer, Call

FILES = [route.path for route in routes(with_demo=True) if route.path not in ("/", "/favicon.ico")]


def get(path: str, *, with_demo: bool = True, **headers: str) -> Answer:
    (route,) = (route for route in routes(with_demo=with_demo) if route.path == path)
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    answer = route.handler(Call(headers=lines, respond=lambda answer: None))
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/widget/heart.js", b"text/javascript; charset=utf-8"),
        ("/demo", b"text/html; charset=utf-8"),
        ("/demo/style.css", b"text/css; charset=utf-8"),
        ("/docs", b"text/html; charset=utf-8"),
        ("/favicon.svg", b"image/svg+xml"),
    ],
)
def test_every_file_says_what_it_is(path: str, content_type: bytes) -> None:
    answer = get(path)
    assert (answer.status, answer.content_type) == (200, content_type)
    assert (b"x-content-type-options", b"nosniff") in answer.headers


@pytest.mark.parametrize("path", FILES)
def test_a_browser_that_has_the_file_is_not_sent_it_again(path: str) -> None:
    etag = dict(get(path).headers)[b"etag"].decode()
    answer = get(path, if_none_match=f'"other", {etag}')
    assert (answer.status, answer.body) == (304, b"")
    assert dict(answer.headers)[b"etag"].decode() == etag
    assert get(path, if_none_match='"other"').status == 200


@pytest.mark.parametrize("path", FILES)
def test_what_is_packed_unpacks_to_what_is_not(path: str) -> None:
    packed = get(path, accept_encoding="br, gzip;q=0.8")
    assert dict(packed.headers)[b"content-encoding"] == b"gzip"
    plain = get(path)
    assert gzip.decompress(packed.body) == plain.body
    assert (b"vary", b"accept-encoding") in packed.headers
    assert (b"vary", b"accept-encoding") in plain.headers


@pytest.mark.parametrize("accept", ["", "br", "gzip;q=0", "identity, gzip; q=0.0"])
def test_nothing_is_packed_for_those_who_did_not_ask(accept: str) -> None:
    assert b"content-encoding" not in dict(get("/demo", accept_encoding=accept).headers)


@pytest.mark.parametrize("path", ["/demo", "/docs"])
def test_pages_run_under_a_policy_that_allows_their_own_origin_only(path: str) -> None:
    policy = dict(get(path).headers)[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://|\*", policy)


@pytest.mark.parametrize("path", ["/demo", "/docs"])
def test_pages_have_nothing_that_their_own_policy_would_block(path: str) -> None:
    html = get(path).body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    assert all(re.search(r"\ssrc=", script) for script in re.findall(r"<script[^>]*>", html))


@pytest.mark.parametrize("path", FILES)
def test_no_file_loads_anything_from_another_host(path: str) -> None:
    text = get(path).body.decode()
    hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org", "hearts.example"}
    assert not hosts


def test_the_widget_may_be_kept_and_loaded_by_other_peoples_pages() -> None:
    headers = dict(get("/widget/heart.js").headers)
    assert headers[b"cache-control"].startswith(b"public, max-age=")
    assert headers[b"cross-origin-resource-policy"] == b"cross-origin"


def test_the_widget_sets_no_cookies() -> None:
    assert b"document.cookie" not in get("/widget/heart.js").body


def test_the_root_leads_to_the_demonstration_in_dev_mode_and_to_the_docs_elsewhere() -> None:
    assert dict(get("/").headers)[b"location"] == b"/demo"
    assert dict(get("/", with_demo=False).headers)[b"location"] == b"/docs"


def test_outside_dev_mode_there_is_no_demonstration_but_the_widget_is_there() -> None:
    paths = {route.path for route in routes(with_demo=False)}
    assert not any(path.startswith("/demo") for path in paths)
    assert {"/widget/heart.js", "/docs"} <= paths


def test_pages_need_no_identity() -> None:
    assert all(route.is_public for route in routes(with_demo=True))
