"""How a connection ends: refused, idle for too long, or because the server stops."""

from __future__ import annotations

from heartcast.api.route import Answer
from heartcast.gateway.answers import IDLE, IN_BODY, IN_HEAD, AnswerQueue
from heartcast.gateway.head import Head, refused
from heartcast.gateway.slots import CannedSlot, ColdSlot, HotCall

# How long a refused client may go on sending before its connection is cut: a reset any earlier
# would throw away the very answer that says why.
_LINGER_S = 2.0


class Ending(AnswerQueue):
    """What ends a connection, and how gently."""

    __slots__ = ()

    def _refuse(self, head: Head) -> None:
        """Answer now and listen no more."""
        self._head = None
        self._body = b""
        self._stage = IDLE
        self._continue_due = False
        self._is_deaf = self._is_closing = True
        self._lingers_until_s = self.port.now_s + _LINGER_S
        self._enqueue(head, b"", [])

    def _close(self) -> None:
        """End the connection so that the last answer arrives."""
        transport = self.transport
        if transport.is_closing():
            return
        if self._lingers_until_s and not self._is_half_closed and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def shutdown(self) -> None:
        """Finish what is open, then close."""
        self._is_closing = True
        if self._out:
            self._flush()
        if not self._queue and self._stage != IN_BODY and self._takeover is None:
            self.transport.close()
        elif self._queue:
            last = self._queue[-1]
            if isinstance(last, ColdSlot) and last.cycle is not None:
                last.cycle.keep_alive = False

    def abandon(self, answer: Answer) -> None:
        """Fail what is still open."""
        self._is_deaf = True
        has_cold = any(isinstance(slot, ColdSlot) for slot in self._queue)
        for place, slot in enumerate(self._queue):
            if isinstance(slot, HotCall) and slot.answer is None:
                self._queue[place] = CannedSlot(slot.head, answer)
        self._advance()
        if self._out:
            self._flush()
        if not has_cold:
            self.transport.close()

    def sweep(self, now_s: float) -> None:
        """Close when idle for too long; refuse who dawdles."""
        self._misses = 0
        options = self.port.options
        waited_s = now_s - self._since_s
        if self.transport.is_closing():
            # Closed, yet it does not take what is still to be sent.
            if waited_s >= options.keep_alive_s:
                self.transport.abort()
        elif self._lingers_until_s:
            if now_s >= self._lingers_until_s and not self._queue:
                self.transport.close()
        elif self._stage == IDLE:
            if not self._queue and waited_s >= options.keep_alive_s:
                self._since_s = now_s
                self.transport.close()
        elif waited_s >= (options.header_timeout_s if self._stage == IN_HEAD else options.body_timeout_s):
            if self.flow.read_paused:
                return  # it is us who do not read
            self._refuse(refused(408, "the request did not arrive in time", "request_timeout"))
            self._end_packet()
