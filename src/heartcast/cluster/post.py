"""Messages between nodes: tell one, tell all, or ask and wait for the answer.

A message arrives at most once. Nothing that must not be lost goes only this way: whoever
needs to be sure keeps it elsewhere and sends it again, or asks and waits. A call always ends:
with the answer, with what the other node refused, or when its time is over.

An envelope is a MessagePack array: kind, sender, subject, number of the call, body. Redis
keeps up to 32 MB for a subscriber that does not read and then drops it, so a body should stay
well below a megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from heartcast.cluster.carrier import Carrier
from heartcast.core.errors import StoreBusy, StoreUnavailable

Answer = Callable[[bytes], None]
Handler = Callable[[str, bytes, Answer], None]
"""Takes the sender's node id, the body, and, for a call, how to answer it: once."""
Answered = Callable[[bytes | StoreUnavailable], None]

MAX_CALLS = 10_000
"""Calls that may wait for their answers; a node that answers in 100 ms takes 100,000 a second."""

_TELL, _TELL_ALL, _CALL, _ANSWER, _REFUSAL = range(5)

_log = structlog.get_logger("heartcast")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, str, int, bytes]).decode


class NodeGone(StoreUnavailable):
    """A call reached nobody: what was asked was not done."""


class _Timer(Protocol):
    def cancel(self) -> Any: ...


Later = Callable[[float, Callable[[], Any]], _Timer]
"""``loop.call_later``."""


class _Waiting:
    """A call without an answer yet."""

    __slots__ = ("done", "timer")

    def __init__(self, done: Answered, timer: _Timer) -> None:
        self.done = done
        self.timer = timer


class Post:
    """This node's post. ``open`` it before anything is sent.

    Args:
        node: Id of this node. What is told or asked of oneself takes the same way as all else.
        later: Calls back after so many seconds (``loop.call_later``).
    """

    def __init__(self, node: str, carrier: Carrier, later: Later) -> None:
        self._node = node
        self._carrier = carrier
        self._later = later
        self._handlers: dict[str, Handler] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self.sent = 0
        """Messages handed to the carrier."""
        self.lost = 0
        """Messages that the carrier could not take, or that reached nobody."""
        self.failed = 0
        """Messages whose handler raised."""

    async def open(self) -> None:
        """Take messages from now on.

        Raises:
            StoreUnavailable: the carrier cannot be reached.
        """
        await self._carrier.enter(self._node, self._arrived)

    def on(self, subject: str, handler: Handler) -> None:
        """Say who takes messages of this subject.

        Raises:
            ValueError: somebody does already.
        """
        if subject in self._handlers:
            raise ValueError(f"subject: {subject!r} has a handler already")
        self._handlers[subject] = handler

    def tell(self, node: str, subject: str, body: bytes) -> None:
        """Tell one node: at most once, in order per sender."""
        self._send(node, _TELL, subject, 0, body)

    def tell_all(self, subject: str, body: bytes) -> None:
        """Tell every other node: at most once, in order per sender."""
        self.sent += 1
        self._carrier.send_all(_encode((_TELL_ALL, self._node, subject, 0, body)), self._handed)

    def call(self, node: str, subject: str, body: bytes, done: Answered, timeout_s: float = 2.0) -> None:
        """Ask one node; ``done`` is called exactly once, later.

        It gets ``StoreUnavailable`` when there is no answer in time, nobody there who takes the
        subject, or the handler raised: what was asked may have been done then. It was not with
        ``NodeGone`` (there is no such node) and ``StoreBusy`` (too many calls wait).
        """
        if len(self._waiting) >= MAX_CALLS:
            self._later(0, partial(done, StoreBusy("too many calls wait for other nodes")))
            return
        self._number = number = self._number + 1
        timer = self._later(timeout_s, partial(self._end, number, StoreUnavailable(
            f"another node did not answer within {timeout_s:g} s"
        )))  # fmt: skip
        self._waiting[number] = _Waiting(done, timer)
        self._send(node, _CALL, subject, number, body)

    def call_each(
        self,
        nodes: Iterable[str],
        subject: str,
        body: bytes,
        done: Callable[[dict[str, bytes]], None],
        timeout_s: float = 2.0,
    ) -> None:
        """Ask several nodes; ``done`` is called once, with the answers of those who gave one."""
        answers: dict[str, bytes] = {}
        waiting = set(nodes)
        if not waiting:
            self._later(0, partial(done, answers))
            return

        def answered(node: str, answer: bytes | StoreUnavailable) -> None:
            waiting.discard(node)
            if not isinstance(answer, StoreUnavailable):
                answers[node] = answer
            if not waiting:
                done(answers)

        for node in tuple(waiting):
            self.call(node, subject, body, partial(answered, node), timeout_s)

    def _send(self, node: str, kind: int, subject: str, number: int, body: bytes) -> None:
        self.sent += 1
        handed = partial(self._call_handed, number) if kind == _CALL else self._handed
        self._carrier.send(node, _encode((kind, self._node, subject, number, body)), handed)

    def _handed(self, receivers: int | StoreUnavailable) -> None:
        if not isinstance(receivers, int) or not receivers:
            self.lost += 1

    def _call_handed(self, number: int, receivers: int | StoreUnavailable) -> None:
        self._handed(receivers)
        if isinstance(receivers, StoreUnavailable):
            self._end(number, receivers)
        elif not receivers:
            self._end(number, NodeGone("the other node is gone"))

    def _end(self, number: int, answer: bytes | StoreUnavailable) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return  # it had its answer, or its time was over
        waiting.timer.cancel()
        try:
            waiting.done(answer)
        except Exception:
            self.failed += 1
            _log.exception("an answer of another node was not taken")

    def _arrived(self, message: bytes) -> None:
        try:
            kind, sender, subject, number, body = _decode(message)
        except msgspec.DecodeError:
            self.failed += 1  # nobody of ours wrote that
            return
        if kind == _ANSWER:
            self._end(number, body)
        elif kind == _REFUSAL:
            self._end(number, StoreUnavailable(f"the other node could not: {body.decode(errors='replace')}"))
        elif kind != _TELL_ALL or sender != self._node:  # one's own comes back from the carrier
            self._handle(kind, sender, subject, number, body)

    def _handle(self, kind: int, sender: str, subject: str, number: int, body: bytes) -> None:
        is_call = kind == _CALL
        handler = self._handlers.get(subject)
        if handler is None:
            if is_call:
                self._refuse(sender, number, f"nobody takes {subject!r}")
            return
        try:
            handler(sender, body, self._answering(sender, number) if is_call else _no_answer)
        except Exception as error:
            self.failed += 1
            _log.exception("a message of another node was not taken", subject=subject)
            if is_call:
                self._refuse(sender, number, f"{type(error).__name__}: {error}")

    def _refuse(self, sender: str, number: int, why: str) -> None:
        self._send(sender, _REFUSAL, "", number, why.encode())

    def _answering(self, sender: str, number: int) -> Answer:
        return lambda body: self._send(sender, _ANSWER, "", number, body)

    async def close(self) -> None:
        """End every call, take no more messages. Repeating it does nothing."""
        for number in list(self._waiting):
            self._end(number, StoreUnavailable("this node is stopping"))
        await self._carrier.close()


def _no_answer(body: bytes) -> None:
    """What a tell is answered with."""
