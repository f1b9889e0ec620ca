"""Payload schemas: the part of JSON Schema that a push needs.

A schema says more than a list of fields can: what is inside a list or an object, what a
number may be, which texts are meant. It is compiled once into nested plain functions; the
first thing that does not fit is told with a JSON pointer.

Understood are ``type``, ``enum``, ``const``, ``properties``, ``required``,
``additionalProperties``, ``items``, ``minLength``, ``maxLength``, ``minItems``,
``maxItems``, ``minimum``, ``maximum``, ``exclusiveMinimum`` and ``exclusiveMaximum``, as
draft 2020-12 defines them; ``title``, ``description``, ``default``, ``examples``,
``$schema`` and ``$comment`` are for readers. Everything else is refused when the schema is
read: a keyword that is silently ignored would let through what its author meant to stop.
``pattern`` is left out on purpose, as a pattern can be made to run for hours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MAX_DEPTH = 16
"""Schemas nested deeper than this are refused."""

Check = Callable[[Any, str], None]
"""``check(value, pointer)`` raises ``Mismatch`` when the value does not fit."""

_SAID_ONLY = {"title", "description", "default", "examples", "$schema", "$comment"}
_OF_OBJECTS = {"properties", "required", "additionalProperties"}
"""Checked together."""


class Mismatch(ValueError):
    """A value does not fit, or a schema is none; ``pointer`` says where."""

    def __init__(self, detail: str, pointer: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


def compiled(schema: Any) -> Check:
    """A function that checks values.

    Raises:
        Mismatch: it is no schema, or uses a keyword that is not understood; the pointer is
            into the schema.
    """
    return _compiled(schema, "", 0)


def step(pointer: str, name: str | int) -> str:
    """A pointer one step further (RFC 6901)."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _compiled(schema: Any, at: str, depth: int) -> Check:
    if schema is True:
        return lambda value, pointer: None
    if schema is False:
        return _never
    if not isinstance(schema, dict):
        raise Mismatch("a schema is an object, true or false", at)
    if depth > MAX_DEPTH:
        raise Mismatch(f"schemas may be nested {MAX_DEPTH} deep", at)
    checks: list[Check] = []
    # Types first: what follows would otherwise be told about a text where a number was meant.
    for keyword in sorted(schema, key=lambda keyword: keyword != "type"):
        if keyword in _SAID_ONLY or keyword in _OF_OBJECTS:
            continue
        make = _MAKERS.get(keyword)
        if make is None:
            raise Mismatch(f"{keyword[:50]!r} is not understood here", step(at, keyword))
        checks.append(make(schema[keyword], step(at, keyword), depth))
    if _OF_OBJECTS & schema.keys():
        checks.append(_object(schema, at, depth))
    return checks[0] if len(checks) == 1 else _all(checks)


def _all(checks: list[Check]) -> Check:
    def check(value: Any, pointer: str) -> None:
        for one in checks:
            one(value, pointer)

    return check


def _never(value: Any, pointer: str) -> None:
    raise Mismatch("must not be there", pointer)


def _is(value: Any, name: str) -> bool:
    # True is an int to Python and no number to JSON; 1.0 is an integer to JSON Schema.
    match name:
        case "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, _CLASSES[name])


_CLASSES: dict[str, type] = {
    "string": str, "boolean": bool, "array": list, "object": dict, "null": type(None),
    "integer": int, "number": float,
}  # fmt: skip


def _type(said: Any, at: str, depth: int) -> Check:
    names = said if isinstance(said, list) else [said]
    if not names or any(not isinstance(name, str) or name not in _CLASSES for name in names):
        raise Mismatch(f"a type is one of {', '.join(sorted(_CLASSES))}, or a list of them", at)
    wanted = " or ".join(names)

    def check(value: Any, pointer: str) -> None:
        if not any(_is(value, name) for name in names):
            raise Mismatch(f"must be of type {wanted}", pointer)

    return check


def _same(left: Any, right: Any) -> bool:
    """JSON's equality: 1 equals 1.0, and neither equals true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    return bool(left == right)


def _enum(said: Any, at: str, depth: int) -> Check:
    if not isinstance(said, list) or not said:
        raise Mismatch("enum is a list of at least one value", at)

    def check(value: Any, pointer: str) -> None:
        if not any(_same(value, one) for one in said):
            raise Mismatch(f"must be one of {str(said)[:200]}", pointer)

    return check


def _const(said: Any, at: str, depth: int) -> Check:
    return _enum([said], at, depth)


def _size(keyword: str, class_: type, unit: str) -> Callable[[Any, str, int], Check]:
    is_least = keyword.startswith("min")

    def make(said: Any, at: str, depth: int) -> Check:
        if not isinstance(said, int) or isinstance(said, bool) or said < 0:
            raise Mismatch("must be a whole number, at least 0", at)

        def check(value: Any, pointer: str) -> None:
            if isinstance(value, class_) and (len(value) < said if is_least else len(value) > said):  # type: ignore[arg-type]
                raise Mismatch(f"must have at {'least' if is_least else 'most'} {said} {unit}", pointer)

        return check

    return make


def _bound(words: str, is_fine: Callable[[float, float], bool]) -> Callable[[Any, str, int], Check]:
    def make(said: Any, at: str, depth: int) -> Check:
        if not _is(said, "number"):
            raise Mismatch("must be a number", at)

        def check(value: Any, pointer: str) -> None:
            if _is(value, "number") and not is_fine(value, said):
                raise Mismatch(f"must be {words} {said}", pointer)

        return check

    return make


def _items(said: Any, at: str, depth: int) -> Check:
    inner = _compiled(said, at, depth + 1)

    def check(value: Any, pointer: str) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                inner(item, f"{pointer}/{index}")

    return check


def _object(schema: dict[str, Any], at: str, depth: int) -> Check:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Mismatch("must be a list of names", step(at, "required"))
    if not isinstance(properties, dict):
        raise Mismatch("must be an object of schemas", step(at, "properties"))
    known = {
        name: _compiled(inner, step(step(at, "properties"), name), depth + 1)
        for name, inner in properties.items()
    }
    others = schema.get("additionalProperties", True)
    other = None if others is True else _compiled(others, step(at, "additionalProperties"), depth + 1)

    def check(value: Any, pointer: str) -> None:
        if not isinstance(value, dict):
            return
        for name in required:
            if name not in value:
                raise Mismatch("is required", step(pointer, name))
        for name, inner in value.items():
            if own := known.get(name, other):
                own(inner, step(pointer, name))

    return check


_MAKERS: dict[str, Callable[[Any, str, int], Check]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "items": _items,
    "minLength": _size("minLength", str, "characters"),
    "maxLength": _size("maxLength", str, "characters"),
    "minItems": _size("minItems", list, "items"),
    "maxItems": _size("maxItems", list, "items"),
    "minimum": _bound("at least", lambda value, bound: value >= bound),
    "maximum": _bound("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound("more than", lambda value, bound: value > bound),
    "exclusiveMaximum": _bound("less than", lambda value, bound: value < bound),
}
