"""Pushes as they are kept outside of this process, in MessagePack.

Rows are arrays. A later release may add fields at the end of one; an earlier one passes
over what it does not know.
"""

from __future__ import annotations

import msgspec

from heartcast.push.model import Extra, Push, State
from heartcast.push.templates import Templates


class Row(msgspec.Struct, array_like=True, gc=False):
    """A push that has not ended."""

    id: str
    user: str
    is_numeric: bool
    template: str
    """``name@version``."""
    payload: bytes
    extra: Extra | None
    accepted_ms: int
    changed_ms: int
    offset: int = 0
    """Its place in its user's mailbox; 0: it is in none."""

    def push(self, templates: Templates) -> Push:
        """The push, queued, or sent where it has an offset."""
        template = templates.find_or_absent(self.template)
        push = Push(
            self.id, self.user, self.is_numeric, template, self.payload, self.accepted_ms, self.changed_ms
        )
        push.offset, push.extra = self.offset, self.extra
        if self.offset:
            push.state = State.SENT
        return push


class End(msgspec.Struct, array_like=True, gc=False):
    """How a push ended."""

    id: str
    user: str
    is_numeric: bool
    template: str
    extra: Extra | None
    accepted_ms: int
    changed_ms: int
    state: State
    reason: str
    offset: int
    attempts: int

    def push(self, templates: Templates) -> Push:
        """The push, without its payload."""
        template = templates.find_or_absent(self.template)
        push = Push(self.id, self.user, self.is_numeric, template, b"", self.accepted_ms, self.changed_ms)
        push.state, push.reason, push.extra = self.state, self.reason, self.extra
        push.offset, push.attempts = self.offset, self.attempts
        return push


class Box(msgspec.Struct, array_like=True, gc=False):
    """A mailbox without its pushes."""

    epoch: str
    top: int
    lost: int
    changed_ms: int


class Kept(msgspec.Struct, array_like=True, gc=False):
    """A note."""

    until_ms: int
    value: bytes


encode = msgspec.msgpack.Encoder().encode
row_in = msgspec.msgpack.Decoder(Row).decode
end_in = msgspec.msgpack.Decoder(End).decode
box_in = msgspec.msgpack.Decoder(Box).decode
note_in = msgspec.msgpack.Decoder(Kept).decode


def row_of(push: Push, offset: int = 0) -> bytes:
    """A push that has not ended, as it is now."""
    return encode(
        Row(
            push.id, push.user, push.is_numeric, push.template.key, push.payload, push.extra,
            push.accepted_ms, push.changed_ms, offset,
        )
    )  # fmt: skip


def end_of(push: Push) -> bytes:
    """How a push ended."""
    return encode(
        End(
            push.id, push.user, push.is_numeric, push.template.key, push.extra, push.accepted_ms,
            push.changed_ms, push.state, push.reason, push.offset, push.attempts,
        )
    )  # fmt: skip
