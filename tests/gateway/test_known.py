"""Heads that need not be parsed are what the parser would have made of them."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.api.route import Answer, Call, Route
from heartcast.gateway.head import HOT, Head, RawHeaders, judge
from heartcast.gateway.known import MAX_KNOWN, Known, KnownHeads
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.testing import ManualClock


def _handler(call: Call) -> Answer:
    return Answer(200)


PORT = HttpPort(
    HttpOptions(host="127.0.0.1", port=0, max_body_bytes=5000),
    [
        Route(method="POST", path="/hot", handler=_handler, summary="x", tag="x", body=dict, hot=True),
        Route(method="GET", path="/hot", handler=_handler, summary="x", tag="x", hot=True),
    ],
    clock=ManualClock(),
)


class _Reader:
    """What the parser reads in one head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: RawHeaders = []
        self.head: Head | None = None
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        self.head = judge(
            PORT.rules, parser.get_method(), self.url, self.headers,
            version=parser.get_http_version(), keeps_alive=parser.should_keep_alive(),
            upgrades=parser.should_upgrade(), proxy=None,
        )  # fmt: skip


def parse(raw: bytes) -> Head | None:
    """None: the parser refuses it."""
    reader = _Reader()
    try:
        reader.parser.feed_data(raw)
    except httptools.HttpParserError:
        return None
    return reader.head


def request(*lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} /hot HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


def known(*raws: bytes) -> KnownHeads:
    heads = KnownHeads(PORT.options.max_body_bytes)
    for raw in raws:
        head = parse(raw)
        if head is not None and head.is_memorable:
            heads.remember(raw, head)
    return heads


def found(heads: KnownHeads, raw: bytes) -> Known:
    one = heads.find(raw)
    assert one is not None
    return one


JSON = "Content-Type: application/json"


def test_a_head_is_known_whatever_its_trace_its_token_and_its_length() -> None:
    heads = known(
        request("User-Agent: a/1", JSON, "traceparent: 00-aa-bb-01", "Content-Length: 7", "X-Api-Key: k")
    )
    one = found(
        heads,
        request("User-Agent: b c", JSON, "traceparent: 00-cc-dd-00", "Content-Length: 12", "X-Api-Key: k"),
    )
    assert one.content_length == 12
    assert one.headers == [
        (b"host", b"localhost"),
        (b"user-agent", b"b c"),
        (b"content-type", b"application/json"),
        (b"traceparent", b"00-cc-dd-00"),
        (b"content-length", b"12"),
        (b"x-api-key", b"k"),
    ]
    assert one.head.kind == HOT


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 0",  # the first had a body
        "Content-Length: 5001",
        "Content-Length: +7",
        "Content-Length: 0x7",
        "Content-Length: 9999999999",
        "Content-Length:  7",
        "Content-Length: 7\r\nContent-Length: 7",
        "Content-Length: 7\r\nTransfer-Encoding: chunked",
        "Content-Length\0: 7",
    ],
)
def test_what_the_parser_might_judge_otherwise_is_left_to_it(line: str) -> None:
    assert known(request(JSON, "Content-Length: 7")).find(request(JSON, line)) is None


def test_bytes_that_look_like_a_shape_are_not_one() -> None:
    heads = known(request(JSON, "Content-Length: 7"))
    [shape] = heads._shapes
    assert b"\0" in shape
    assert heads.find(shape) is None


def test_only_so_many_are_remembered() -> None:
    heads = known(*(request(JSON, f"X-Number: {n}", "Content-Length: 7") for n in range(2 * MAX_KNOWN + 5)))
    assert len(heads.exact) == len(heads._shapes) == 5
    for length in range(1, 2 * MAX_KNOWN):
        found(heads, request(JSON, f"X-Number: {2 * MAX_KNOWN + 4}", f"Content-Length: {length}"))
    assert len(heads.exact) <= MAX_KNOWN


NAMES = ["traceparent", "Content-Length", "content-length", "User-Agent", "X-Request-Id", "X-Other", "Accept"]
VALUES = st.one_of(
    st.sampled_from(
        ["7", "12", "0", "4999", "5000", "5001", "007", "1 2", "a", "", " ", "\t", "\x80", "a\0b"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=6),
)
LINES = st.one_of(
    st.builds("{}: {}".format, st.sampled_from(NAMES), VALUES),
    st.builds("{}:{}".format, st.sampled_from(NAMES), VALUES),
    st.sampled_from([JSON, " folded: 1", "Expect: 100-continue", "Connection: close", "Host: other"]),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES, VALUES), max_size=4)


def look(head: Head) -> tuple[object, ...]:
    return (head.kind, head.method, head.target, head.path, head.query, head.hot, head.canned, head.cors,
            head.extra, head.has_body, head.closes, head.is_fatal, head.is_head, head.expects_continue,
            head.peer, head.http_version)  # fmt: skip


@settings(max_examples=400)
@given(PAIRS, st.lists(LINES, max_size=2), st.sampled_from(["POST", "GET", "HEAD"]))
def test_a_head_that_is_found_is_what_the_parser_would_have_made_of_it(
    pairs: list[tuple[str, str, str]], odd: list[str], method: str
) -> None:
    first = request(JSON, *(f"{name}: {value}" for name, value, _ in pairs), method=method)
    then = request(JSON, *(f"{name}: {value}" for name, _, value in pairs), method=method)
    odder = request(JSON, *(f"{name}: {value}" for name, _, value in pairs), *odd, method=method)
    heads = known(first)
    for raw in (then, odder, first, then):
        end = raw.find(b"\r\n\r\n") + 4
        if (one := heads.find(raw[:end])) is not None:
            parsed = parse(raw[:end])
            assert parsed is not None
            assert look(one.head) == look(parsed)
            assert (one.headers, one.content_length) == (parsed.headers, parsed.content_length)
