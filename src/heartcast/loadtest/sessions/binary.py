"""heartcast.v1: the client protocol in protobuf.

The server's frames are canonical, so what does not come out byte for byte when it is
written again was damaged on its way, and is counted as that and once.
"""

from __future__ import annotations

import msgspec

from heartcast.loadtest.audience import Audience, Heard
from heartcast.loadtest.sessions import Subscriber
from heartcast.wire import v1
from heartcast.wire.frames import BINARY, masked_frame

_HELLO, _SUBSCRIBE, _LOOK = 1, 2, 3
_KEY = b"\0\0\0\0"
_PONG = masked_frame(v1.write(v1.ClientFrame(pong=v1.Pong())), BINARY, _KEY)
_check_json = msgspec.json.Decoder().decode


class BinarySubscriber(Subscriber):
    """Speaks heartcast.v1."""

    __slots__ = ()
    message_byte = 0x80 | BINARY
    subprotocol = v1.SUBPROTOCOL.decode()

    @staticmethod
    def parse(audience: Audience, payload: bytes) -> list[Heard]:
        batch = _read(payload).batch
        if batch is None or not batch.messages:
            raise ValueError("no publications")
        return [_judged(audience, batch.channel, message) for message in batch.messages]

    def _say(self, frame: v1.ClientFrame) -> None:
        self.write(masked_frame(v1.write(frame), BINARY, _KEY))

    def opened(self) -> None:
        self._say(v1.ClientFrame(_HELLO, hello=v1.Hello(self.token)))
        resume = v1.Position(self.offset, self.epoch) if self.epoch is not None else None
        self._say(v1.ClientFrame(_SUBSCRIBE, subscribe=v1.Subscribe(self.channel, resume=resume)))

    def acknowledge(self, push_ids: list[str]) -> None:
        if self.audience.is_cumulative and self.epoch is not None:
            self._say(v1.ClientFrame(ack=v1.Ack(through=v1.Position(self.offset, self.epoch))))
        else:
            self._say(v1.ClientFrame(ack=v1.Ack(ids=push_ids)))

    def ask_what_is_kept(self) -> None:
        # This protocol has no history; who subscribes without a place is given what is kept for it.
        self._say(v1.ClientFrame(_LOOK, unsubscribe=v1.Unsubscribe(self.channel)))
        self._say(v1.ClientFrame(_LOOK, subscribe=v1.Subscribe(self.channel)))

    def take(self, heard: list[Heard], *, is_recovered: bool) -> None:
        if self.unacknowledged is None:
            super().take(heard, is_recovered=is_recovered)
        else:
            # It asked what is kept, and the answer was too long for one frame.
            self.unacknowledged += sum(each.mark is not None for each in heard)

    def answered(self, payload: bytes) -> None:
        try:
            frame = _read(payload)
        except ValueError as error:
            self.damaged(f"no frame of the protocol: {error}")
            return
        if frame.ping is not None:
            self.write(_PONG)
        elif frame.reply is not None:
            self._answered(frame.reply)
        elif frame.left is None or not frame.left.code:
            self.damaged("neither publications nor an answer")

    def _answered(self, reply: v1.Reply) -> None:
        if reply.error is not None:
            reason = f"{reply.error.code} {reply.error.message}"
            if reply.id == _LOOK:
                self.audience.fail(reason)
            else:
                self.refused(reason, is_temporary=reply.error.temporary)
        elif reply.subscribed is not None:
            self._subscribed(reply.id, reply.subscribed)
        elif reply.welcome is None and reply.done is None:
            self.damaged("an answer with nothing in it")

    def _subscribed(self, command: int, answer: v1.Subscribed) -> None:
        heard = [_judged(self.audience, self.channel, message) for message in answer.messages]
        if command == _LOOK:
            self.unacknowledged = sum(each.mark is not None for each in heard)
            return
        place = answer.position or v1.Position()
        self.subscribed(
            heard,
            epoch=place.epoch,
            offset=place.offset,
            is_gone=answer.was_resuming and not answer.resumed,
        )


def _read(payload: bytes) -> v1.ServerFrame:
    frame = v1.read_server(payload)
    if v1.write(frame) != payload:
        raise ValueError("not as the server writes it")
    return frame


def _judged(audience: Audience, channel: str, message: v1.Published) -> Heard:
    try:
        _check_json(message.data)
    except (ValueError, RecursionError):
        return Heard(channel, None, 0, "", False, message.data)
    return audience.judge(channel, message.data, message.offset, message.id, is_again=message.redelivered)
