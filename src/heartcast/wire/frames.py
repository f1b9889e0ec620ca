"""WebSocket frames, the server's side of RFC 6455.

Server frames are unmasked, so a frame has the same bytes for every subscriber: it is
built once and handed to any number of sockets. Client frames are masked and may come
in pieces: ``FrameReader`` takes bytes as they arrive and gives whole messages.

Nothing here does I/O. The masking is one XOR of two long integers, which for the
short frames that clients send costs less than a call into a compiled parser saves,
and keeps a connection's state at three words (``docs/decisions/0003``).
"""

from __future__ import annotations

from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

PROTOCOL_ERROR: Final = 1002
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009

MAX_CONTROL_BYTES = 125
_FIN = 0x80
_RESERVED_BITS = 0x70
_MASKED = 0x80
_NO_MASK = b"\0\0\0\0"


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65_536:
        return bytes((_FIN | opcode, 126, size >> 8, size & 255)) + payload
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason that does not fit is cut at a character."""
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return frame(code.to_bytes(2, "big") + text, CLOSE)


def mask(payload: bytes, key: bytes) -> bytes:
    """The payload XORed with a repeated key of 4 bytes; applying it twice undoes it."""
    size = len(payload)
    if not size or key == _NO_MASK:
        return payload
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def masked_frame(payload: bytes, opcode: int, key: bytes, *, is_last: bool = True) -> bytes:
    """A frame as a client sends it."""
    size = len(payload)
    first = opcode | (_FIN if is_last else 0)
    if size < 126:
        head = bytes((first, _MASKED | size))
    elif size < 65_536:
        head = bytes((first, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + key + mask(payload, key)


def close_code(payload: bytes) -> int | None:
    """The code of a close frame's payload: 1005 when there is none, None when it is not allowed."""
    if not payload:
        return 1005
    if len(payload) == 1:
        return None
    code = int.from_bytes(payload[:2], "big")
    is_allowed = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    return code if is_allowed or 3000 <= code < 5000 else None


class FrameReader:
    """Reads one client's frames.

    Messages split over frames are put together; control frames between the pieces
    come out in their own order. After an error nothing more is read.

    Args:
        limit_bytes: A message may be so long, whole or assembled.

    Attributes:
        error: Close code and reason once the client broke the protocol.
    """

    __slots__ = ("_limit_bytes", "_parts", "_rest", "error")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rest: bytearray | None = None
        self._parts: _Parts | None = None
        self.error: tuple[int, str] | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what arrived; give the messages it completed as (opcode, payload)."""
        if self.error is not None:
            return []
        rest = self._rest
        if rest is None:
            return self._read(data)
        rest += data
        # A peer that sends a long frame byte by byte must not make us copy it each time.
        if len(rest) < (_needed(rest) or 0):
            return []
        self._rest = None
        return self._read(bytes(rest))

    def _read(self, data: bytes) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        start, end = 0, len(data)
        while end - start >= 2:
            first, second = data[start], data[start + 1]
            size = second & 127
            body = start + 2
            if size >= 126:
                body += 2 if size == 126 else 8
                if end < body:
                    break
                size = int.from_bytes(data[start + 2 : body], "big")
            self.error = self._fault(first, second, size)
            if self.error is not None:
                return messages
            body += 4
            if end < body + size:
                break
            start = body + size
            self._take(first, mask(data[body:start], data[body - 4 : body]), messages)
        if start < end:
            self._rest = bytearray(data[start:])
        return messages

    def _fault(self, first: int, second: int, size: int) -> tuple[int, str] | None:
        opcode = first & 15
        # The common case first: a whole masked text frame of allowed size.
        if first == _FIN | TEXT and second & _MASKED and size <= self._limit_bytes and self._parts is None:
            return _fault_of_size(second, size)
        if first & _RESERVED_BITS:
            return PROTOCOL_ERROR, "reserved bits are set"
        if not second & _MASKED:
            return PROTOCOL_ERROR, "client frames must be masked"
        if opcode >= CLOSE:
            return _fault_of_control(first, opcode, second)
        if opcode > BINARY:
            return PROTOCOL_ERROR, "unknown opcode"
        if (opcode == CONTINUATION) != (self._parts is not None):
            return PROTOCOL_ERROR, "fragments out of order"
        if size + (self._parts.size if self._parts is not None else 0) > self._limit_bytes:
            return TOO_BIG, "message too big"
        return _fault_of_size(second, size)

    def _take(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode, is_last = first & 15, first & _FIN
        if opcode >= CLOSE or (is_last and opcode != CONTINUATION):
            messages.append((opcode, payload))
            return
        if self._parts is None:
            self._parts = _Parts(opcode)
        self._parts.add(payload)
        if is_last:
            messages.append((self._parts.opcode, bytes(self._parts.payload)))
            self._parts = None


class _Parts:
    """A message of which not all fragments are there yet."""

    __slots__ = ("opcode", "payload")

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        # One growing buffer and not a list: a million empty fragments must cost nothing.
        self.payload = bytearray()

    @property
    def size(self) -> int:
        return len(self.payload)

    def add(self, payload: bytes) -> None:
        self.payload += payload


def _fault_of_control(first: int, opcode: int, second: int) -> tuple[int, str] | None:
    if opcode > PONG:
        return PROTOCOL_ERROR, "unknown opcode"
    if not first & _FIN:
        return PROTOCOL_ERROR, "fragmented control frame"
    if second & 127 > MAX_CONTROL_BYTES:
        return PROTOCOL_ERROR, "control frame too long"
    return None


def _fault_of_size(second: int, size: int) -> tuple[int, str] | None:
    flag = second & 127
    if (flag == 126 and size < 126) or (flag == 127 and size < 65_536):
        return PROTOCOL_ERROR, "length is not in its shortest form"
    return None


def _needed(data: bytearray) -> int | None:
    """How many bytes the first frame has in all, None when its head is incomplete."""
    if len(data) < 2:
        return None
    size = data[1] & 127
    head = 2 if size < 126 else 4 if size == 126 else 10
    if len(data) < head:
        return None
    if size >= 126:
        size = int.from_bytes(data[2:head], "big")
    return head + 4 + size
