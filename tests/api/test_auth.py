"""Who is let in, and what a refusal gives away."""

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.auth import ALGORITHM, Authenticator, AuthOptions
from heartcast.api.route import ANONYMOUS
from heartcast.core.errors import Unauthenticated
from heartcast.testing import ManualClock

SECRET = "a secret of more than thirty-two bytes"
KEY = "an-api-key-of-a-server"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authenticator(clock: ManualClock) -> Authenticator:
    return Authenticator(AuthOptions(jwt_secret=SECRET, api_keys=[KEY]), clock, is_open=False)


def _bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]


def test_a_token_names_its_user(authenticator: Authenticator) -> None:
    identity = authenticator.identify(_bearer(authenticator.issue("u456", ttl_s=60)), "")

    assert identity.user == "u456"
    assert identity.may_act_for("u456")
    assert not identity.may_act_for("u457")


def test_a_numeric_subject_is_the_same_user_as_its_text(
    clock: ManualClock, authenticator: Authenticator
) -> None:
    token = jwt.encode({"sub": 12345}, SECRET, algorithm=ALGORITHM)

    assert authenticator.verify(token).user == "12345"


def test_a_remembered_token_still_expires(clock: ManualClock, authenticator: Authenticator) -> None:
    headers = _bearer(authenticator.issue("u456", ttl_s=60))
    authenticator.identify(headers, "")
    clock.advance(61)

    with pytest.raises(Unauthenticated) as caught:
        authenticator.identify(headers, "")
    assert caught.value.code == "token_expired"


@pytest.mark.parametrize(
    "header", [(b"x-api-key", KEY.encode()), (b"authorization", b"apikey " + KEY.encode())]
)
def test_an_api_key_makes_a_server_that_may_act_for_anyone(
    authenticator: Authenticator, header: tuple[bytes, bytes]
) -> None:
    assert authenticator.identify([header], "").may_act_for("anyone")


@pytest.mark.parametrize(
    "header",
    [
        (b"x-api-key", b"wrong"),
        (b"x-api-key", b""),
        (b"x-api-key", "schlüssel".encode("latin-1")),
        (b"authorization", b"Basic dXNlcjpwYXNz"),
        (b"authorization", b"Bearer "),
        (b"authorization", b"Bearer not.a.token"),
        (b"authorization", b"Bearer \xff\xfe"),
        (b"authorization", b""),
    ],
)
def test_bad_credentials_are_refused_and_not_repeated_in_the_refusal(
    authenticator: Authenticator, header: tuple[bytes, bytes]
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        authenticator.identify([header], "")

    assert header[1].decode("latin-1") not in caught.value.detail or not header[1]


def test_bad_credentials_are_refused_in_the_open_mode_too(clock: ManualClock) -> None:
    open_to_all = Authenticator(AuthOptions(jwt_secret=SECRET), clock, is_open=True)

    assert open_to_all.identify([], "").is_server
    with pytest.raises(Unauthenticated):
        open_to_all.identify(_bearer("forged"), "")


def test_nobody_is_trusted_unasked_outside_the_open_mode(authenticator: Authenticator) -> None:
    assert authenticator.identify([(b"host", b"x")], "127.0.0.1") is ANONYMOUS


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "u1", "exp": "soon"},
        {"sub": "u1", "exp": True},
        {"sub": "u1", "exp": 1e300},
        {"sub": "u1", "nbf": 4_000_000_000},
        {"sub": ["u1"]},
        {"sub": "u\n1"},
        {"sub": -1},
        {"sub": "u1", "channel": 5},
    ],
)
def test_claims_of_the_wrong_shape_are_refused(
    authenticator: Authenticator, claims: dict[str, object]
) -> None:
    with pytest.raises(Unauthenticated):
        authenticator.verify(jwt.encode(claims, SECRET, algorithm=ALGORITHM))


def test_a_token_signed_with_another_key_or_not_at_all_is_refused(authenticator: Authenticator) -> None:
    other = jwt.encode({"sub": "u1"}, "another secret of more than 32 bytes", algorithm=ALGORITHM)
    unsigned = jwt.encode({"sub": "u1"}, None, algorithm="none")
    longer = jwt.encode({"sub": "u1"}, SECRET.ljust(64), algorithm="HS512")

    for token in (other, unsigned, longer):
        with pytest.raises(Unauthenticated):
            authenticator.verify(token)


def test_a_subscription_token_does_not_open_a_connection(authenticator: Authenticator) -> None:
    token = authenticator.issue("u1", ttl_s=60, channel="feed:news")

    assert authenticator.verify(token).channel == "feed:news"
    with pytest.raises(Unauthenticated):
        authenticator.identify(_bearer(token), "")


@given(st.text(max_size=100))
def test_no_text_at_all_makes_the_verifier_fail_in_another_way(token: str) -> None:
    authenticator = Authenticator(AuthOptions(jwt_secret=SECRET), ManualClock(), is_open=False)
    with pytest.raises(Unauthenticated):
        authenticator.verify(token)


@pytest.mark.parametrize("options", [{"jwt_secret": "short"}, {"api_keys": ["short"]}])
def test_weak_keys_are_refused_at_start(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least"):
        AuthOptions(**options)
