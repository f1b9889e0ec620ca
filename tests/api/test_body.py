"""A body that does not fit is refused with a pointer to the field."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.api.body import decoder
from heartcast.core.errors import InvalidInput, MalformedBody


class Item(msgspec.Struct, forbid_unknown_fields=True):
    target_id: str
    tags: dict[str, int] = {}


class Body(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]


decode = decoder(Body)


def test_a_body_that_fits_becomes_the_struct() -> None:
    assert decode(b'{"items":[{"target_id":"a"}]}') == Body([Item("a")])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"{}", "/items"),
        (b'{"items":7}', "/items"),
        (b'{"items":[{"target_id":"a"},{"target_id":5}]}', "/items/1/target_id"),
        (b'{"items":[{}]}', "/items/0/target_id"),
        (b'{"items":[],"a/b~c":1}', "/a~1b~0c"),
        (b'{"items":[{"target_id":"a","tags":{"x":"y"}}]}', "/items/0/tags"),
    ],
)
def test_the_pointer_names_the_field_at_fault(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(body)

    assert not isinstance(caught.value, MalformedBody)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"items":[]}x', b"\x00"])
def test_bytes_that_are_no_json_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode(body)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        assert isinstance(decode(body), Body)
