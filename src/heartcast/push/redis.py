"""One shard in Redis, as its owner sees it: journal and inbox write here.

All keys of a shard carry its tag, ``{hc:N}``; ``apply.lua`` says which there are. What was
accepted is an entry of the stream ``{hc:N}:push`` and stays one until the push has gone into
its user's inbox, waits for a time, or has ended: at no moment is it in two places or in none.

Every change is a *group*: one script call that checks our epoch, does everything or nothing,
and brings what other nodes have accepted meanwhile. One group of a shard is out at a time;
what comes while it is out makes the next. Everything enters in the order of the stream, what
we accepted ourselves too, so that a user's order is the same whichever nodes took the pushes.

An owner that lost its lease is answered ``HCFENCED``; whatever it then does leaves no trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib.resources import files
from itertools import chain
from typing import Any

import structlog

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.errors import StoreUnavailable
from heartcast.push.journal import FOREVER_MS, Note
from heartcast.push.model import Push
from heartcast.push.rows import Kept, encode, end_of, row_in, row_of
from heartcast.push.templates import Templates


def _script(name: str) -> Script:
    return Script(files(__package__).joinpath(f"{name}.lua").read_text("utf-8"))


APPLY, TAKE, ACCEPT, DUE = (_script(name) for name in ("apply", "take", "accept", "due"))
SCRIPTS = (APPLY, TAKE, ACCEPT, DUE)
PAGE = 1_000
"""Rows asked for at a time: about a millisecond of the server."""
NEW, ALL, NOTHING = ">", "0", ""
"""What a group reads: see ``apply.lua``."""

Answer = Callable[[StoreUnavailable | None], None]
Mover = Callable[[dict[str, int], list[bytes]], None]
"""Called when the group leaves: ``mover(tops, inbox)`` adds ids and rows to ``inbox`` in turn."""
_log = structlog.get_logger("heartcast")


def keys_of(shard: int, prefix: str) -> list[str]:
    """The shard's keys, in the order in which ``apply.lua`` takes them."""
    names = ("epoch", "push", "due", "rows", "inbox", "boxes", "notes", "until", "ended", "ends")
    return [f"{{{prefix}:{shard}}}:{name}" for name in names]


class Read:
    """A question that is answered after the changes of its group.

    Args:
        ask: ``ask(send, finished)`` sends what it needs and calls ``finished`` at its end with
            None or with what went wrong.
    """

    __slots__ = ("ask",)

    def __init__(self, ask: Callable[[Callable[[bytes, Callable[[Any], None]], None], Answer], None]) -> None:
        self.ask = ask


class Group:
    """What is written together."""

    __slots__ = (
        "accepted",
        "answers",
        "boxes",
        "changed",
        "ended",
        "forget_ms",
        "forgotten",
        "gone",
        "kept_notes",
        "leaving",
        "left",
        "moved",
        "movers",
        "notes",
        "reads",
        "reads_stream",
        "unboxed",
    )

    def __init__(self) -> None:
        self.accepted: list[Push] = []
        self.changed: dict[str, Push] = {}
        """Packed as they are when the group leaves."""
        self.movers: list[Mover] = []
        self.moved: list[Push] = []
        """Pushes that go into inboxes."""
        self.left: list[Push] = []
        """Pushes that no longer wait because they ended."""
        self.gone: list[Push] = []
        """Pushes that leave an inbox."""
        self.ended: list[Push] = []
        """Pushes whose end is recorded, if they have ended when the group leaves."""
        self.forgotten: list[str] = []
        """Ids of pushes whose records go."""
        self.leaving: list[str] = []
        """Ids of the pushes that this group takes out of the stream."""
        self.boxes: dict[str, None] = {}
        """Users whose mailbox changed."""
        self.unboxed: dict[str, None] = {}
        """Users whose mailbox was forgotten."""
        self.notes: dict[str, Note] = {}
        self.kept_notes: set[str] = set()
        """Keys of notes that are tried again when the group fails."""
        self.forget_ms = 0
        self.reads: list[Read] = []
        self.reads_stream = NOTHING
        self.answers: list[Answer] = []
        """Called in order with what became of the group."""

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in Group.__slots__)

    def inherit(self, failed: Group) -> None:
        """Take over what must be written some day from a group that was not."""
        self.changed = failed.changed | self.changed
        self.left[:0] = failed.left
        self.gone[:0] = failed.gone
        self.ended[:0] = failed.ended
        self.forgotten[:0] = failed.forgotten
        self.boxes = failed.boxes | self.boxes
        self.notes = {key: failed.notes[key] for key in failed.kept_notes} | self.notes
        self.kept_notes |= failed.kept_notes


BoxOf = Callable[[str, int], bytes]
"""``box_of(user, top)``: a mailbox as it is kept, where its top is at least this."""


class ShardStore:
    """One shard. ``push.takeover`` makes one, loaded.

    Args:
        epoch: Of our lease on the shard.
        max_ended: Records of ended pushes that are kept.
        prefix: In front of the shard's number in every key.
    """

    def __init__(
        self,
        pipe: RedisPipe,
        shard: int,
        epoch: int,
        *,
        templates: Templates,
        max_ended: int,
        prefix: str = "hc",
    ) -> None:
        self.shard = shard
        self.templates = templates
        self.next = Group()
        self.is_writing = False
        self.is_closed = False
        self.on_arrival: Callable[[Push], None] = self._keep
        """Given each push that another node accepted, in order."""
        self.on_fenced: Callable[[], None] = lambda: None
        """Told that the shard is somebody else's."""
        self.box_of: BoxOf = lambda user, top: b""
        self.entries: dict[str, bytes] = {}
        """Stream entry of each push that waits in the stream, by push id."""
        self.failures = 0
        """Groups that could not be written."""
        self.failing_since_s: float | None = None
        """The loop's time of the first group in a row that could not be written; None: the last one was."""
        self.groups = 0
        """Groups written."""
        self.arrivals: list[Push] = []
        """What arrived before anybody asked for it."""
        self._pipe = pipe
        self._epoch = str(epoch)
        self._max_ended = max_ended
        self._keys = keys_of(shard, prefix)
        self._stem = f"{{{prefix}:{shard}}}:"
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._is_lost = False
        self.must_reread = False
        """Whether it is not known what became of the last group, and of pushes in it."""
        self._wrote = asyncio.Event()

    def begin(self) -> None:
        """Let what waits go out at the end of this turn of the loop."""
        if not self._is_due and not self.is_writing:
            self._is_due = True
            self._loop.call_soon(self._begin)

    def poll(self) -> None:
        """Something may have been accepted elsewhere: read it."""
        if not self.is_closed:
            self.next.reads_stream = NEW
            self.begin()

    async def written(self) -> None:
        """Wait until what was begun is answered."""
        while self.is_writing or self._is_due:
            self._wrote.clear()
            await self._wrote.wait()

    async def close(self) -> None:
        """Write what waits and answer every call. Repeating it does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._begin()
        while self.is_writing or (self.next.answers and not self._is_lost):
            self._wrote.clear()
            self._begin()
            await self._wrote.wait()

    def abandon(self) -> None:
        """The shard is somebody else's: write nothing more, and say so to all who wait."""
        self.is_closed = self._is_lost = True
        group, self.next = self.next, Group()
        self._answer(group, StoreUnavailable("this shard has another owner now", code="shard_moving"))

    def ask(self, command: bytes, parse: Callable[[Any], None], done: Answer) -> None:
        """A question that one command answers, after all changes so far."""

        def ask(send: Callable[[bytes, Callable[[Any], None]], None], finished: Answer) -> None:
            def replied(reply: Any) -> None:
                if not isinstance(reply, StoreUnavailable):
                    parse(reply)
                finished(reply if isinstance(reply, StoreUnavailable) else None)

            send(command, replied)

        self.ask_all(ask, done)

    def ask_all(
        self,
        ask: Callable[[Callable[[bytes, Callable[[Any], None]], None], Answer], None],
        done: Answer,
    ) -> None:
        """A question that takes several commands; see ``Read``."""
        self.next.reads.append(Read(ask))
        self.next.answers.append(done)
        self.begin()

    def key(self, name: str) -> str:
        """The key of this name."""
        return self._stem + name

    # ── writing ──────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        self._is_due = False
        if self.is_writing or not self.next or self._is_lost:
            return
        group, self.next = self.next, Group()
        self.is_writing = True
        self._pipe.send(self._packed(group), partial(self._applied, group))

    def _packed(self, group: Group) -> bytes:
        """The group as a command: everything is as it is now."""
        tops: dict[str, int] = {}
        inbox: list[bytes | str] = []
        for mover in group.movers:
            mover(tops, inbox)  # type: ignore[arg-type]
        group.boxes |= dict.fromkeys(tops)
        rows, due, moved = self._rows(group)
        group.leaving = [push.id for push in (*group.moved, *group.left, *moved) if push.id in self.entries]
        ended = [push for push in group.ended if push.state.is_terminal]
        notes = [note for note in group.notes.values() if note.value is not None]
        lists: list[list[Any]] = [
            [row_of(push) for push in group.accepted if not push.due_ms],
            rows,
            due,
            inbox,
            [self.entries[push_id] for push_id in group.leaving],
            [push.id for push in (*group.moved, *group.left)],
            [push.id for push in (*group.gone, *group.left)],
            list(group.unboxed),
            [part for user in group.boxes for part in (user, self.box_of(user, tops.get(user, 0)))],
            [part for note in notes for part in (note.key, _note_row(note))],
            [part for note in notes if note.until_ms != FOREVER_MS for part in (note.until_ms, note.key)],
            [note.key for note in group.notes.values() if note.value is None],
            [part for push in ended for part in (push.id, end_of(push))],
            [push.id for push in ended],
            group.forgotten,
        ]
        reads = ALL if self.must_reread else NEW if group.accepted else group.reads_stream
        head = (self._epoch, reads, self._max_ended, group.forget_ms)
        counts = [len(parts) for parts in lists]
        keys = self._keys
        return pack("EVALSHA", APPLY.sha, len(keys), *keys, *head, *counts, *chain.from_iterable(lists))

    def _rows(self, group: Group) -> tuple[list[str | bytes], list[int | str], list[Push]]:
        """Rows and times of what waits outside of the stream, or was changed in it; and what leaves it."""
        rows: list[str | bytes] = []
        due: list[int | str] = []
        leaving: list[Push] = []
        accepted = [push for push in group.accepted if push.due_ms]
        for push in (*accepted, *group.changed.values()):
            if push.state.is_terminal:
                continue
            rows += (push.id, row_of(push))
            if push.due_ms or push.id not in self.entries:
                # Due at once where it has no time and lost its place in the stream.
                due += (push.due_ms or 1, push.id)
                leaving.append(push)
        return rows, due, leaving

    def _applied(self, group: Group, reply: Any) -> None:
        if isinstance(reply, StoreUnavailable):
            self._failed(group, reply)
            return
        self.must_reread = False
        self.failing_since_s = None
        self.groups += 1
        for push_id in group.leaving:
            self.entries.pop(push_id, None)
        self.arrive(reply, own={push.id for push in group.accepted})
        self._next_read(group, 0, None)

    def arrive(self, entries: Iterable[tuple[bytes, list[bytes]]], own: Collection[str] = ()) -> None:
        """Entries of the stream that were read, in order; their own ones are known to those who wait."""
        for entry, (_, row) in entries:
            found = row_in(row)
            is_known = found.id in self.entries
            self.entries[found.id] = entry
            if not is_known and found.id not in own:
                self._call(partial(self.on_arrival, found.push(self.templates)))

    def _next_read(self, group: Group, index: int, error: StoreUnavailable | None) -> None:
        if error is not None or index == len(group.reads):
            self._end(group, error)
            return
        group.reads[index].ask(self._pipe.send, partial(self._next_read, group, index + 1))

    def _failed(self, group: Group, error: StoreUnavailable) -> None:
        self.failures += 1
        if "HCFENCED" in error.detail:
            self.is_writing = False
            self._answer(group, StoreUnavailable("this shard has another owner now", code="shard_moving"))
            self.abandon()
            self.on_fenced()
            self._wrote.set()
            return
        if self.failing_since_s is None:
            self.failing_since_s = self._loop.time()
        # It may have been run all the same: then entries were read whose answer never came.
        self.must_reread = True
        if not self._is_lost:
            self.next.inherit(group)
        self._end(group, error)

    def _end(self, group: Group, error: StoreUnavailable | None) -> None:
        self.is_writing = False
        self._answer(group, error)
        # What was not given up waits for the next call: a server in trouble must not be hammered.
        if self.next and (error is None or self.next.answers):
            self.begin()
        self._wrote.set()

    def _answer(self, group: Group, error: StoreUnavailable | None) -> None:
        for answer in group.answers:
            self._call(partial(answer, error))

    def _call(self, call: Callable[[], None]) -> None:
        # One caller that raises must not take the answers of the others.
        try:
            call()
        except Exception:
            _log.exception("a push store's answer was not taken", shard=self.shard)

    def _keep(self, push: Push) -> None:
        self.arrivals.append(push)


def _note_row(note: Note) -> bytes:
    assert note.value is not None
    return encode(Kept(note.until_ms, note.value))
