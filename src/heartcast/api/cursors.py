"""Cursors of lists: a place in one list, signed, so that it cannot be made up or carried to another."""

from __future__ import annotations

from heartcast.api.auth.signing import Signer
from heartcast.core.errors import InvalidInput


class Cursors:
    """Writes and reads ``next_cursor``.

    Args:
        signer: Its purpose should be cursors.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def write(self, place: str, *listed: str | None) -> str:
        """The cursor of a place in a list.

        Args:
            place: The id after which the next page begins.
            listed: What was asked for; a cursor is good for exactly that.
        """
        return f"{place}.{self._signer.sign(_whole(place, listed))}"

    def read(self, cursor: str | None, *listed: str | None) -> str:
        """The place; "" when no cursor was given.

        Raises:
            InvalidInput: code ``invalid_cursor``; it was not made here, or for another list.
        """
        if not cursor:
            return ""
        place, _, signature = cursor.rpartition(".")
        if not self._signer.verify(_whole(place, listed), signature):
            raise InvalidInput(
                "must be a next_cursor of an earlier answer to the same question; begin again without it",
                pointer="/cursor",
                code="invalid_cursor",
            )
        return place


def _whole(place: str, listed: tuple[str | None, ...]) -> str:
    # Ids have no control characters, so no two questions look the same.
    return "\n".join((place, *("\0" if part is None else part for part in listed)))
