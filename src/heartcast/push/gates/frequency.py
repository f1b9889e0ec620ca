"""How many pushes a user wants: so many in any hour, so many in any day.

Users set this for themselves, below whatever cap the operator has set for all. The windows
slide and are exact: what is kept of a user is the times of the last pushes that passed, as
many as the wish counts. They are a note of the user, so that a restart gives nobody more
than was wished for. Critical pushes pass and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from heartcast.push.gates import Gate, Verdict
from heartcast.push.gates.preference import WishesOf
from heartcast.push.journal import Note
from heartcast.push.model import Priority, Push, State
from heartcast.push.preferences import Frequency

KIND = "f:"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_SUPPRESSED = Verdict(State.SUPPRESSED, "frequency")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[int]).decode


class Frequencies:
    """The last pushes of each user who wishes for few.

    Args:
        note: Given what must be remembered.
    """

    def __init__(self, wishes_of: WishesOf, note: Callable[[Note], None]) -> None:
        self._wishes_of = wishes_of
        self._note = note
        self._passed_ms: dict[str, list[int]] = {}
        """Wall times by user, oldest first."""

    def gate(self) -> Gate:
        return Gate("frequency", self._ask, self._passed, needs_wishes=True)

    def restore(self, notes: Iterable[Note]) -> None:
        """Count again what an earlier process counted."""
        for note in notes:
            self._passed_ms[note.key.removeprefix(KIND)] = _decode(note.value or b"[]")

    def forget_user(self, user: str) -> list[Note]:
        """Forget a user; returns what the journal must forget."""
        self._passed_ms.pop(user, None)
        return [Note(KIND + user, None)]

    def forget(self, now_ms: int) -> None:
        """Drop users whose last push is more than a day ago."""
        old = [user for user, times in self._passed_ms.items() if times[-1] <= now_ms - DAY_MS]
        for user in old:
            del self._passed_ms[user]

    def _wish(self, push: Push) -> Frequency | None:
        if push.asked.priority is Priority.CRITICAL:
            return None
        wishes = self._wishes_of(push.user)
        return wishes.document.frequency if wishes else None

    def _ask(self, push: Push, now_ms: int) -> Verdict | None:
        if (wish := self._wish(push)) is None:
            return None
        times = self._passed_ms.get(push.user, [])
        until_ms = max(
            free_ms(times, wish.per_hour, HOUR_MS, now_ms), free_ms(times, wish.per_day, DAY_MS, now_ms)
        )
        if until_ms <= now_ms:
            return None
        return Verdict(State.DEFERRED, "frequency", until_ms) if wish.mode == "defer" else _SUPPRESSED

    def _passed(self, push: Push, now_ms: int) -> None:
        wish = self._wish(push)
        if wish is None:
            return
        times = self._passed_ms.setdefault(push.user, [])
        times.append(now_ms)
        del times[: -max(wish.per_hour or 0, wish.per_day or 0)]
        self._note(Note(KIND + push.user, _encode(times), now_ms + DAY_MS))


def free_ms(times_ms: list[int], most: int | None, window_ms: int, now_ms: int) -> int:
    """Wall time from which one more fits into the window.

    Args:
        times_ms: When the last ones were, oldest first.
        most: How many may be in a window, > 0; None: any number.
    """
    if most is None or len(times_ms) < most:
        return now_ms
    return max(now_ms, times_ms[-most] + window_ms)
