"""Server-sent events: one channel as a stream over HTTP.

Nothing goes back on a stream, so what arrives is not acknowledged. What was missed while
a connection was broken comes before the event that says which channels are open.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from heartcast.loadtest.audience import Audience, Heard
from heartcast.loadtest.sessions import Subscriber

_TEXT = 0x81
_HEARTBEAT = b":"


class _Message(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    offset: int = 0
    tags: dict[str, str] | None = None


class _Closed(msgspec.Struct, gc=False):
    code: int = 0
    reason: str = ""


_decode = msgspec.json.Decoder(_Message).decode
_decode_closed = msgspec.json.Decoder(_Closed).decode


class StreamSubscriber(Subscriber):
    """Reads a stream.

    Attributes:
        cursor: Where the stream goes on after what was read; "": nowhere.
    """

    __slots__ = ("cursor",)
    acknowledges = False

    def __init__(
        self, audience: Audience, serial: int, channel: str, *, stream: int = -1, token: str = ""
    ) -> None:
        super().__init__(audience, serial, channel, stream=stream, token=token)
        self.cursor = ""

    @staticmethod
    def parse(audience: Audience, payload: bytes) -> list[Heard]:
        cursor, name, data = _fields(payload)
        if name:
            raise ValueError("no publication")
        message = _decode(data)
        tags = message.tags or {}
        return [
            audience.judge(
                message.channel,
                bytes(message.data),
                message.offset,
                tags.get("id", ""),
                is_again="redelivered" in tags,
                cursor=cursor,
            )
        ]

    def greeting(self) -> bytes:
        query = f"channel={quote(self.channel, safe='')}"
        if self.token:
            query += f"&token={quote(self.token, safe='')}"
        last = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        return (
            f"GET /api/v1/stream?{query} HTTP/1.1\r\nHost: {self.crowd.authority}\r\n"
            f"Accept: text/event-stream\r\n{last}\r\n"
        ).encode()

    def opened(self) -> None:
        return

    def acknowledge(self, push_ids: list[str]) -> None:
        return

    def ask_what_is_kept(self) -> None:
        return

    # -- what it hears --------------------------------------------------------

    def take_bytes(self, data: bytes) -> None:
        if self._rest is not None:
            data = self._rest + data
            self._rest = None
        elif self.is_listening and self.received_read(data):
            return
        start = 0
        if self.state == 2:
            start = self._shake(data)
            if not start:
                return
        *events, rest = data[start:].split(b"\n\n")
        self._rest = rest or None
        for event in events:
            self.received(event.lstrip(b"\n"))
            if self.sock is None:
                return
        if not start and self._rest is None:
            self.parsed(data, [(_TEXT, event) for event in events])

    def _shake(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return 0
        if not data.startswith(b"HTTP/1.1 200") or b"text/event-stream" not in data[:end]:
            self.end(0, f"answered {data[9:12].decode('latin-1')} to the request for a stream")
            return 0
        self.state = 3
        self.crowd.one_opened()
        return end + 4

    def take(self, heard: list[Heard], *, is_recovered: bool) -> None:
        # Before the word that all is open comes what was missed.
        super().take(heard, is_recovered=is_recovered or not self.is_listening)
        if heard and heard[-1].cursor:
            self.cursor = heard[-1].cursor

    def answered(self, payload: bytes) -> None:
        if payload == _HEARTBEAT or payload.startswith(b"retry: "):
            return
        try:
            cursor, name, data = _fields(payload)
        except ValueError as error:
            self.damaged(f"no event: {error}")
            return
        self.cursor = cursor or self.cursor
        if name == "subscribed":
            self.listens()
        elif name == "gap":
            self.was_told = True
        elif name == "close":
            closed = _decode_closed(data)
            self.end(closed.code, closed.reason)
        else:
            self.damaged("an event that is no publication")


def _fields(event: bytes) -> tuple[str, str, bytes]:
    """(id, name, data) of an event.

    Raises:
        ValueError: a line is nothing that our server writes.
    """
    found = {b"id": b"", b"event": b"", b"data": b""}
    for line in event.split(b"\n"):
        field, colon, value = line.partition(b": ")
        if not colon or field not in found or found[field]:
            raise ValueError(f"a line that begins with {line[:12]!r}")
        found[field] = value
    return found[b"id"].decode(), found[b"event"].decode(), found[b"data"]
