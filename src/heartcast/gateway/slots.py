"""Places in a connection's ordered queue of open answers.

Answers leave a connection in the order of its requests, whatever is ready first. Each slot
keeps a request until its answer may go.
"""

from __future__ import annotations

import logging
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from heartcast.api.problems import internal_problem
from heartcast.api.route import ANONYMOUS, Answer, Call
from heartcast.gateway.head import Head, RawHeaders

if TYPE_CHECKING:
    from heartcast.gateway.answers import AnswerQueue
    from heartcast.gateway.port import Observe

log = logging.getLogger("heartcast.gateway")
_NO_PARAMS: dict[str, str] = {}


class HotCall(Call):
    """A hot request on its way; its own slot when the answer comes later."""

    __slots__ = ("_protocol", "answer", "head", "is_held", "is_queued", "is_started", "started_ns")

    def __init__(self, protocol: AnswerQueue, head: Head, body: bytes, headers: RawHeaders) -> None:
        # Not super().__init__: this runs per request, and its keywords cost as much as all of it.
        self.body = body
        self.query = head.query
        self.headers = headers
        self.params = _NO_PARAMS
        self.peer = head.peer or protocol.peer
        self.identity = ANONYMOUS
        self.head = head
        self.answer: Answer | None = None
        self.is_started = False
        self.is_queued = False
        self.is_held = False
        self.started_ns = 0
        self._protocol = protocol

    # A method and not an attribute, as one that is bound to its own object would be a
    # cycle that only the collector can free.
    def respond(self, answer: Answer) -> None:
        """Answer this request; the first call counts."""
        if self.answer is not None:
            log.error("%s %s was answered twice", self.head.method.decode(), self.head.path.decode("latin-1"))
            return
        self.answer = answer
        if self.is_queued:
            self._protocol.on_late_answer()

    def judged(self, refusal: Answer | None) -> None:
        """The limit's late word: go on to the handler, or answer with the refusal."""
        hot, port = self.head.hot, self._protocol.port
        assert hot is not None
        self.is_held = False
        # What the handler answers at once is given below, with all else that waited for this.
        self.is_queued = False
        if refusal is not None:
            port.count_rejection("rate_limited")
        answer = refusal if refusal is not None else port.handle(self, hot)
        if self.answer is None:
            self.answer = answer
        self.is_queued = True
        self._protocol.on_late_answer()

    def observe(self, observe: Observe) -> None:
        """Report how long the answer took since the handler was called."""
        if self.head.hot is not None:
            observe(self.head.hot.index, monotonic_ns() - self.started_ns)


class CannedSlot:
    """A request that is answered without asking anybody."""

    __slots__ = ("answer", "head", "is_started")

    def __init__(self, head: Head, answer: Answer) -> None:
        self.head = head
        self.answer: Answer | None = answer
        self.is_started = True


class ColdSlot:
    """A request for the application, which writes to the transport itself when its turn has come."""

    __slots__ = ("answer", "body", "cycle", "head", "headers", "is_patient", "is_started")

    def __init__(self, head: Head, body: bytes, headers: RawHeaders) -> None:
        self.head = head
        self.headers = headers
        self.body = body
        self.is_patient = False
        self.answer: Answer | None = None
        self.cycle: ColdCycle | None = None
        self.is_started = False


class ColdCycle(RequestResponseCycle):
    """uvicorn's request and response, with its body complete and its failures as problems."""

    async def send_500_response(self) -> None:
        answer = internal_problem()
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})


def scope_of(protocol: AnswerQueue, head: Head, headers: RawHeaders) -> dict[str, Any]:
    """The ASGI scope of a cold request."""
    peer = protocol.client
    if head.peer is not None:
        peer = (head.peer, 0)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.http_version,
        "server": protocol.server,
        "client": peer,
        "scheme": protocol.scheme,
        "method": head.method.decode("ascii"),
        "root_path": "",
        "path": unquote(head.path.decode("ascii")),
        "raw_path": head.path,
        "query_string": head.query,
        "headers": list(headers),
        "state": protocol.app_state.copy(),
    }


class HeadAsGet:
    """An application that is asked GET where the client asked HEAD."""

    __slots__ = ("_app",)

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # The cycle keeps the scope with HEAD and leaves the body out.
        await self._app({**scope, "method": "GET"}, receive, send)


class ReadOnlyFlow:
    """A cycle's view of the connection's flow: it may wait for writing, reading is our business."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    @property
    def write_paused(self) -> bool:
        return bool(self._flow.write_paused)

    async def drain(self) -> None:
        await self._flow.drain()

    def resume_reading(self) -> None:
        """Nothing: the body is complete, and the queue decides."""
