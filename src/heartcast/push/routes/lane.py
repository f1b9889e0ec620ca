"""The way to one endpoint: who waits for it, and when the next POST may leave.

Everything that keeps an endpoint from being hurt is the endpoint's own: a breaker, a rate,
a bound on POSTs under way, and the size that decides whether pushes leave one by one or as
an array. One endpoint that hangs holds up nobody else.

An array is answered as a whole. When it is refused for good nobody knows because of which
push, so its pushes go again, each alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import NamedTuple, Protocol

import msgspec

from heartcast.backends.exchange import Reply
from heartcast.backends.webhook import signed
from heartcast.core.clock import Clock, rfc3339
from heartcast.core.errors import Unavailable
from heartcast.core.hashing import hash64
from heartcast.push.merging import Merging
from heartcast.push.model import Push, State
from heartcast.push.routes import Done, Outcome, Result, RouteHealth
from heartcast.push.routes.options import WebhookOptions
from heartcast.push.routes.realtime import rendered
from heartcast.push.template import RenderingFailed
from heartcast.push.webhooks import Endpoint
from heartcast.resilience.breaker import Breaker
from heartcast.resilience.breaker import State as Circuit
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.limits import Limit, TokenBucket

LINGER_MS = 100
"""How long a push waits for others to leave with, while its endpoint fails."""
_AGAIN = frozenset((408, 425, 429))
"""Refusals that say "not now"; every other 4xx, and a redirect, says "never"."""
_GONE = 410
_encode = msgspec.json.Encoder().encode


class Posting(Protocol):
    """What POSTs are made with; ``backends.post.Poster`` is one."""

    def begin(
        self, url: str, body: bytes, headers: Mapping[str, str], done: Callable[[Reply | Unavailable], None]
    ) -> None:
        """Make one POST; ``done`` is called exactly once, within a bounded time."""
        ...

    def close(self) -> None:
        """End what is under way, and start nothing more."""
        ...


class Turn(NamedTuple):
    """A push that waits for its turn."""

    push: Push
    route: str
    """The route that it asked for."""
    since_ms: int
    done: Done
    """Told what became of it."""
    may_send: Callable[[], bool]
    """Asked right before it leaves: whether it still may."""
    is_alone: bool = False
    """Whether it must not share a POST."""


class Lane:
    """One endpoint and what waits for it.

    Args:
        find: The endpoint as it is now; None: it is gone.
        answer: ``answer(turn, outcome)``, exactly once for each turn.
        gone: The endpoint has said that it wants no more.
    """

    def __init__(
        self,
        name: str,
        options: WebhookOptions,
        clock: Clock,
        random: Random,
        *,
        find: Callable[[], Endpoint | None],
        posting: Posting,
        answer: Callable[[Turn, Outcome], None],
        gone: Callable[[], None],
    ) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._random = random
        self._find = find
        self._posting = posting
        self._answer = answer
        self._gone = gone
        self._waiting: deque[Turn] = deque()
        self._resume_ns = 0
        self._is_pumping = False
        self._bulkhead = Bulkhead(options.in_flight)
        self._bucket = TokenBucket(Limit.parse(options.rate)) if options.rate else None
        self.merging = Merging(options.merging, clock.monotonic_ns())
        self.breaker = self._new_breaker()
        self.results: dict[str, int] = {}
        """POSTs by ``2xx`` … ``5xx`` and ``no_answer``."""
        self.is_closed = False

    def add(self, turn: Turn) -> None:
        """One more waits."""
        self._waiting.append(turn)
        self.pump()

    def changed(self) -> None:
        """The endpoint is another now: what was known of the old one says nothing."""
        self.breaker = self._new_breaker()
        self._resume_ns = 0
        self.pump()

    def health(self) -> RouteHealth:
        """How it is doing."""
        endpoint = self._find()
        return RouteHealth(
            f"webhook:{self.name}", self.merging.size, len(self._waiting) + self._bulkhead.in_flight,
            self.merging.error_rate, self.breaker.state.name.lower(),
            endpoint is None or endpoint.webhook.disabled,
        )  # fmt: skip

    def pump(self) -> None:
        """Let leave what may. An answer may add to what waits, so it does not call itself."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._waiting and not self.is_closed and self._step():
                pass
        finally:
            self._is_pumping = False

    def _step(self) -> bool:
        """One POST, if there may be one now."""
        endpoint = self._find()
        if endpoint is None or endpoint.webhook.disabled:
            self._refuse_all("no_endpoint" if endpoint is None else "endpoint_disabled")
            return True
        now_ns = self._clock.monotonic_ns()
        if (
            now_ns < self._resume_ns
            or not self._is_ripe()
            or self._bulkhead.in_flight >= self._bulkhead.limit
        ):
            return False
        if self._bucket is not None and (wait_ns := self._bucket.wait_ns(now_ns)):
            self._resume_ns = now_ns + wait_ns
            return False
        permit = self.breaker.enter(now_ns)
        if permit <= 0:
            self._resume_ns = now_ns - permit
            return False
        turns, body = self._take()
        if not turns:
            self.breaker.ignore(permit, now_ns)
            return True
        if self._bucket is not None:
            self._bucket.admit(now_ns)
        self._bulkhead.take()
        headers = {"content-type": "application/json", **self._signed(turns, body, endpoint)}
        self._posting.begin(
            endpoint.webhook.url, body, headers, partial(self._answered, turns, permit, self.breaker)
        )
        return True

    def _is_ripe(self) -> bool:
        head = self._waiting[0]
        if head.is_alone or len(self._waiting) >= self.merging.size:
            return True
        return self._clock.wall_ms() - head.since_ms >= LINGER_MS

    def _take(self) -> tuple[list[Turn], bytes]:
        """The next turns, and what to post for them; those that need no POST are answered."""
        turns: list[Turn] = []
        parts: list[bytes] = []
        left = self._options.max_array_bytes
        while self._waiting and len(turns) < self.merging.size:
            head = self._waiting.popleft()
            if turns and (head.is_alone or turns[0].is_alone):
                self._waiting.appendleft(head)
                break
            # Answered here when there is nothing to post: whoever hears may add to what waits.
            part = self._part(head)
            if part is None:
                continue
            if turns and len(part) > left:
                self._waiting.appendleft(head)
                break
            left -= len(part) + 1
            turns.append(head)
            parts.append(part)
            head.push.made_special().posted += 1
        return turns, parts[0] if len(parts) == 1 else b"[" + b",".join(parts) + b"]"

    def _part(self, turn: Turn) -> bytes | None:
        push = turn.push
        if push.state is not State.SENT or not turn.may_send():
            self._answer(turn, Outcome(Result.UNTRIED, "ended"))
            return None
        try:
            return envelope(push)
        except RenderingFailed as error:
            self._answer(turn, Outcome(Result.REFUSED, f"rendering: {error}"))
            return None

    def _signed(self, turns: list[Turn], body: bytes, endpoint: Endpoint) -> dict[str, str]:
        message_id = turns[0].push.id
        if len(turns) > 1:
            # The same pushes are the same message; each of them has its own id inside.
            ids = ",".join(turn.push.id for turn in turns)
            message_id = f"{message_id}-{hash64(ids):016x}"
        return signed(message_id, body, endpoint.keys, self._clock.wall_ms())

    def _answered(self, turns: list[Turn], permit: int, breaker: Breaker, reply: Reply | Unavailable) -> None:
        now_ns = self._clock.monotonic_ns()
        self._bulkhead.leave()
        status = reply.status if isinstance(reply, Reply) else 0
        kind = f"{status // 100}xx" if status else "no_answer"
        self.results[kind] = self.results.get(kind, 0) + 1
        is_failure = status >= 500 or not status
        self.merging.record(failed=is_failure or status == 429)
        if is_failure:
            breaker.fail(permit, now_ns)
        elif status == 429:
            # Backpressure: an open breaker would turn "slower" into "off".
            breaker.ignore(permit, now_ns)
        else:
            breaker.ok(permit, now_ns)
        wait_s = 0.0
        if isinstance(reply, Reply) and reply.retry_after_s:
            wait_s = min(reply.retry_after_s, self._options.longest_wait_s)
            self._resume_ns = max(self._resume_ns, now_ns + round(wait_s * 1e9))
        self._tell(turns, status, wait_s)
        self.pump()

    def _tell(self, turns: list[Turn], status: int, wait_s: float) -> None:
        if self.is_closed and not status:
            # We hung up: that says nothing about the endpoint.
            outcome = Outcome(Result.UNTRIED, "stopping")
        elif 200 <= status < 300:
            outcome = Outcome(Result.TAKEN)
        elif status >= 500 or not status or status in _AGAIN:
            outcome = Outcome(Result.FAILED, str(status) if status else "no_answer", wait_s)
        elif status == _GONE:
            self._gone()
            outcome = Outcome(Result.REFUSED, "gone")
        elif len(turns) > 1:
            self._waiting.extendleft(turn._replace(is_alone=True) for turn in reversed(turns))
            return
        else:
            outcome = Outcome(Result.REFUSED, str(status))
        for turn in turns:
            self._answer(turn, outcome)

    def _refuse_all(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            self._answer(turn, Outcome(Result.REFUSED, reason))

    def _new_breaker(self) -> Breaker:
        now_ns = self._clock.monotonic_ns()
        return Breaker("webhook", self._options.breaker, random=self._random, now_ns=now_ns)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._bulkhead.in_flight

    @property
    def is_open(self) -> bool:
        """Whether its breaker keeps POSTs away."""
        return self.breaker.state in (Circuit.OPEN, Circuit.FORCED_OPEN)


def envelope(push: Push) -> bytes:
    """One push as Standard Webhooks recommends a body: type, time and data.

    It is the same in every try, so that the same pushes are the same bytes.

    Raises:
        RenderingFailed: the template cannot be rendered with this payload.
    """
    user = push.user if push.is_numeric else _encode(push.user).decode()
    head = f'{{"type":"push","timestamp":"{rfc3339(push.accepted_ms)}","user_id":{user},"data":'
    return head.encode() + rendered(push) + b"}"
