"""Reading a JSON body into a typed struct, with errors that point at the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from heartcast.core.errors import InvalidInput, MalformedBody

T = TypeVar("T")

# msgspec ends its message with where it was: "... - at `$.items[3].user_id`".
_AT = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_FIELD = re.compile(r"^Object (?:missing required|contains unknown) field `(.*)`$")


def decoder(type_: type[T]) -> Callable[[bytes], T]:
    """A function that decodes and validates one JSON body.

    Build it once per type: the decoder inside costs far more to make than to call.

    Returns:
        ``decode(body) -> value``, which raises ``MalformedBody`` when the bytes are
        not JSON in UTF-8 and ``InvalidInput`` with a JSON pointer when the JSON does
        not fit the type.
    """
    decode = msgspec.json.Decoder(type_).decode

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(f"the body is not valid JSON: {error}") from None

    return decode_body


def _invalid(message: str) -> InvalidInput:
    at, said = _AT.search(message), message
    pointer = ""
    if at is not None:
        said = message[: at.start()]
        # msgspec writes [...] for a value inside a mapping and does not say which:
        # the pointer then names the mapping.
        steps = (name or index for name, index in _STEP.findall(at[1].partition("[...]")[0]))
        pointer = "".join(f"/{_escape(step)}" for step in steps)
    # Of a missing or an unknown field it names the object; we point at the field.
    if field := _FIELD.search(said):
        pointer += f"/{_escape(field[1])}"
    return InvalidInput(said, pointer=pointer)


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3
