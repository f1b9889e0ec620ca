"""The ordered queue of a connection's open answers.

Answers leave in the order of the requests, whatever is ready first. Handlers are *started* in
that order, too: what comes after an open request for the application, or after one whose limit
is not decided yet, waits for it, as it may depend on it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from functools import partial
from time import monotonic_ns
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from heartcast.api.route import Answer
from heartcast.gateway.head import CANNED, HOT, Head, RawHeaders
from heartcast.gateway.port import HttpPort
from heartcast.gateway.slots import (
    CannedSlot,
    ColdCycle,
    ColdSlot,
    HeadAsGet,
    HotCall,
    ReadOnlyFlow,
    scope_of,
)
from heartcast.resilience.shedding import Priority

IDLE, IN_HEAD, IN_BODY = range(3)
"""Where in a request the connection stands."""


class AnswerQueue(HttpToolsProtocol):
    """A connection's state, and the answers it owes. See ``HttpPort`` for the arguments."""

    # Slots, although the parent has a __dict__: past 30 keys Python no longer shares them
    # between objects, and look-ups get slower.
    __slots__ = (
        "_body",
        "_candidate",
        "_continue_due",
        "_head",
        "_head_bytes",
        "_held",
        "_is_advancing",
        "_is_closing",
        "_is_deaf",
        "_is_flush_due",
        "_is_forgotten",
        "_is_half_closed",
        "_is_parsing",
        "_lingers_until_s",
        "_misses",
        "_out",
        "_proxy",
        "_queue",
        "_since_s",
        "_stage",
        "_tail",
        "_takeover",
        "peer",
        "port",
    )  # fmt: skip

    def __init__(
        self, port: HttpPort, config: Config, server_state: ServerState, app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, loop)
        self.port = port
        self.peer = ""
        self._proxy: str | None = None
        self._queue: deque[HotCall | ColdSlot | CannedSlot] = deque()
        self._out: list[bytes] = []
        self._head: Head | None = None
        self._body: bytes | bytearray = b""
        self._head_bytes = 0
        self._candidate: bytes | None = None
        self._misses = 0
        self._held = b""
        self._tail = b""
        self._takeover: Head | None = None
        self._stage = IDLE
        self._since_s = port.now_s
        self._lingers_until_s = 0.0
        self._is_deaf = False
        self._is_closing = False
        self._is_half_closed = False
        self._is_parsing = False
        self._is_flush_due = False
        self._is_advancing = False
        self._is_forgotten = False
        self._continue_due = False

    @abstractmethod
    def _end_packet(self) -> None:
        """Send what is ready, and see how the connection goes on."""

    @abstractmethod
    def _resume_reading(self) -> None:
        """Go on where a full queue or a slow client stopped us."""

    def _answer_hot(self, head: Head, body: bytes, headers: RawHeaders) -> None:
        """Call the handler of a request that nothing stands before."""
        call = HotCall(self, head, body, headers)
        answer = self._run(call)
        if answer is None:
            self._open(call)
            return
        self._out.append(self._render(head, answer))
        if self.port.observe is not None:
            call.observe(self.port.observe)

    def _run(self, call: HotCall) -> Answer | None:
        port = self.port
        hot = call.head.hot
        assert hot is not None
        call.is_started = True
        if port.observe is not None:
            call.started_ns = monotonic_ns()
        answer = port.run(call, hot)
        # A store in memory may have answered before it returned.
        return call.answer if answer is None else answer

    def _open(self, slot: HotCall | ColdSlot | CannedSlot) -> None:
        if isinstance(slot, HotCall):
            slot.is_queued = True
        self._queue.append(slot)
        self.port.open_answers += 1

    def _enqueue(self, head: Head, body: bytes, headers: RawHeaders) -> None:
        slot: HotCall | ColdSlot | CannedSlot
        if head.kind == HOT:
            slot = HotCall(self, head, body, headers)
        elif head.kind == CANNED:
            assert head.canned is not None
            slot = CannedSlot(head, head.canned)
        else:
            slot = ColdSlot(head, body, headers)
        self._open(slot)
        self._advance()

    def on_late_answer(self) -> None:
        """A hot answer that was open is ready."""
        if not self._queue:
            self.port.counters.lost_answers += 1
            return
        self._advance()
        if not self._is_parsing:
            self._after_answers()

    def _advance(self) -> None:
        """Give every answer whose turn has come, and start what may be started."""
        if self._is_advancing:
            # A handler that we are just starting answered another of our requests.
            return
        self._is_advancing = True
        queue = self._queue
        while queue:
            slot = queue[0]
            if slot.answer is not None:
                queue.popleft()
                self.port.give(1)
                self.port.given += slot.answer.status != 503
                self._out.append(self._render(slot.head, slot.answer))
                if self.port.observe is not None and isinstance(slot, HotCall):
                    slot.observe(self.port.observe)
            elif not self._start_next():
                break
        self._is_advancing = False

    def _start_next(self) -> bool:
        """Start the first request that waits to be started. Returns False when none may be."""
        for place, slot in enumerate(self._queue):
            if isinstance(slot, ColdSlot):
                if place > 0 or slot.is_started:
                    return False
                self._begin_cold(slot)
                return True
            if isinstance(slot, HotCall):
                if slot.is_held:
                    # Its limit is not decided yet: what comes after it may depend on it.
                    return False
                if not slot.is_started:
                    slot.answer = self._run(slot)
                    return True
        return False

    def _render(self, head: Head, answer: Answer) -> bytes:
        port = self.port
        hot = head.hot
        if hot is not None:
            statuses = hot.statuses
            status = answer.status
            statuses[status] = statuses.get(status, 0) + 1
        if answer is head.canned and answer.status >= 400:
            port.count_rejection(_code_of(answer))
        closes = head.closes or (self._is_closing and not self._queue and self._stage == IDLE)
        raw = port.render(head, answer, closes=closes)
        port.counters.bytes_out += len(raw)
        return raw

    def _after_answers(self) -> None:
        """Outside of a packet: send what is ready and go on."""
        if self._queue:
            # More of this connection is probably about to be answered by the same commit.
            if self._out and not self._is_flush_due:
                self._send_soon()
            return
        self._since_s = self.port.now_s
        if self.flow.read_paused or self._held:
            # Not now: we may be inside a store that is handing out answers.
            self.loop.call_soon(self._resume_reading)
        self._end_packet()

    def _send_soon(self) -> None:
        self._is_flush_due = True
        self.port.send_soon(self, self.loop)

    def send_waiting(self) -> None:
        """Send the answers that wait for the end of the turn."""
        if self._is_forgotten:
            return
        self._is_flush_due = False
        if self._out:
            self._flush()
        if self._is_closing and not self._queue and self._stage == IDLE:
            self.transport.close()
        elif self.flow.read_paused:
            self._resume_reading()

    def _flush(self) -> None:
        out = self._out
        raw = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if not self.transport.is_closing():
            self.transport.write(raw)

    def _begin_cold(self, slot: ColdSlot) -> None:
        """Refuse it, or let the application have it as soon as there is time."""
        port, route = self.port, slot.head.route
        slot.answer = port.refusal_of(slot.head, slot.body)
        if slot.answer is not None:
            return
        slot.is_started = True
        if route is not None and route.is_patient:
            slot.is_patient = True
            port.patient += 1
        is_critical = route is not None and route.priority is Priority.CRITICAL
        port.starting.add(self.loop, partial(self._start_cold, slot), is_critical=is_critical)

    def _start_cold(self, slot: ColdSlot) -> None:
        if not self._queue or self._queue[0] is not slot:
            # The client is gone, or was answered for want of time.
            return
        if self._out:
            self._flush()
        port = self.port
        port.counters.requests_cold += 1
        event = asyncio.Event()
        event.set()
        head = slot.head
        cycle = slot.cycle = ColdCycle(
            scope=scope_of(self, head, slot.headers),  # type: ignore[arg-type]
            transport=self.transport,
            flow=ReadOnlyFlow(self.flow),  # type: ignore[arg-type]
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[(b"date", port.date), *head.cors],
            message_event=event,
            expect_100_continue=False,
            # While others wait behind it, the connection is closed after the last of them.
            keep_alive=not (head.closes or (self._is_closing and len(self._queue) == 1)),
            on_response=self._on_cold_complete,
        )
        cycle.body = bytearray(slot.body)
        cycle.more_body = False
        self._start_asgi_task(cycle, HeadAsGet(self.app) if head.is_head else self.app)

    def _on_cold_complete(self) -> None:
        if not self._queue or self.transport.is_closing():
            return
        slot = self._queue.popleft()
        if isinstance(slot, ColdSlot):
            self.port.patient -= slot.is_patient
        self.port.give(1)
        self.port.given += 1
        self._advance()
        self._after_answers()


def _code_of(answer: Answer) -> str:
    """The code in one of our own problems: the last part of its type."""
    return answer.body.partition(b'"code":"')[2].partition(b'"')[0].decode()
