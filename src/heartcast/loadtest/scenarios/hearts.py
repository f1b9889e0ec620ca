"""Hearts given and taken back. At the end every target's count must be exact.

The tester keeps its own account of who hearts what, of answers only: a heart is there
when the server said so. Requests about one target share a connection, so that they take
effect in the order in which they were sent. A target with an unanswered request is left
out: nobody can know its count.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from heartcast.loadtest.arrivals import Zipf
from heartcast.loadtest.run import Run, Scene
from heartcast.loadtest.scenario import Hearts
from heartcast.loadtest.target import may_send

_encode = msgspec.json.Encoder().encode
_MOST_COUNTS = 1_000


class Op(NamedTuple):
    """One heart given or taken back."""

    target: int
    user: int
    is_undo: bool


class _Count(msgspec.Struct):
    target_id: str
    count: int


class _Counts(msgspec.Struct):
    counts: list[_Count]


class _Result(msgspec.Struct):
    status: int


class _Results(msgspec.Struct):
    results: list[_Result]


_decode_counts = msgspec.json.Decoder(_Counts).decode
_decode_results = msgspec.json.Decoder(_Results).decode


class HeartAccount:
    """Who hearts what, as far as the server told us. Also a part of other scenes."""

    def __init__(self, run: Run, *, targets: int, users: int, zipf: float, undo_share: float) -> None:
        self.run = run
        self.names = [f"bench-{run.name}-{number}" for number in range(targets)]
        self._users = users
        self._undo_share = undo_share
        self._zipf = Zipf(targets, zipf, run.random)
        self.given: list[set[int]] = [set() for _ in range(targets)]
        """Users who heart each target."""
        self.doubtful: set[int] = set()
        """Targets with requests whose fate is not known."""

    def draw(self) -> Op:
        """Who does what next."""
        random = self.run.random
        target = self._zipf.draw()
        given = self.given[target]
        if given and random.random() < self._undo_share:
            return Op(target, next(iter(given)), True)
        return Op(target, random.randrange(self._users), False)

    def fields(self, op: Op) -> bytes:
        return b'"target_id":"%s","user_id":%d' % (self.names[op.target].encode(), op.user)

    def request(self, op: Op) -> bytes:
        """One heart as a request of its own."""
        if op.is_undo:
            path = f"/api/v1/hearts?target_id={self.names[op.target]}&user_id={op.user}"
            return self.run.target.request("DELETE", path)
        return self.run.target.request("POST", "/api/v1/hearts", b"{%s}" % self.fields(op))

    def note(self, op: Op, status: int) -> None:
        """The server's answer to one heart."""
        if status in (200, 201):
            if op.is_undo:
                self.given[op.target].discard(op.user)
            else:
                self.given[op.target].add(op.user)
        elif status == 0:
            self.doubtful.add(op.target)

    async def settle(self) -> None:
        """Compare every count."""
        run = self.run
        run.phase(f"comparing {len(self.names):,} counts")
        for start in range(0, len(self.names), _MOST_COUNTS):
            numbers = range(start, min(start + _MOST_COUNTS, len(self.names)))
            body = _encode({"target_ids": [self.names[number] for number in numbers]})
            status, answer = await run.asker.ask("POST", "/api/v1/hearts/counts", body)
            if status != 200:
                run.notes.append(f"The counts could not be read: status {status}.")
                return
            found = {count.target_id: count.count for count in _decode_counts(answer).counts}
            for number in numbers:
                self._compare(number, found.get(self.names[number], 0))
        if self.doubtful:
            run.notes.append(f"{len(self.doubtful):,} targets with unanswered requests were not compared.")

    def _compare(self, target: int, found: int) -> None:
        ledger, expected = self.run.ledger, len(self.given[target])
        if target in self.doubtful:
            return
        ledger.owed += expected
        ledger.delivered += min(found, expected)
        at_s = self.run.audience.at_s(self.run.now_us())
        kind = "lost" if found < expected else "duplicate"
        for _ in range(abs(found - expected)):
            ledger.note(kind, -1, None, 0, at_s, f"{self.names[target]} has {found}, not {expected}")


class HeartsScene(Scene):
    """Hearts one by one or in batches."""

    def __init__(self, run: Run, options: Hearts) -> None:
        self._run = run
        self._options = options
        self._account = HeartAccount(
            run,
            targets=options.targets,
            users=options.users,
            zipf=options.zipf,
            undo_share=options.undo_share,
        )
        self._batches: list[list[Op]] = [[] for _ in range(options.load.connections)]

    async def prepare(self) -> None:
        await may_send(self._run.asker, self._run.target)

    def send(self, intended_us: int) -> None:
        op = self._account.draw()
        if self._options.batch > 1:
            self._collect(op, intended_us)
            return
        self._run.post(op.target, [op], self._account.request(op), intended_us)

    def _collect(self, op: Op, intended_us: int) -> None:
        line = op.target % len(self._batches)
        batch = self._batches[line]
        batch.append(op)
        if len(batch) >= self._options.batch:
            self._batches[line] = []
            items = b",".join(
                b'{"op":"%s",%s}' % (b"remove" if op.is_undo else b"add", self._account.fields(op))
                for op in batch
            )
            request = self._run.target.request("POST", "/api/v1/hearts/batch", b'{"items":[%s]}' % items)
            # The whole batch is as late as its last heart; the earlier ones waited for it by choice.
            self._run.post(line, batch, request, intended_us)

    def answered(self, tag: list[Op], status: int, body: bytes) -> bool:
        if self._options.batch == 1 or status != 200:
            statuses = [status] * len(tag)
        else:
            statuses = [result.status for result in _decode_results(body).results]
        for op, each in zip(tag, statuses, strict=True):
            self._account.note(op, each)
        return all(200 <= each < 300 for each in statuses)

    async def settle(self) -> None:
        if self._run.ended_by is None:
            await self._account.settle()
