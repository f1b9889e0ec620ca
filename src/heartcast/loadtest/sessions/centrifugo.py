"""The Centrifugo client protocol in JSON."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from heartcast.loadtest.audience import Audience, Heard
from heartcast.loadtest.sessions import Subscriber

_CONNECT, _SUBSCRIBE, _HISTORY = 1, 2, 3
_PONG = b"{}"


class _Fields(Struct, gc=False):
    """An object that need only be there."""


class _Publication(Struct, gc=False):
    data: Raw = Raw(b"")
    offset: int = 0
    tags: dict[str, str] | None = None


class _Push(Struct, gc=False):
    channel: str = ""
    pub: _Publication | None = None
    unsubscribe: _Fields | None = None
    disconnect: _Fields | None = None
    join: _Fields | None = None
    leave: _Fields | None = None


class _Subscribed(Struct, gc=False):
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[_Publication] = []


class _History(Struct, gc=False):
    publications: list[_Publication] = []
    offset: int = 0


class _Error(Struct, gc=False):
    code: int = 0
    message: str = ""
    temporary: bool = False


class _Line(Struct, gc=False):
    id: int = 0
    push: _Push | None = None
    connect: _Fields | None = None
    subscribe: _Subscribed | None = None
    history: _History | None = None
    error: _Error | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class CentrifugoSubscriber(Subscriber):
    """Speaks JSON."""

    __slots__ = ()

    @staticmethod
    def parse(audience: Audience, payload: bytes) -> list[Heard]:
        return [_pushed(audience, line) for line in payload.split(b"\n")]

    def opened(self) -> None:
        subscribe: dict[str, object] = {"channel": self.channel}
        if self.epoch is not None:
            subscribe |= {"recover": True, "epoch": self.epoch, "offset": self.offset}
        connect = {"token": self.token} if self.token else {}
        self.send(
            b'{"id":%d,"connect":%s}\n{"id":%d,"subscribe":%s}'
            % (_CONNECT, _encode(connect), _SUBSCRIBE, _encode(subscribe))
        )

    def acknowledge(self, push_ids: list[str]) -> None:
        if self.audience.is_cumulative and self.epoch is not None:
            place = _encode({"offset": self.offset, "epoch": self.epoch})
            self.send(b'{"send":{"data":{"ack_through":%s}}}' % place)
        else:
            self.send(b'{"send":{"data":{"ack":%s}}}' % _encode(push_ids))

    def ask_what_is_kept(self) -> None:
        self.send(b'{"id":%d,"history":{"channel":%s,"limit":1000}}' % (_HISTORY, _encode(self.channel)))

    def answered(self, payload: bytes) -> None:
        if payload == _PONG:
            self.send(_PONG)
            return
        for line in payload.split(b"\n"):
            try:
                answer = _decode_line(line)
            except (ValueError, RecursionError) as error:
                self.damaged(f"not JSON of the protocol: {error}")
                return  # one damaged frame counts once, into however many lines it fell
            self._answered(answer)

    def _answered(self, answer: _Line) -> None:
        push = answer.push
        if push is not None:
            if push.pub is not None:
                self.take([_judged(self.audience, push.channel, push.pub)], is_recovered=False)
            elif (push.unsubscribe or push.disconnect or push.join or push.leave) is None:
                self.damaged("a push with nothing in it")
        elif answer.error is not None:
            self._refused(answer.id, answer.error)
        elif answer.subscribe is not None:
            self._subscribed(answer.subscribe)
        elif answer.history is not None:
            marks = (_judged(self.audience, self.channel, p).mark for p in answer.history.publications)
            self.unacknowledged = sum(mark is not None for mark in marks)
        elif answer.connect is None:
            self.damaged("neither a push nor an answer")

    def _refused(self, command: int, error: _Error) -> None:
        reason = f"{error.code} {error.message}"
        if command == _HISTORY:
            self.audience.fail(reason)
        else:
            self.refused(reason, is_temporary=error.temporary)

    def _subscribed(self, answer: _Subscribed) -> None:
        self.subscribed(
            [_judged(self.audience, self.channel, publication) for publication in answer.publications],
            epoch=answer.epoch,
            offset=answer.offset,
            is_gone=answer.was_recovering and not answer.recovered,
        )


def _pushed(audience: Audience, line: bytes) -> Heard:
    push = _decode_line(line).push
    if push is None or push.pub is None:
        raise ValueError("no publication")
    return _judged(audience, push.channel, push.pub)


def _judged(audience: Audience, channel: str, publication: _Publication) -> Heard:
    tags = publication.tags or {}
    return audience.judge(
        channel,
        bytes(publication.data),
        publication.offset,
        tags.get("id", ""),
        is_again="redelivered" in tags,
    )
