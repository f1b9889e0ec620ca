"""The commons in Redis: one hash, and the order in which its notes were written.

All keys have one tag, ``{hc:all}``; ``write.lua`` says which there are. A node remembers the
number of the last change that it saw and asks for later ones. Numbers follow the server's
clock, so that a server that came back with less than it had gives no number twice. A note that
was taken away leaves its number for a day, so that whoever asks is told; a node that asks
later than that, or over a new connection, reads everything again and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.errors import HeartcastError, StoreUnavailable
from heartcast.push.commons import Done
from heartcast.push.commons.known import Known, changed_meanwhile
from heartcast.push.journal import FOREVER_MS, Note
from heartcast.push.rows import Kept, encode, note_in


def _script(name: str) -> Script:
    return Script(files(__package__).joinpath(f"{name}.lua").read_text("utf-8"))


WRITE, READ = _script("write"), _script("read")
SCRIPTS = (WRITE, READ)
PAGE = 200
"""Notes read at a time; a template may have some 50 KB."""


class RedisCommons(Known):
    """Implements ``Commons``.

    Args:
        pipe: Made with ``SCRIPTS`` and with replies in bytes. Whoever made it closes it.
        prefix: In front of the tag in every key.
    """

    def __init__(self, pipe: RedisPipe, *, prefix: str = "hc") -> None:
        super().__init__()
        self._pipe = pipe
        names = ("number", "records", "order", "until", "purged")
        self._keys = [f"{{{prefix}:all}}:{name}" for name in names]
        self._seen = 0
        self._is_whole = True
        """Whether everything is read, and compared with what is known."""
        self._connections = 0
        """The pipe's, when it was read last."""
        self._unread: set[str] = set()
        """Keys that were known and have not come up since everything is read again."""
        self._is_reading = False
        self._asked: list[Done] = []

    # ── writing ──────────────────────────────────────────────────────────────

    def write(self, notes: Sequence[Note], done: Done) -> None:
        parts: list[str | int | bytes] = []
        for note in notes:
            until = "" if note.until_ms == FOREVER_MS else note.until_ms
            row = b"" if note.value is None else encode(Kept(note.until_ms, note.value))
            parts += (note.key, self.number(note.key), row, until)
        command = pack("EVALSHA", WRITE.sha, len(self._keys), *self._keys, *parts)
        self._pipe.send(command, partial(self._written, notes, done))

    def _written(self, notes: Sequence[Note], done: Done, reply: Any) -> None:
        if isinstance(reply, StoreUnavailable):
            done(reply)
            return
        first, refused = reply
        if refused:
            self._take_rows(refused)
            done(changed_meanwhile())
            return
        for number, note in enumerate(notes, first):
            self._unread.discard(note.key)
            self.take(number, note)
        done(None)

    # ── reading ──────────────────────────────────────────────────────────────

    def sync(self, done: Done) -> None:
        self._asked.append(done)
        if not self._is_reading:
            self._begin()

    def _begin(self) -> None:
        # Who asks from now on asks for what is written from now on: the next round is theirs.
        asked, self._asked = self._asked, []
        self._is_reading = True
        if self._is_whole:
            self._unread, self._seen = set(self.entries), 0
        self._ask(asked)

    def _ask(self, asked: list[Done]) -> None:
        command = pack(
            "EVALSHA", READ.sha, len(self._keys), *self._keys, self._seen, PAGE, int(self._is_whole)
        )
        self._pipe.send(command, partial(self._read, asked))

    def _read(self, asked: list[Done], reply: Any) -> None:
        if isinstance(reply, StoreUnavailable):
            self._end(asked, reply)
            return
        must_reread, rows = reply
        is_new = self._pipe.connections != self._connections
        self._connections = self._pipe.connections
        if must_reread or (is_new and not self._is_whole):
            self._is_whole = True
            self._unread, self._seen = set(self.entries), 0
            self._ask(asked)
            return
        self._take_rows(rows)
        if rows:
            self._seen = max(self._seen, int(rows[-2]))
        if len(rows) == 3 * PAGE:
            self._ask(asked)
            return
        self._is_whole = False
        for key in self._unread:
            self.take(0, Note(key, None))
        self._unread = set()
        self._end(asked, None)

    def _take_rows(self, rows: list[bytes]) -> None:
        for key, number, row in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            note = Note(key.decode(), None)
            if row:
                kept = note_in(row)
                note = Note(note.key, kept.value, kept.until_ms)
            self._unread.discard(note.key)
            self.take(int(number), note)

    def _end(self, asked: list[Done], error: HeartcastError | None) -> None:
        self._is_reading = False
        for done in asked:
            done(error)
        if self._asked and not self._is_reading:
            self._begin()
