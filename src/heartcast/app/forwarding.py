"""Requests on their way to whoever owns their shard.

A shard that moves has no owner for a moment, or one that has not loaded it yet. A request for it
waits here, as long as it is certain that nothing of it was done: nobody owned the shard, the node
that was asked said that the shard is not there, or the question reached nobody. It is tried again
when nodes or owners change, and now and then as the news of that take a second. After a silence
it is not: the owner may have done what was asked, and would do it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from heartcast.api.idempotency import HEADER
from heartcast.api.problems import internal_problem, problem, problem_for
from heartcast.api.route import Answer, Call, Identity
from heartcast.app.shard_host import Host
from heartcast.app.shard_hosts import ShardHosts
from heartcast.cluster.post import NodeGone
from heartcast.core.errors import HeartcastError, StoreBusy, StoreUnavailable

ASK = "push.ask"
MOVING_S = 1.5
"""Longest wait for a shard that moves: more than handing one over takes, and less than the patience
of whoever asks. A node that was killed is replaced later than that."""
MAX_WAITING = 1_000
"""Requests that may wait so; at some kilobytes each, and tried five times a second."""
_LOOK_S = 0.2
_PATIENCE_S = 5.0
"""Longest wait for another node's answer."""
_NOT_HERE = b""
"""A node's answer that it does not have the shard: nothing was done."""
_FORWARDED = frozenset((HEADER, b"if-match", b"if-none-match", b"accept-language"))
"""Headers that handlers of pushes look at."""

_log = structlog.get_logger("heartcast")


class Asked(msgspec.Struct, array_like=True):
    """A request, as it goes to the owner of its shard."""

    shard: int
    method: str
    path: str
    """The route's, with its parts in braces."""
    params: dict[str, str]
    query: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]]
    peer: str
    user: str | None
    is_server: bool
    scopes: frozenset[str]


_pack = msgspec.msgpack.Encoder().encode
_asked_in = msgspec.msgpack.Decoder(Asked).decode
_answer_in = msgspec.msgpack.Decoder(Answer).decode


class _Request(NamedTuple):
    shard: int
    key: tuple[str, str]
    """Method and path of its route."""
    call: Call
    until_s: float
    """Monotonic time up to which it may wait for an owner."""


class Forwarding:
    """Has requests answered by the owners of their shards, here or elsewhere."""

    def __init__(self, hosts: ShardHosts) -> None:
        self._hosts = hosts
        self._membership = hosts.membership
        self._post = hosts.post
        self._now_s = hosts.parts.clock.monotonic_s
        self._later = hosts.parts.loop.call_later
        self._waiting: list[_Request] = []
        self._looking: asyncio.TimerHandle | None = None
        self._membership.on_change.append(self._try_all)
        self._post.on(ASK, self._on_ask)

    def send(self, shard: int, key: tuple[str, str], call: Call) -> None:
        """Have a request answered, by ``call.respond``, once."""
        self._try(_Request(shard, key, call, self._now_s() + MOVING_S))

    def _try(self, request: _Request) -> None:
        shard, key, call, _ = request
        if (host := self._hosts.find(shard)) is not None:
            _handle(host, key, call)
            return
        owner = self._membership.owner_of(shard)
        if owner is None or owner == self._membership.node:
            self._wait(request)
            return
        who = call.identity
        asked = Asked(
            shard, *key, call.params, call.query, call.body,
            [header for header in call.headers if header[0] in _FORWARDED],
            call.peer, who.user, who.is_server, who.scopes,
        )  # fmt: skip
        self._post.call(owner, ASK, _pack(asked), partial(self._told, request), timeout_s=_PATIENCE_S)

    def _told(self, request: _Request, answer: bytes | StoreUnavailable) -> None:
        respond = request.call.respond
        if answer == _NOT_HERE or isinstance(answer, NodeGone):
            self._wait(request)
        elif isinstance(answer, StoreBusy):
            respond(problem(answer))
        elif isinstance(answer, StoreUnavailable):
            respond(problem(_silent(answer)))
        else:
            respond(_answer_in(answer))

    # ── waiting ──────────────────────────────────────────────────────────────

    def _wait(self, request: _Request) -> None:
        if len(self._waiting) >= MAX_WAITING or self._now_s() >= request.until_s:
            request.call.respond(problem(_moving()))
            return
        self._waiting.append(request)
        if self._looking is None:
            self._looking = self._later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        self._try_all()

    def _try_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._try(request)

    # ── at the owner ─────────────────────────────────────────────────────────

    def _on_ask(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        asked = _asked_in(body)
        host = self._hosts.find(asked.shard)
        if host is None:
            answer(_NOT_HERE)
            return
        call = Call(
            body=asked.body, query=asked.query, headers=asked.headers, params=asked.params, peer=asked.peer,
            identity=Identity(asked.user, asked.is_server, asked.scopes),
            respond=lambda told: answer(_pack(told)),
        )  # fmt: skip
        _handle(host, (asked.method, asked.path), call)


def _handle(host: Host, key: tuple[str, str], call: Call) -> None:
    """Let a host answer a call by ``call.respond``, whatever happens."""
    try:
        answer = host.handlers[key].handler(call)
    except HeartcastError as error:
        answer = problem_for(error, call.identity)
    except Exception:
        _log.exception("handler failed", method=key[0], path=key[1])
        answer = internal_problem()
    if answer is not None:
        call.respond(answer)  # type: ignore[arg-type]


def _moving() -> StoreUnavailable:
    return StoreUnavailable("the shard of this user goes to another node; try again", code="shard_moving")


def _silent(error: StoreUnavailable) -> StoreUnavailable:
    return StoreUnavailable(
        f"{error.detail}; it may have done what was asked: repeat it with the same Idempotency-Key",
        code="owner_silent",
    )
