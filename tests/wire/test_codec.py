"""The client protocol's JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import (
    Forbidden,
    HeartcastError,
    InvalidInput,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from heartcast.wire import codec, envelopes

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(documents, st.sampled_from([None, 1, "\t"]))
def test_a_publishers_json_becomes_one_line_that_says_the_same(
    document: object, indent: int | str | None
) -> None:
    pretty = json.dumps(document, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        line = codec.compact(pretty)
    except ValueError:
        assert not codec.is_utf8(pretty)
        return
    assert b"\n" not in line
    assert json.loads(line) == document


@pytest.mark.parametrize("data", [b'{"a":\n', b'"\xff"', b'{"a":\n"b\nc"}'])
def test_what_is_no_json_in_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two kinds of it, and the text is msgspec's
        codec.compact(data)


def test_a_push_has_only_the_fields_there_are() -> None:
    head = codec.push_head("feed:a")

    assert json.loads(codec.push_line(head, b"1", 0, None, None)) == {
        "push": {"channel": "feed:a", "pub": {"data": 1}}
    }
    full = json.loads(codec.push_line(head, b"1", 7, {"id": "x"}, b'{"user":"u"}'))
    assert full["push"]["pub"] == {"data": 1, "offset": 7, "tags": {"id": "x"}, "info": {"user": "u"}}


def test_a_command_ignores_what_newer_clients_add() -> None:
    command = codec.decode_command(b'{"id":3,"subscribe":{"channel":"a:b","delta":"fossil","tf":{}},"new":1}')

    assert command.subscribe is not None
    assert command.subscribe.channel == "a:b"


@given(st.binary(max_size=200))
def test_decoding_a_command_only_raises_what_it_says(line: bytes) -> None:
    try:
        codec.decode_command(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), 102),
        (Forbidden("x"), 103),
        (Unauthenticated("x"), 101),
        (Unauthenticated("x", code="token_expired"), 109),
        (InvalidInput("x"), 107),
        (Overloaded("x"), 111),
        (HeartcastError("x"), 100),
    ],
)
def test_every_error_has_a_code_of_the_protocol(error: HeartcastError, code: int) -> None:
    assert envelopes.refusal(error).code == code


@pytest.mark.parametrize(
    ("code", "is_retried"), [(3001, True), (3012, True), (3501, False), (4000, True), (4500, False)]
)
def test_whether_a_client_comes_back_is_in_the_code(code: int, is_retried: bool) -> None:
    assert envelopes.Disconnect(code, "").is_retried is is_retried
