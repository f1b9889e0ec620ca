"""What the head of a request says, judged once.

``judge`` is pure: from the request line and headers it decides who answers (a hot handler, the
application, a stream, a socket, or nobody because the request is refused) and everything about
the answer that does not depend on the body. Requests of one keep-alive connection mostly have
the same head byte for byte, so the port may remember a judged head and use it again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httptools

from heartcast.api.cors import cors_headers, preflight
from heartcast.api.media import media_type_problem
from heartcast.api.problems import status_problem
from heartcast.api.route import Answer, Headers, Route

if TYPE_CHECKING:
    from heartcast.gateway.port import HotRoute, Rules

# Who answers.
HOT, COLD, CANNED, STREAM, SOCKET = range(5)

STREAM_PATH = b"/api/v1/stream"
SOCKET_PATHS = frozenset({b"/connection/websocket"})

RawHeaders = list[tuple[bytes, bytes]]
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=-]*(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?").fullmatch


class Head:
    """A judged request head. Shared between requests: never changed after ``judge``."""

    __slots__ = (
        "canned",
        "closes",
        "content_length",
        "cors",
        "expects_continue",
        "extra",
        "has_body",
        "headers",
        "hot",
        "http_version",
        "is_fatal",
        "is_head",
        "is_memorable",
        "kind",
        "method",
        "path",
        "peer",
        "query",
        "route",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, headers: RawHeaders) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.kind = COLD
        self.path = target
        self.query = b""
        self.http_version = "1.1"
        self.hot: HotRoute | None = None
        self.route: Route | None = None
        """What the application has for it; None for hot routes, and where there is nothing."""
        self.canned: Answer | None = None
        """The answer that needs no handler; for a hot route, instead of its handler."""
        self.cors: Headers = ()
        self.extra = b""
        """``cors`` as bytes, each line with its end."""
        self.content_length = 0
        self.has_body = False
        self.closes = False
        """Whether the connection ends with this answer."""
        self.is_fatal = False
        """Whether to answer ``canned`` now and read no further: where the body ends is not known or
        it is too long to wait for."""
        self.is_head = method == b"HEAD"
        self.is_memorable = False
        self.expects_continue = False
        self.peer: str | None = None
        """Address from X-Forwarded-For; None when the connection's own holds."""

    def refuse(self, status: int, detail: str, code: str, *, is_fatal: bool = False) -> None:
        """Let nobody answer this but us. The first refusal stays."""
        if self.canned is not None:
            return
        self.canned = status_problem(status, detail, code)
        self.kind = CANNED
        self.is_fatal = is_fatal
        self.closes = self.closes or is_fatal


def refused(status: int, detail: str, code: str) -> Head:
    """The head of a request that could not even be read to its end."""
    head = Head(b"", b"", [])
    head.refuse(status, detail, code, is_fatal=True)
    return head


def judge(
    rules: Rules, method: bytes, target: bytes, headers: RawHeaders, *, version: str, keeps_alive: bool,
    upgrades: bool, proxy: str | None,
) -> Head:  # fmt: skip
    """Decide everything that can be decided before the body.

    Args:
        headers: Names in lower case, in order.
        keeps_alive: What the parser makes of version and Connection header.
        upgrades: Whether the parser saw a request to change protocols.
        proxy: Address of the connection when it is a trusted proxy's, else None.
    """
    head = Head(method, target, headers)
    # Of repeated headers the last one wins here; those for which that would matter are
    # refused (host), joined (x-forwarded-for) or refused by the parser (content-length).
    values = dict(headers)
    origin = values.get(b"origin")
    head.closes = not keeps_alive
    _frame(rules, head, values, version)
    _split_target(head)
    if len(values) != len(headers):
        _refuse_second_host(head)
    _guard(rules, head, values, origin, upgrades=upgrades)
    head.cors = cors_headers(rules.origins, origin)
    head.extra = b"".join([b"%b: %b\r\n" % header for header in head.cors])
    if proxy is not None:
        head.peer = rules.proxies.client_of(proxy, [v for n, v in headers if n == b"x-forwarded-for"])
    if head.canned is None:
        _choose(rules, head, values, origin, upgrades=upgrades)
    is_one_of_few = head.kind == HOT or (head.route is not None and head.route.path.encode() == head.target)
    head.is_memorable = is_one_of_few and not head.closes and not head.expects_continue and proxy is None
    if b"transfer-encoding" in values:
        head.is_memorable = False
    return head


def _frame(rules: Rules, head: Head, values: dict[bytes, bytes], version: str) -> None:
    """Where the body ends and whether the connection goes on after it."""
    head.http_version = version
    if version != "1.1":
        head.closes = True
        if version != "1.0":
            head.refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", "http_version", is_fatal=True)
    length = values.get(b"content-length")
    if length is not None:
        # At most 20 digits: the parser refuses what does not fit 64 bits.
        head.content_length = int(length) if length.isdigit() else 0
        head.has_body = head.content_length > 0
    encoding = values.get(b"transfer-encoding")
    if encoding is not None:
        head.has_body = True
        if encoding.lower() != b"chunked" or version == "1.0":
            head.refuse(
                501, "the only transfer-encoding understood is chunked", "transfer_encoding", is_fatal=True
            )
    if head.content_length > rules.max_body_bytes:
        head.refuse(
            413, f"the body may have at most {rules.max_body_bytes} bytes", "body_too_large", is_fatal=True
        )
    if head.has_body and version == "1.1":
        head.expects_continue = values.get(b"expect", b"").lower() == b"100-continue"


def _split_target(head: Head) -> None:
    target = head.target
    if target.startswith(b"/") and b"#" not in target:
        head.path, _, head.query = target.partition(b"?")
        return
    if target == b"*":
        return
    if head.method == b"CONNECT":
        head.refuse(405, "this server is not a proxy", "method_not_allowed", is_fatal=True)
        return
    try:
        url = httptools.parse_url(target)
        head.path, head.query = url.path or b"/", url.query or b""
    except httptools.HttpParserInvalidURLError:
        head.refuse(400, "the request target is not a valid URL", "malformed_request", is_fatal=True)


def _refuse_second_host(head: Head) -> None:
    if sum([name == b"host" for name, _ in head.headers]) > 1:
        head.refuse(400, "a request has exactly one Host header", "malformed_request", is_fatal=True)


def _guard(
    rules: Rules, head: Head, values: dict[bytes, bytes], origin: bytes | None, *, upgrades: bool
) -> None:
    host = values.get(b"host")
    if host is None and head.http_version == "1.1":
        head.refuse(400, "a request has exactly one Host header", "malformed_request", is_fatal=True)
        return
    if host is not None and _HOST(host) is None:
        head.refuse(400, "the Host header is malformed", "malformed_request", is_fatal=True)
        return
    connects = head.path == STREAM_PATH or (upgrades and head.path in SOCKET_PATHS)
    check = rules.guard.refuses_socket if connects else rules.guard.refuses
    reason = check(host or b"", origin)
    if reason is not None:
        head.refuse(403, reason, "origin_refused")


def _choose(
    rules: Rules, head: Head, values: dict[bytes, bytes], origin: bytes | None, *, upgrades: bool
) -> None:
    """Who answers."""
    method = head.method
    if method == b"OPTIONS":
        if origin is not None and b"access-control-request-method" in values:
            head.canned = preflight(rules.origins, origin, values.get(b"access-control-request-headers"))
            head.kind = CANNED
        elif head.target == b"*":
            head.canned, head.kind = Answer(204, content_type=b""), CANNED
    elif method == b"GET" and head.path == STREAM_PATH and rules.streams:
        head.kind = STREAM
    elif method == b"GET" and upgrades and head.path in SOCKET_PATHS and _upgrade_of(values) == b"websocket":
        head.kind = SOCKET
    else:
        _choose_hot(rules, head, values)


def _choose_hot(rules: Rules, head: Head, values: dict[bytes, bytes]) -> None:
    hot = rules.hot.get((head.method, head.path))
    if hot is None and head.is_head:
        hot = rules.hot.get((b"GET", head.path))
    if hot is None:
        head.route = rules.table.find(head.method, head.path)
        return
    head.hot, head.kind = hot, HOT
    if head.has_body and hot.route.body is not None:
        head.canned = media_type_problem(values.get(b"content-type"), values.get(b"content-encoding"))
        if head.canned is not None:
            head.kind = CANNED


def _upgrade_of(values: dict[bytes, bytes]) -> bytes:
    return values.get(b"upgrade", b"").strip().lower()
