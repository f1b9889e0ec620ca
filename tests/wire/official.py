"""The schema as the official protobuf library reads it: classes made of ``v1.proto`` at run time.

There is no compiler here: the text is simple enough to be read line by line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import heartcast.wire

_TYPES = {
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}
_MESSAGE = re.compile(r"message (\w+) \{(\})?")
_ONEOF = re.compile(r"oneof (\w+) \{")
_MAP = re.compile(r"map<string, string> (\w+) = (\d+);")
_FIELD = re.compile(r"(repeated )?(\w+) (\w+) = (\d+);")


def classes() -> dict[str, Any]:
    """The official library's class of each message, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="v1.proto", package="heartcast.v1", syntax="proto3")
    is_in_oneof, message = False, None
    for line in (Path(heartcast.wire.__file__).parent / "v1.proto").read_text().splitlines():
        text = line.strip()
        if found := _MESSAGE.match(text):
            message = file.message_type.add(name=found[1])
        elif message is None or text in ("", "}"):
            is_in_oneof = False
        elif found := _ONEOF.match(text):
            message.oneof_decl.add(name=found[1])
            is_in_oneof = True
        elif found := _MAP.match(text):
            _add_map(message, found[1], int(found[2]))
        else:
            found = _FIELD.match(text)
            assert found is not None, f"not understood: {text}"
            _add_field(message, found, is_in_oneof)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        kind.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"heartcast.v1.{kind.name}"))
        for kind in file.message_type
    }


def _add_field(message: Any, found: re.Match[str], is_in_oneof: bool) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(
        name=found[3],
        number=int(found[4]),
        label=kind.LABEL_REPEATED if found[1] else kind.LABEL_OPTIONAL,
        type=_TYPES.get(found[2], kind.TYPE_MESSAGE),
    )
    if found[2] not in _TYPES:
        field.type_name = f".heartcast.v1.{found[2]}"
    if is_in_oneof:
        field.oneof_index = 0


def _add_map(message: Any, name: str, number: int) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_STRING)
    entry.field.add(name="value", number=2, label=kind.LABEL_OPTIONAL, type=kind.TYPE_STRING)
    message.field.add(
        name=name,
        number=number,
        label=kind.LABEL_REPEATED,
        type=kind.TYPE_MESSAGE,
        type_name=f".heartcast.v1.{message.name}.{entry.name}",
    )
