"""The pages: heart button, demonstration, documentation. Static files from ``heartcast.web``.

Every file is read, hashed and compressed once, at start; a request picks one of two
ready answers or a 304. Pages run under a content security policy that allows their
own origin and nothing else: no inline script, no inline style, no other host.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

from heartcast.api.conditional import matches
from heartcast.api.route import Answer, Call, Headers, Route

_HTML = b"text/html; charset=utf-8"
_JS = b"text/javascript; charset=utf-8"
_CSS = b"text/css; charset=utf-8"
_SVG = b"image/svg+xml"

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Headers = (
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# Asked again on every visit, and answered with 304 unless the program was upgraded.
_REVALIDATE = b"no-cache"
# Other people's pages load the button; an upgrade may take minutes to reach them.
_SHARED = b"public, max-age=300, stale-while-revalidate=86400"


class _File(NamedTuple):
    path: str
    name: str
    content_type: bytes
    summary: str


_FILES = (
    _File("/widget/heart.js", "widget/heart.js", _JS, "The heart button, for any page, by one script tag."),
    _File("/sdk/heartcast.js", "sdk/heartcast.js", _JS, "Pushes in a page: shown once, acknowledged."),
    _File("/page.css", "page.css", _CSS, "What all pages share."),
    _File("/demo", "demo/index.html", _HTML, "A small news page that shows everything at work."),
    _File("/demo/app.js", "demo/app.js", _JS, "The demonstration's script."),
    _File("/demo/style.css", "demo/style.css", _CSS, "The demonstration's style."),
    _File("/docs", "docs/index.html", _HTML, "This API, readable and searchable, offline."),
    _File("/docs/docs.js", "docs/docs.js", _JS, "The documentation's script."),
    _File("/docs/docs.css", "docs/docs.css", _CSS, "The documentation's style."),
    _File("/console", "console/index.html", _HTML, "What operators look at: targets, users, verdicts."),
    _File("/console/console.js", "console/console.js", _JS, "The console's script."),
    _File("/console/console.css", "console/console.css", _CSS, "The console's style."),
    _File("/console/pushes", "console/pushes.html", _HTML, "Every push of a user, and what each gate said."),
    _File("/console/pushes.js", "console/pushes.js", _JS, "That page's script."),
    _File("/console/pushes.css", "console/pushes.css", _CSS, "That page's style."),
    _File("/favicon.svg", "favicon.svg", _SVG, "The icon."),
)


def routes(*, with_demo: bool) -> list[Route]:
    """The routes of all pages.

    Args:
        with_demo: Serve the demonstration and let ``/`` lead there; else ``/`` leads to the
            documentation. The demonstration needs what only dev mode gives: tokens for the asking.
    """
    served = [file for file in _FILES if with_demo or not file.path.startswith("/demo")]
    home = b"/demo" if with_demo else b"/docs"
    to_home = Answer(307, b"", ((b"location", home), (b"cache-control", b"no-store")))
    to_icon = Answer(308, b"", ((b"location", b"/favicon.svg"), (b"cache-control", _SHARED)))
    return [
        *(_route(file.path, _serve(file), file.summary, 200) for file in served),
        _route("/", lambda call: to_home, "Leads to the page worth seeing first.", 307),
        _route("/favicon.ico", lambda call: to_icon, "Leads to the icon.", 308),
    ]


def _serve(file: _File) -> Callable[[Call], Answer]:
    body = files("heartcast.web").joinpath(file.name).read_bytes()
    # Weak: the plain and the packed bytes differ, what they say does not.
    etag = b'W/"%s"' % blake2b(body, digest_size=9).hexdigest().encode()
    headers = _headers(file, etag)
    plain = Answer(200, body, headers, file.content_type)
    # mtime=0: the same bytes on every machine.
    packed = Answer(
        200,
        gzip.compress(body, mtime=0),
        (*headers, (b"content-encoding", b"gzip")),
        file.content_type,
    )
    unchanged = Answer(304, b"", headers, file.content_type)

    def handler(call: Call) -> Answer:
        if matches(call.header(b"if-none-match"), etag):
            return unchanged
        return packed if _takes_gzip(call.header(b"accept-encoding")) else plain

    return handler


def _headers(file: _File, etag: bytes) -> Headers:
    is_shared = file.path.startswith(("/widget/", "/sdk/"))
    own: Headers = _PAGE_HEADERS if file.content_type == _HTML else ()
    if is_shared:
        # Pages that isolate themselves (COEP) may load only what says that it may be loaded.
        own = ((b"cross-origin-resource-policy", b"cross-origin"),)
    return (
        (b"etag", etag),
        (b"cache-control", _SHARED if is_shared else _REVALIDATE),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
        *own,
    )


def _takes_gzip(accept_encoding: bytes | None) -> bool:
    """Whether gzip is named and not refused by ``q=0``."""
    for part in (accept_encoding or b"").lower().split(b","):
        coding, _, weight = part.partition(b";")
        if coding.strip() in (b"gzip", b"*"):
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def _route(path: str, handler: Callable[[Call], Answer], summary: str, status: int) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        tag="pages",
        answers={status: None},
        is_public=True,
    )
