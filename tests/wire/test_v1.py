"""Our frames are those of the official protobuf library, byte for byte where it promises any."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heartcast.wire import protobuf, v1
from heartcast.wire.protobuf import Malformed, Message, decode, encode, varint

_spec = importlib.util.spec_from_file_location("official", Path(__file__).with_name("official.py"))
assert _spec is not None
assert _spec.loader is not None
official = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(official)

OFFICIAL = official.classes()
OURS: dict[str, type[Message]] = {
    "Message": v1.Published,
    **{
        kind.__name__: kind
        for kind in vars(v1).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind not in (Message, v1.Published)
    },
}
KINDS = sorted(OURS)

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_scalars: dict[str, Any] = {
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "bool": st.booleans(),
    "string": _text,
    "bytes": st.binary(max_size=20),
    "map": st.dictionaries(_text, _text, max_size=3),
}


@cache
def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of this class, at most one member of each oneof set."""
    fields: dict[str, Any] = {}
    members = [field.name for field in kind.FIELDS if field.oneof]
    for field in kind.FIELDS:
        one = _scalars.get(field.kind)
        if one is None:
            assert field.message is not None
            one = st.deferred(lambda message=field.message: messages(message))
        if field.is_repeated:
            fields[field.name] = st.lists(one, max_size=3)
        elif field.kind == "message" and not field.oneof:
            fields[field.name] = st.none() | one
        else:
            fields[field.name] = one
    if not members:
        return st.builds(kind, **fields)
    plain = {name: made for name, made in fields.items() if name not in members}
    return st.one_of(
        [st.builds(kind, **plain), *(st.builds(kind, **plain, **{name: fields[name]}) for name in members)]
    )


any_message = st.sampled_from(KINDS).flatmap(lambda name: st.tuples(st.just(name), messages(OURS[name])))


def test_every_message_of_the_schema_is_ours_too() -> None:
    assert set(OFFICIAL) == set(OURS)
    for name, kind in OURS.items():
        theirs = {field.name: field.number for field in OFFICIAL[name].DESCRIPTOR.fields}
        assert {field.name: field.number for field in kind.FIELDS} == theirs


@settings(deadline=None)
@given(any_message)
def test_the_official_library_reads_what_we_write(made: tuple[str, Message]) -> None:
    name, message = made
    theirs = OFFICIAL[name].FromString(encode(message))

    assert plain(theirs) == ours_plain(message)
    assert decode(OURS[name], theirs.SerializeToString()) == message


def plain(message: Any) -> dict[str, Any]:
    """The official message's set fields, all the way down."""
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            out[field.name] = dict(value)
        elif field.message_type is not None and field.is_repeated:
            out[field.name] = [plain(one) for one in value]
        elif field.message_type is not None:
            out[field.name] = plain(value)
        else:
            out[field.name] = list(value) if field.is_repeated else value
    return out


def ours_plain(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if field.kind == "message" and field.is_repeated:
            value = [ours_plain(one) for one in value]
        elif field.kind == "message" and value is not None:
            out[field.name] = ours_plain(value)
            continue
        if value:
            out[field.name] = value
    return out


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(KINDS), st.binary(max_size=60))
@example("Batch", b"\x12\x00\x12\x02\x08\x01")
@example("Message", b"\x0a\x01x")  # a text where a number should be
@example("Hello", b"\x0a\x02\xff\xfe")  # not UTF-8
@example("Pong", b"\x0b\x0c")  # a group
@example("Ping", b"\x00\x00")  # field number 0
@example("Reply", b"\x12\x02\x08\x01\x12\x03\x12\x01x")  # a message that comes twice
@example("Reply", b"\x12\x02\x08\x01\x2a\x00")  # two members of a oneof
def test_any_bytes_are_read_as_the_official_library_reads_them(name: str, data: bytes) -> None:
    assert_alike(name, data)


_damage = st.tuples(st.sampled_from(["flip", "cut", "double"]), st.integers(0, 2**16), st.integers(0, 7))


@settings(deadline=None, max_examples=300)
@given(any_message, st.lists(_damage, min_size=1, max_size=3))
def test_damaged_frames_are_read_as_the_official_library_reads_them(
    made: tuple[str, Message], damages: list[tuple[str, int, int]]
) -> None:
    name, message = made
    whole = bytearray(encode(message)) or bytearray(1)
    for kind, at, bit in damages:
        at %= len(whole)
        if kind == "flip":
            whole[at] ^= 1 << bit
        elif kind == "double":
            whole[at:at] = whole[at:]
        elif at:
            del whole[at:]
    assert_alike(name, bytes(whole))


def assert_alike(name: str, data: bytes) -> None:
    try:
        theirs = OFFICIAL[name].FromString(data)
    except DecodeError:
        theirs = None
    refused = ""
    try:
        mine = decode(OURS[name], data)
    except Malformed as error:
        mine, refused = None, str(error)
    if mine is None and theirs is not None:
        # What the format forbids or has given up, and the official library skips.
        assert refused.startswith(("no field has the number", "wire type 3", "wire type 4")), refused
        return
    assert (mine is None) == (theirs is None)
    if mine is not None:
        assert ours_plain(mine) == plain(theirs)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32 - 1, 2**64 - 1])
def test_numbers_come_back(value: int) -> None:
    frame = v1.Position(value, "")

    assert decode(v1.Position, encode(frame)) == frame
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))


def test_a_publication_keeps_the_protocols_tags_apart() -> None:
    made = v1.published(b'"x"', 0, {"id": "01A", "redelivered": "1", "ab": "b"}, None)

    assert made == v1.Published(0, b'"x"', "01A", True, {"ab": "b"}, b"")


def test_the_bytes_of_the_reference_are_these() -> None:
    ack = v1.ClientFrame(id=7, ack=v1.Ack(v1.Position(300, "e1"), ["01A"]))
    batch = v1.ServerFrame(batch=v1.Batch("feed:a", [v1.Published(1, b"{}")]))

    assert encode(ack).hex(" ") == "08 07 32 0e 0a 07 08 ac 02 12 02 65 31 12 03 30 31 41"
    assert encode(batch).hex(" ") == "12 10 0a 06 66 65 65 64 3a 61 12 06 08 01 12 02 7b 7d"


def test_what_lies_too_deep_is_refused() -> None:
    with pytest.raises(Malformed):
        decode(v1.Position, b"", depth=protobuf._MAX_DEPTH + 1)
