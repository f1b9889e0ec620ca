"""Dead letters: pushes that could not be rendered or that made their worker fail.

Nothing more happens to a dead push by itself. Its letter keeps all that is needed to look
at it and to send it again, which makes a new push: the old one has ended, and stays so.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from heartcast.core.errors import NotFound
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.model import Extra, Push

KIND = "x:"


class Letter(msgspec.Struct, gc=False, omit_defaults=True):
    """What is kept of a dead push."""

    id: str
    user: str
    is_numeric: bool
    template: str
    """``name@version``."""
    payload: msgspec.Raw
    accepted_ms: int
    died_ms: int
    reason: str
    """``rendering``, ``worker_crashed`` …"""
    detail: str
    """What the error said, for people."""
    extra: Extra | None = None

    @property
    def user_id(self) -> int | str:
        return int(self.user) if self.is_numeric else self.user


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Letter).decode


class DeadLetters:
    """All dead letters, oldest first.

    Args:
        limit: How many are kept. What dies when there are so many ends as failed: letters
            that wait for somebody are not thrown away for newer ones.
    """

    def __init__(self, journal: Journal, limit: int) -> None:
        self._journal = journal
        self._limit = limit
        self._letters: dict[str, Letter] = {}
        self.dropped = 0
        """Pushes that died when there was no room for their letters."""

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, push: Push, reason: str, detail: str, now_ms: int) -> bool:
        """Keep the letter of a push that is about to end; call it before its payload is dropped.

        Returns:
            False when there is no room.
        """
        if len(self._letters) >= self._limit:
            self.dropped += 1
            return False
        letter = Letter(
            push.id, push.user, push.is_numeric, push.template.key, msgspec.Raw(push.payload),
            push.accepted_ms, now_ms, reason, detail[:500], push.extra,
        )  # fmt: skip
        self._letters[push.id] = letter
        self._journal.write(Change(notes=[Note(KIND + push.id, _encode(letter))]), None)
        return True

    def find(self, push_id: str) -> Letter:
        """The letter of this push.

        Raises:
            NotFound: there is none (code ``no_dead_letter``).
        """
        letter = self._letters.get(push_id)
        if letter is None:
            raise NotFound("this push is no dead letter, or was sent again already", code="no_dead_letter")
        return letter

    def page(self, after: str, limit: int, user: str | None = None) -> list[Letter]:
        """Letters with ids greater than ``after``, oldest first, at most ``limit``."""
        found = sorted(push_id for push_id in self._letters if push_id > after)
        letters = (self._letters[push_id] for push_id in found)
        return [letter for letter in letters if user is None or letter.user == user][:limit]

    def take(self, push_id: str) -> Note:
        """Remove a letter; returns the note that must be written with what became of it."""
        del self._letters[push_id]
        return Note(KIND + push_id, None)

    def put_back(self, letter: Letter) -> None:
        """What should have become of it could not be written."""
        self._letters[letter.id] = letter

    def restore(self, notes: Iterable[Note]) -> None:
        for note in notes:
            letter = _decode(note.value or b"")
            # The decoder's buffer must not live as long as the letter.
            letter.payload = msgspec.Raw(bytes(letter.payload))
            self._letters[letter.id] = letter
