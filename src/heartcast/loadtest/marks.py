"""What every message of a run carries, so that whoever receives it can judge it.

    hb1.<scenario>-<run>.<stream>.<sequence>.<intended µs>.<padding>.<crc32>

A *stream* is what must arrive in order: a channel, or a user's pushes. Times are of the
tester's monotonic clock, which all its processes share. The checksum covers everything
before it, so that a damaged message is told from a lost one.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

PREFIX = "hb1."


class Mark(NamedTuple):
    """One message, as sent."""

    stream: int
    sequence: int
    """1, 2, 3 … within the stream."""
    intended_us: int
    """When it was due; monotonic microseconds of the tester."""


class Marker:
    """Makes and reads the marks of one run.

    Args:
        name: Scenario and run, such as ``fanout-7f3a``; no dots.
    """

    __slots__ = ("_head",)

    def __init__(self, name: str) -> None:
        if "." in name or not name.isascii():
            raise ValueError(f"name must be ASCII without dots, got {name!r}")
        self._head = f"{PREFIX}{name}."

    def make(self, stream: int, sequence: int, intended_us: int, padding: str = "") -> str:
        """A mark as text of ASCII letters, digits, ``.`` and ``-``: JSON needs no escapes for it."""
        body = f"{self._head}{stream}.{sequence}.{intended_us}.{padding}"
        return f"{body}.{crc32(body.encode()):08x}"

    def padding_for(self, size_bytes: int) -> str:
        """What makes a mark about ``size_bytes`` long; "" when it is that long without."""
        return "x" * max(0, size_bytes - len(self.make(9, 999_999, 10**13)))

    def is_ours(self, text: str) -> bool:
        """Whether it claims to be of this run; false for other runs' leftovers."""
        return text.startswith(self._head)

    def read(self, text: str) -> Mark | None:
        """The mark, None when it is damaged or no mark of this run."""
        body, _, check = text.rpartition(".")
        if not text.startswith(self._head):
            return None
        try:
            if f"{crc32(body.encode()):08x}" != check:
                return None
            stream, sequence, intended_us, _ = body[len(self._head) :].split(".", 3)
            return Mark(int(stream), int(sequence), int(intended_us))
        except ValueError:
            return None
