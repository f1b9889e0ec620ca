"""The part of the protobuf encoding that ``v1.proto`` uses, for messages described by tables.

Enough for a fixed schema of numbers, flags, texts, bytes, messages, repeated ones and maps
of texts. What the official library does with odd input is done here too: unknown fields
are skipped, the last value of a field wins, a message that comes twice is merged, and of
a oneof the last member stays. Groups, which nobody uses any more, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import msgspec

Kind = Literal["uint32", "uint64", "bool", "string", "bytes", "message", "map"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 8
"""Deeper than the schema goes; unknown fields are never entered."""


class Field(NamedTuple):
    """How one attribute of a message is written."""

    number: int
    name: str
    kind: Kind
    message: type[Message] | None = None
    is_repeated: bool = False
    oneof: str = ""
    """Of the fields with the same name here at most one is set."""


class Message(msgspec.Struct, gc=False):
    """A message; its class says how it is written."""

    FIELDS: ClassVar[tuple[Field, ...]] = ()


M = TypeVar("M", bound=Message)


class Malformed(ValueError):
    """These bytes are no such message."""


def encode(message: Message) -> bytes:
    """The message's bytes; fields with their default values are left out, as proto3 has it."""
    parts: list[bytes] = []
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if field.is_repeated:
            parts += [_encoded(field, one) for one in value]
        elif field.kind == "map":
            for key, text in value.items():
                entry = _sized(1, key.encode()) + _sized(2, text.encode())
                parts.append(_sized(field.number, entry))
        elif value or (value is not None and (field.kind == "message")):
            parts.append(_encoded(field, value))
    return b"".join(parts)


def _encoded(field: Field, value: Any) -> bytes:
    if field.kind in ("uint32", "uint64", "bool"):
        return varint(field.number << 3) + varint(int(value))
    if field.kind == "message":
        return _sized(field.number, encode(value))
    return _sized(field.number, value.encode() if field.kind == "string" else value)


def _sized(number: int, data: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A number >= 0, seven bits a byte, lowest first."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(kind: type[M], data: bytes, depth: int = 0) -> M:
    """Read a message.

    Raises:
        Malformed: the bytes are not one.
    """
    if depth > _MAX_DEPTH:
        raise Malformed("messages in messages, too deep")
    known = {field.number: field for field in kind.FIELDS}
    values: dict[str, Any] = {}
    for number, wire_type, raw in _fields(data):
        field = known.get(number)
        if field is None or wire_type != (_VARINT if field.kind in ("uint32", "uint64", "bool") else _BYTES):
            continue
        if field.oneof:
            for other in kind.FIELDS:
                if other.oneof == field.oneof and other.name != field.name:
                    values.pop(other.name, None)
        _take(field, raw, values, depth)
    for field in kind.FIELDS:
        if field.kind == "message" and not field.is_repeated and field.name in values:
            assert field.message is not None
            values[field.name] = decode(field.message, values[field.name], depth + 1)
    return kind(**values)


def _take(field: Field, raw: Any, values: dict[str, Any], depth: int) -> None:
    name = field.name
    if field.kind == "message":
        assert field.message is not None
        if field.is_repeated:
            values.setdefault(name, []).append(decode(field.message, raw, depth + 1))
        else:
            # Read at the end: a message that comes twice is one whose bytes stand behind each other.
            decode(field.message, raw, depth + 1)
            values[name] = values.get(name, b"") + raw
    elif field.kind == "map":
        entry = decode(_Entry, raw, depth + 1)
        values.setdefault(name, {})[entry.key] = entry.value
    elif field.is_repeated:
        values.setdefault(name, []).append(_scalar(field, raw))
    else:
        values[name] = _scalar(field, raw)


def _scalar(field: Field, raw: Any) -> Any:
    match field.kind:
        case "uint32":
            return raw & 0xFFFF_FFFF
        case "bool":
            return bool(raw)
        case "string":
            return _text(raw)
        case _:
            return raw


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Malformed("a text is not UTF-8") from None


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field: an int, or bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Malformed(f"no field has the number {number}")
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == _BYTES:
            size, at = _read_varint(data, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise Malformed(f"wire type {wire_type} is not used")
        if size > end - at:
            raise Malformed("a field ends behind its message")
        yield number, wire_type, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise Malformed("a number has more than ten bytes")


class _Entry(Message, gc=False):
    """A pair of a map."""

    FIELDS: ClassVar[tuple[Field, ...]] = (Field(1, "key", "string"), Field(2, "value", "string"))
    key: str = ""
    value: str = ""
