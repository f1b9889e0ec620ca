"""Request heads that were judged before, recognised without the parser.

A backend that calls us sends the same request line and headers again and again. A head that
is byte for byte one that was judged is found by its bytes. One that differs in the *values* of
a few headers only (a trace, a token, the length of the body) is found by its *shape*: its bytes
with those values left out. Judging looks at none of those values but the length of the body,
which is read here.

What may be remembered is up to ``head.judge``. Nothing is remembered of who called: identity
and limits are asked for each request.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from heartcast.gateway.head import Head, RawHeaders

# A few hundred distinct heads are plenty for back ends that call us; a crowd of browsers, each
# with its own headers, makes the memory start over now and then, which costs a parse each.
MAX_KNOWN = 512

_LENGTH = b"content-length"
_NAMES = (
    _LENGTH,
    b"traceparent", b"tracestate", b"baggage", b"sentry-trace", b"x-request-id", b"x-correlation-id",
    b"idempotency-key", b"authorization", b"user-agent",
)  # fmt: skip
# Values as the parser gives them unchanged: printable ASCII without blanks around. Whatever
# else stands there stays a part of the shape.
_values = re.compile(rb"(\r\n(?i:%b): )([!-~](?:[ !-~]*[!-~])?)(?=\r\n)" % b"|".join(_NAMES)).split
_MAX_LENGTH_DIGITS = 9


class Known(NamedTuple):
    """A request head that need not be parsed."""

    head: Head
    headers: RawHeaders
    """This request's own; ``head.headers`` are those of the first request of its shape."""
    content_length: int


class _Shape:
    """What many heads have in common."""

    __slots__ = ("head", "length_at", "names", "others", "places")

    def __init__(self, head: Head, places: list[int], values: list[bytes]) -> None:
        self.head = head
        self.places = places
        """Which of the headers have values that change, in order."""
        self.names = [head.headers[place][0] for place in places]
        self.length_at = self.names.index(_LENGTH) if _LENGTH in self.names else -1
        self.others = [b"" if at == self.length_at else value for at, value in enumerate(values)]
        """The values in the first request, without the body's length."""


class KnownHeads:
    """Heads by their bytes, and by their shape.

    Args:
        max_body_bytes: Longer bodies are the parser's to refuse.
    """

    __slots__ = ("_max_body_bytes", "_shapes", "exact")

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._shapes: dict[bytes, _Shape] = {}
        self.exact: dict[bytes, Known] = {}
        """By all bytes of the head, its blank line included."""

    def find(self, raw: bytes) -> Known | None:
        """What is known of a head, given with its blank line; None: it must be parsed."""
        return self.exact.get(raw) or self.find_shape(raw)

    def find_shape(self, raw: bytes) -> Known | None:
        """The same for a head whose very bytes are not known."""
        pieces = _values(raw)
        values = pieces[2::3]
        shape = self._shapes.get(_shape_of(pieces))
        # As many values: bytes that look like a shape without being one have others.
        if shape is None or len(values) != len(shape.places):
            return None
        head, at = shape.head, shape.length_at
        headers = head.headers.copy()
        for place, name, value in zip(shape.places, shape.names, values, strict=False):
            headers[place] = (name, value)
        if at < 0:
            return Known(head, headers, 0)
        digits = values[at]
        if not digits.isdigit() or len(digits) > _MAX_LENGTH_DIGITS:
            return None
        length = int(digits)
        if length > self._max_body_bytes or (length > 0) != head.has_body:
            return None
        known = Known(head, headers, length)
        values[at] = b""
        if values == shape.others:
            # There are only so many lengths: the next time its bytes are known.
            self._keep(raw, known)
        return known

    def remember(self, raw: bytes, head: Head) -> None:
        """Keep what was made of a head that the parser read from these bytes."""
        self._keep(raw, Known(head, head.headers, head.content_length))
        pieces = _values(raw)
        places = _places(pieces)
        values = pieces[2::3]
        # An obsolete way to break lines would make headers and lines two different things.
        if [head.headers[place][1] for place in places if place < len(head.headers)] == values:
            if len(self._shapes) >= MAX_KNOWN:
                self._shapes.clear()
            self._shapes[_shape_of(pieces)] = _Shape(head, places, values)

    def _keep(self, raw: bytes, known: Known) -> None:
        if len(self.exact) >= MAX_KNOWN:
            self.exact.clear()
        self.exact[raw] = known


def _shape_of(pieces: list[bytes]) -> bytes:
    # No head has a zero byte: the parser refuses those.
    del pieces[2::3]
    return b"\0".join(pieces)


def _places(pieces: list[bytes]) -> list[int]:
    """Which header each value belongs to, by the line ends before it."""
    places: list[int] = []
    lines = 0
    for static, prefix in zip(pieces[::3], pieces[1::3], strict=False):
        lines += static.count(b"\r\n") + prefix.count(b"\r\n")
        places.append(lines - 1)
    return places
