"""Broadcasts on many nodes: one is made, paused, resumed and cancelled in the commons; its figures are
the sums of what all shards' owners say of their parts.

The owner of a broadcast's home shard takes it out of the commons when all of it has been over
for as long as records are kept, or sooner when records are many. Its parts go then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from heartcast.api.problems import problem
from heartcast.api.push_broadcasts import BroadcastFigures, BroadcastList, BroadcastState, must_push
from heartcast.api.push_dead_letters import limit_of
from heartcast.api.route import Answer, Call, Identity
from heartcast.app.gathering import Gathering, Handler, Key, copy_of, failed_of
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Conflict, HeartcastError
from heartcast.push.broadcast import WHAT, Status, What
from heartcast.push.broadcast_parts import Directory, home_of
from heartcast.push.commons import Commons
from heartcast.push.journal import Note
from heartcast.push.options import PushOptions

_PATH = "/api/v1/broadcasts"
_ONE: Key = ("GET", f"{_PATH}/{{id}}")
_LIST: Key = ("GET", _PATH)
_STEPS = ("pause", "resume", "cancel")
_FULL_SHARE = 0.75
"""How full the commons may be of broadcasts before those that are over go at once."""

_encode = msgspec.json.Encoder().encode
_state_in = msgspec.json.Decoder(BroadcastState).decode
_list_in = msgspec.json.Decoder(BroadcastList).decode
_FIGURES = BroadcastFigures.__struct_fields__
_OVER = frozenset((Status.DONE.value, Status.CANCELLED.value, Status.FAILED.value))


class GatheredBroadcasts:
    """Handlers of all routes of broadcasts.

    Args:
        own: This node's handlers over the directory, by method and path.
        is_ours: Whether this node owns a shard.
    """

    def __init__(
        self, gathering: Gathering, directory: Directory, commons: Commons, own: dict[Key, Handler],
        *, options: PushOptions, is_ours: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self._gathering = gathering
        self._directory = directory
        self._commons = commons
        self._own = own
        self._limit = options.max_broadcasts
        self._keep_ms = round(options.keep_ended_s * 1000)
        self._is_ours = is_ours

    def handlers(self) -> dict[Key, Handler]:
        """By method and path."""
        steps: list[Key] = [("POST", f"{_PATH}/{{id}}/{step}") for step in _STEPS]
        return {
            ("POST", _PATH): self._own["POST", _PATH],
            _LIST: self.page,
            _ONE: self.get,
            **{key: partial(self.step, key) for key in steps},
        }

    def page(self, call: Call) -> None:
        must_push(call)
        values = call.query_values()
        limit, cursor = limit_of(values.get("limit", ["50"])[0]), values.get("cursor", [""])[0]
        found = [one.what for one in self._directory.page(cursor, limit + 1)]
        more = found[limit - 1].id if len(found) > limit else None

        def joined(answers: list[Answer]) -> Answer:
            parts: dict[str, list[BroadcastState]] = {}
            for part in (part for answer in answers for part in _list_in(answer.body).items):
                parts.setdefault(part.id, []).append(part)
            states = [self._whole(what, parts.get(what.id, ())) for what in found[:limit]]
            return Answer(200, _encode(BroadcastList(states, more)))

        self._gathering.ask_all(call, _LIST, joined)

    def get(self, call: Call) -> None:
        must_push(call)
        what = self._directory.find(call.params["id"]).what
        self._gather(call, what, lambda state: call.respond(Answer(200, _encode(state))))

    def step(self, key: Key, call: Call) -> None:
        """Pause, resume or cancel: a change of the commons, which every part follows."""
        must_push(call)
        what = self._directory.find(call.params["id"]).what
        self._gather(call, what, partial(self._step, key, call))

    def _step(self, key: Key, call: Call, state: BroadcastState) -> None:
        is_cancel = key[1].endswith("cancel")
        if state.status in _OVER and not (
            is_cancel and (state.figures.waiting or state.status == Status.CANCELLED.value)
        ):
            call.respond(problem(Conflict(f"this broadcast is over: {state.status}", code="broadcast_ended")))
            return

        def stepped(answer: Answer) -> None:
            if answer.status != 200:
                call.respond(answer)
                return
            # All parts that are at work have followed by now: with the figures as they are then.
            what = self._directory.find(state.id).what
            self._gather(call, what, lambda now: call.respond(answer._replace(body=_encode(now))))

        own = copy_of(call, body=call.body)
        own.respond = stepped
        try:
            answer = self._own[key](own)
        except HeartcastError as error:
            answer = problem(error)
        if answer is not None:
            stepped(answer)

    # ── as a whole ───────────────────────────────────────────────────────────

    def _gather(self, call: Call, what: What, done: Callable[[BroadcastState], None]) -> None:
        shards = list(range(self._gathering.shards))

        def asked(answers: dict[int, Answer]) -> None:
            # A part that has not begun is not found; it has accepted nothing.
            there = [answer for answer in answers.values() if answer.status != 404]
            if failed := failed_of(there):
                call.respond(failed)
            else:
                done(self._whole(what, [_state_in(answer.body) for answer in there]))

        self._gathering.everywhere(shards, lambda _: copy_of(call), _ONE, asked)

    def _whole(self, what: What, parts: Sequence[BroadcastState]) -> BroadcastState:
        status = _status(what, parts, self._gathering.shards)
        name, _, version = what.template.rpartition("@")
        changes = [rfc3339(what.changed_ms), *(part.changed_at for part in parts if status in _OVER)]
        figures = {field: sum(getattr(part.figures, field) for part in parts) for field in _FIGURES}
        return BroadcastState(
            id=what.id,
            topic=what.topic or None,
            template=name,
            version=int(version),
            status=status,
            reason=next((part.reason for part in parts if part.reason), None),
            rate=what.per_s or None,
            due_at=rfc3339(what.due_ms) if what.due_ms else None,
            timestamp=rfc3339(what.made_ms),
            changed_at=max(changes),
            left=sum(part.left for part in parts),
            figures=BroadcastFigures(**figures),
        )

    # ── forgetting ───────────────────────────────────────────────────────────

    def sweep(self, now_ms: int) -> None:
        """Take out what is over for long enough, of those whose home shard is here."""
        whats = sorted(self._directory.whats(), key=lambda what: what.id)
        is_full = len(whats) > self._limit * _FULL_SHARE
        before_ms = now_ms - (0 if is_full else self._keep_ms)
        for what in whats:
            if what.made_ms <= before_ms and self._is_ours(home_of(what.id, self._gathering.shards)):
                self._gather(_sweeping(what.id), what, partial(self._judge, rfc3339(before_ms)))

    def _judge(self, before: str, state: BroadcastState) -> None:
        if state.status in _OVER and not state.figures.waiting and state.changed_at <= before:
            self._commons.write([Note(WHAT + state.id, None)], _ignore)


def _status(what: What, parts: Sequence[BroadcastState], shards: int) -> str:
    found = {part.status for part in parts}
    status = what.status
    if status is Status.CANCELLED:
        pass
    elif len(parts) == shards and found <= _OVER:
        status = Status.FAILED if Status.FAILED.value in found else Status.DONE
    elif status is not Status.PAUSED:
        status = Status.SCHEDULED if found == {Status.SCHEDULED.value} else Status.RUNNING
    return str(status.value)


def _sweeping(broadcast_id: str) -> Call:
    return Call(
        params={"id": broadcast_id}, identity=Identity(is_server=True), respond=_ignore
    )  # fmt: skip


def _ignore(answer: object) -> None:
    """The next round looks again."""
