"""The whole loop at once: hearts, live counts, the hot list, pushes to the hearted.

Hearts come as in ``hearts``. A share of them is followed by a push to the target's
author, who listens on an inbox as in ``push``. Watchers follow the live counts of the
most popular targets; at the end each must have seen the final count. The hot list is
read once a second, as a page that shows it would.
"""

from __future__ import annotations

import msgspec

from heartcast.core.names import channel_part
from heartcast.loadtest.audience import Audience, Heard
from heartcast.loadtest.run import Run, Scene
from heartcast.loadtest.scenario import Mixed
from heartcast.loadtest.scenarios.hearts import HeartAccount, Op
from heartcast.loadtest.scenarios.push import Inboxes, Pushed
from heartcast.loadtest.sessions.centrifugo import CentrifugoSubscriber
from heartcast.loadtest.target import may_send

_WATCHED = 20
"""Targets whose live counts are followed."""


class _Live(msgspec.Struct):
    target_id: str = ""
    count: int = 0


_decode_live = msgspec.json.Decoder(_Live).decode


class Watcher(CentrifugoSubscriber):
    """A page that shows a live count: only the latest matters."""

    __slots__ = ("count",)

    def __init__(self, audience: Audience, serial: int, channel: str) -> None:
        super().__init__(audience, serial, channel)
        self.count = 0

    def take(self, heard: list[Heard], *, is_recovered: bool) -> None:
        if not heard:
            return
        try:
            self.count = _decode_live(heard[-1].data).count
        except ValueError as error:
            self.broken(f"a live count that is none: {error}")


class MixedScene(Scene):
    """Hearts, pushes and watchers in one."""

    def __init__(self, run: Run, options: Mixed) -> None:
        self._run = run
        self._options = options
        self._account = HeartAccount(
            run,
            targets=options.targets,
            users=options.users,
            zipf=options.zipf,
            undo_share=options.undo_share,
        )
        self._inboxes = Inboxes(run, options.authors, template="news_v2", payload_bytes=100)
        self._watchers: list[Watcher] = []
        self._next_look_s = 0.0

    async def prepare(self) -> None:
        run, options = self._run, self._options
        run.audience.cached = False
        run.audience.acknowledges = True
        await may_send(run.asker, run.target)
        await self._inboxes.log_in()
        self._inboxes.connect(self._inboxes.sockets)
        for number in range(options.watchers):
            target = self._account.names[number % min(_WATCHED, options.targets)]
            watcher = Watcher(run.audience, options.authors + number, f"hearts:{channel_part(target)}")
            self._watchers.append(watcher)
            run.audience.crowd.connect(watcher)
        await run.everyone_listens(options.authors + options.watchers)

    def send(self, intended_us: int) -> None:
        run = self._run
        op = self._account.draw()
        run.post(op.target, op, self._account.request(op), intended_us)
        if not op.is_undo and run.random.random() < self._options.push_share:
            self._inboxes.send(op.target % self._options.authors, intended_us)

    def tick(self, at_s: float) -> None:
        if at_s >= self._next_look_s:
            self._next_look_s = max(at_s, self._next_look_s + 1.0)
            run = self._run
            run.post(0, None, run.target.request("GET", "/api/v1/hot/hour"), run.now_us())
            run.pool.flush()

    def answered(self, tag: Op | Pushed | None, status: int, body: bytes) -> bool:
        if isinstance(tag, Pushed):
            return self._inboxes.answered(tag, status)
        if tag is not None:
            self._account.note(tag, status)
        return 200 <= status < 300

    async def settle(self) -> None:
        run, options = self._run, self._options
        if run.ended_by is None:
            await run.until(lambda: not self._behind(), options.ack_timeout_s)
        await self._inboxes.settle(options.ack_timeout_s, acknowledges=True)
        if run.ended_by is None:
            await self._account.settle()
            self._settle_watchers()

    def _expected(self, watcher: Watcher) -> int | None:
        number = watcher.serial - self._options.authors
        target = number % min(_WATCHED, self._options.targets)
        return None if target in self._account.doubtful else len(self._account.given[target])

    def _behind(self) -> list[Watcher]:
        return [w for w in self._watchers if self._expected(w) not in (None, w.count)]

    def _settle_watchers(self) -> None:
        run = self._run
        run.ledger.owed += len(self._watchers)
        behind = self._behind()
        run.ledger.delivered += len(self._watchers) - len(behind)
        at_s = run.audience.at_s(run.now_us())
        for watcher in behind:
            detail = f"{watcher.channel} shows {watcher.count}, not {self._expected(watcher)}"
            run.ledger.note("lost", -1, None, watcher.serial, at_s, detail)
