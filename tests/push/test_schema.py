"""Payload schemas: what fits, where it does not, and that nothing is silently ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.push.schema import Mismatch, compiled

ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "minLength": 2, "maxLength": 4},
        "state": {"enum": ["paid", "sent", 1, None]},
        "lines": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "required": ["count"],
                "properties": {
                    "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 100},
                    "price": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 9.5},
                },
            },
        },
        "a/b~c": {"const": True},
    },
}


def fault(value: Any, schema: Any = ORDER) -> str | None:
    """Pointer of what does not fit; None: all does."""
    try:
        compiled(schema)(value, "")
    except Mismatch as error:
        return error.pointer
    return None


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({}, None),
        ({"state": "paid", "a/b~c": True}, None),
        ({"state": 1.0}, None),
        ({"state": True}, "/state"),
        ({"state": "lost"}, "/state"),
        ({"id": "x"}, "/id"),
        ({"id": "xxxxx"}, "/id"),
        ({"id": 7}, "/id"),
        ({"lines": []}, "/lines"),
        ({"lines": [{"count": 1}] * 3}, "/lines"),
        ({"lines": [{"count": 1}, {}]}, "/lines/1/count"),
        ({"lines": [{"count": 0}]}, "/lines/0/count"),
        ({"lines": [{"count": 100}]}, "/lines/0/count"),
        ({"lines": [{"count": 2.0}]}, None),
        ({"lines": [{"count": 2.5}]}, "/lines/0/count"),
        ({"lines": [{"count": True}]}, "/lines/0/count"),
        ({"lines": [{"count": 1, "price": None}]}, None),
        ({"lines": [{"count": 1, "price": 0}]}, "/lines/0/price"),
        ({"lines": [{"count": 1, "price": 9.6}]}, "/lines/0/price"),
        ({"lines": "none"}, "/lines"),
        ({"a/b~c": False}, "/a~1b~0c"),
        ({"more": 1}, "/more"),
    ],
)
def test_a_value_fits_or_the_pointer_says_where_not(change: dict[str, Any], pointer: str | None) -> None:
    assert fault({"id": "o1", "lines": [{"count": 1}]} | change) == pointer


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"pattern": "(a+)+$"}, "/pattern"),
        ({"properties": {"x": {"format": "email"}}}, "/properties/x/format"),
        ({"items": {"type": "text"}}, "/items/type"),
        ({"type": []}, "/type"),
        ({"enum": []}, "/enum"),
        ({"minLength": -1}, "/minLength"),
        ({"maximum": "5"}, "/maximum"),
        ({"required": "id"}, "/required"),
        ({"properties": []}, "/properties"),
        ({"additionalProperties": 5}, "/additionalProperties"),
        ([], ""),
        (7, ""),
    ],
)
def test_what_is_no_schema_or_not_understood_is_refused_with_a_pointer(schema: Any, pointer: str) -> None:
    with pytest.raises(Mismatch) as refused:
        compiled(schema)
    assert refused.value.pointer == pointer


def test_a_schema_deeper_than_anybody_needs_is_refused() -> None:
    schema: Any = {}
    for _ in range(20):
        schema = {"items": schema}
    with pytest.raises(Mismatch, match="deep"):
        compiled(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_any_json_is_a_schema_or_refused_and_any_value_fits_or_is_refused(schema: Any, value: Any) -> None:
    try:
        check = compiled(schema)
    except Mismatch:
        return
    faults = []
    try:
        check(value, "")
    except Mismatch as error:
        faults.append(error.pointer)
    assert all(pointer == "" or pointer.startswith("/") for pointer in faults)


@given(JSON)
def test_a_value_is_its_own_constant(value: Any) -> None:
    assert fault(value, {"const": value}) is None
    assert fault([value, "other"], {"const": value}) is not None
