"""The pure rules of the HTTP face: CORS, origins, media types, proxies."""

import pytest

from heartcast.api.cors import Origins, cors_headers, preflight
from heartcast.api.media import media_type_problem
from heartcast.gateway.origin import OriginGuard
from heartcast.gateway.proxies import TrustedProxies


@pytest.mark.parametrize(
    ("patterns", "origin", "is_allowed"),
    [
        (("https://a.org",), b"https://a.org", True),
        (("https://a.org",), b"http://a.org", False),
        (("https://a.org",), b"https://a.org:444", False),
        (("http://localhost:*",), b"http://localhost:3000", True),
        (("http://localhost:*",), b"http://localhost", True),
        (("http://localhost:*",), b"http://localhost.evil.org:3000", False),
        (("http://[::1]:*",), b"http://[::1]:3000", True),
        (("http://[::1]:*",), b"http://[::1]", True),
        (("*",), b"null", True),
        ((), b"null", False),
    ],
)
def test_origins_allow_what_is_listed(patterns: tuple[str, ...], origin: bytes, is_allowed: bool) -> None:
    assert Origins(patterns).allows(origin) is is_allowed


@pytest.mark.parametrize(
    "pattern", ["a.org", "https://a.org/", "https://A.org", "ftp://a.org", "https://*.a.org"]
)
def test_an_origin_that_can_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="must be like"):
        Origins([pattern])


def test_answers_for_everybody_are_the_same_for_everybody() -> None:
    headers = dict(cors_headers(Origins(["*"]), b"https://a.org"))
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in headers
    assert cors_headers(Origins(), b"https://a.org") == ()


def test_a_preflight_names_back_only_what_is_a_list_of_names() -> None:
    origins = Origins(["https://a.org"])
    good = dict(preflight(origins, b"https://a.org", b"x-a, content-type").headers)
    assert good[b"access-control-allow-headers"] == b"x-a, content-type"
    assert b"access-control-allow-headers" not in dict(preflight(origins, b"https://a.org", b"x\x01").headers)
    assert preflight(origins, b"https://b.org", b"x-a").headers == ()


@pytest.mark.parametrize(
    ("host", "origin", "is_refused", "is_socket_refused"),
    [
        (b"localhost:8080", None, False, False),
        (b"LOCALHOST.", None, False, False),
        (b"[::1]:8080", None, False, False),
        (b"evil.org", None, True, True),
        (b"localhost.evil.org", None, True, True),
        (b"", None, True, True),
        (b"localhost:8080", b"http://localhost:8080", False, False),
        (b"localhost:8080", b"http://localhost:3000", True, True),
        (b"localhost:8080", b"https://a.org", False, False),
        (b"localhost:8080", b"null", True, True),
    ],
)
def test_the_guard_knows_its_hosts_and_origins(
    host: bytes, origin: bytes | None, is_refused: bool, is_socket_refused: bool
) -> None:
    guard = OriginGuard(Origins(["https://a.org"]), ["localhost", "[::1]"])
    assert (guard.refuses(host, origin) is not None) is is_refused
    assert (guard.refuses_socket(host, origin) is not None) is is_socket_refused


def test_without_hosts_only_sockets_are_guarded() -> None:
    guard = OriginGuard(Origins())
    assert guard.refuses(b"any.org", b"https://evil.org") is None
    assert guard.refuses_socket(b"any.org", b"https://evil.org") is not None
    assert guard.refuses_socket(b"any.org", b"https://any.org") is None


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        (b"application/json", True),
        (b"Application/JSON ; charset=UTF-8", True),
        (b"application/merge-patch+json", True),
        (b"text/json", False),
        (b"text/plain; x=application/json", False),
        (b"", False),
        (None, False),
    ],
)
def test_json_said_so_is_the_only_media_type(content_type: bytes | None, is_json: bool) -> None:
    answer = media_type_problem(content_type)
    assert (answer is None) is is_json
    assert answer is None or answer.status == 415


@pytest.mark.parametrize(
    ("encoding", "is_plain"),
    [(None, True), (b"", True), (b" Identity", True), (b"gzip", False), (b"br", False)],
)
def test_a_body_is_not_compressed(encoding: bytes | None, is_plain: bool) -> None:
    answer = media_type_problem(b"application/json", encoding)
    assert (answer is None) is is_plain
    assert answer is None or (answer.status, answer.headers) == (415, ((b"accept-encoding", b"identity"),))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([b"1.1.1.1"], "1.1.1.1"),
        ([b"6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ([b"6.6.6.6", b"1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([b"1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ([b"nonsense"], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_the_first_untrusted_address_from_the_right_is_the_client(
    forwarded: list[bytes], client: str
) -> None:
    assert TrustedProxies(["10.0.0.0/8"]).client_of("10.0.0.1", forwarded) == client


def test_an_ipv4_proxy_is_known_on_a_dual_stack_socket() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.trusts("::ffff:10.1.1.1")
    assert not proxies.trusts("::ffff:11.1.1.1")
    assert not proxies.trusts("unix")
