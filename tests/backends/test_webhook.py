"""Signing and believing webhooks, against the vector that the specification publishes."""

import base64
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.backends.webhook import TOLERANCE_S, key_of, new_secret, signed, verify
from heartcast.core.errors import Forbidden, InvalidInput

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
NOW_MS = 1_614_265_330_000
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""From the libraries' tests in github.com/standard-webhooks/standard-webhooks."""
KEY = key_of(SECRET)


def headers(**changes: str) -> dict[str, str]:
    made = {"webhook-id": ID, "webhook-timestamp": str(NOW_MS // 1000), "webhook-signature": SIGNATURE}
    return made | {f"webhook-{name}": value for name, value in changes.items()}


def test_the_published_vector_is_what_we_sign() -> None:
    assert signed(ID, BODY, [KEY], NOW_MS) == headers()


def test_the_published_vector_is_believed() -> None:
    assert verify(headers(), BODY, [KEY], NOW_MS) == ID


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing: no second opinion on HMAC")
def test_openssl_signs_the_same() -> None:
    content = f"{ID}.{NOW_MS // 1000}.".encode() + BODY
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{KEY.hex()}", "-binary"]
    digest = subprocess.run(command, input=content, capture_output=True, check=True).stdout
    assert "v1," + base64.b64encode(digest).decode() == SIGNATURE


def test_while_a_secret_is_replaced_holders_of_either_believe() -> None:
    new = key_of(new_secret())
    both = signed(ID, BODY, [new, KEY], NOW_MS)
    assert verify(both, BODY, [KEY], NOW_MS) == verify(both, BODY, [new], NOW_MS) == ID
    with pytest.raises(Forbidden):
        verify(both, BODY, [key_of(new_secret())], NOW_MS)


BAD = {
    "no id": headers(id=""),
    "another id": headers(id="msg_other"),
    "no time": headers(timestamp=""),
    "a time that is none": headers(timestamp="now"),
    "a time too long to be one": headers(timestamp="9" * 5000),
    "another time": headers(timestamp=str(NOW_MS // 1000 + 1)),
    "no signature": headers(signature=""),
    "another version": headers(signature=SIGNATURE.replace("v1,", "v1a,")),
    "another signature": headers(signature=SIGNATURE.replace("g0", "g1")),
    "a signature beyond ASCII": headers(signature="v1,é\udc80"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_was_not_signed_like_that_is_not_believed(bad: dict[str, str]) -> None:
    with pytest.raises(Forbidden) as caught:
        verify(bad, BODY, [KEY], NOW_MS)
    assert caught.value.code == "webhook_signature"


@pytest.mark.parametrize("off_s", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_what_was_recorded_long_ago_is_not_believed(off_s: int) -> None:
    with pytest.raises(Forbidden, match="sent more than"):
        verify(headers(), BODY, [KEY], NOW_MS + off_s * 1000)
    assert verify(headers(), BODY, [KEY], NOW_MS + (off_s - off_s // abs(off_s)) * 1000) == ID


def test_an_id_with_a_full_stop_is_not_signed() -> None:
    with pytest.raises(ValueError, match="full stop"):
        signed("a.1", BODY, [KEY], NOW_MS)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", SECRET[6:], "whsec_" + "A" * 28, "whsec_" + "A" * 92, "whsec_é", SECRET + "!"]
)
def test_a_secret_that_is_none_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        key_of(secret, "/secrets/0")
    assert (caught.value.code, caught.value.pointer) == ("webhook_secret", "/secrets/0")
    assert len(secret) < 10 or secret not in caught.value.detail


@given(body=st.binary(max_size=200), second=st.integers(0, 10**11), flip=st.integers(0, 10**6))
def test_a_changed_byte_is_noticed(body: bytes, second: int, flip: int) -> None:
    made = signed("id", body, [KEY], second * 1000)
    assert verify(made, body, [KEY], second * 1000) == "id"
    if body:
        changed = bytearray(body)
        changed[flip % len(body)] ^= 1
        with pytest.raises(Forbidden):
            verify(made, bytes(changed), [KEY], second * 1000)


@given(st.dictionaries(st.sampled_from(list(headers())), st.text(max_size=60)))
def test_no_headers_make_it_fall_over(made: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        verify(made, BODY, [KEY], NOW_MS)
