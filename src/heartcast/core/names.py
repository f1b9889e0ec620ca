"""What may be an id, and how ids become parts of channel names.

An id (of a user, a target, an item) is 1 to 200 bytes of UTF-8 without control
characters. In channel names every byte outside ``[A-Za-z0-9._:-]`` is
percent-encoded, so that any id makes a channel name that every client accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from heartcast.core.errors import InvalidInput

MAX_ID_BYTES = 200


def check_id(text: str, pointer: str = "") -> str:
    """Return ``text`` if it may be an id.

    Args:
        pointer: JSON pointer of the field, for the error.

    Raises:
        InvalidInput: it is empty, longer than 200 bytes of UTF-8, or has control characters.
    """
    # Printable ASCII is nearly every id there is, and these three checks run in C.
    if 0 < len(text) <= MAX_ID_BYTES and text.isascii() and text.isprintable():
        return text
    return _check_unusual(text, pointer)


def check_ids(texts: Sequence[str], pointer: str = "") -> None:
    """``check_id`` of every one of these; the error points at the first that may not be an id."""
    # Looked at as one text first: a page asks for the counts of a hundred targets at once.
    if texts and min(map(len, texts)) > 0 and max(map(len, texts)) <= MAX_ID_BYTES:
        joined = "".join(texts)
        if joined.isascii() and joined.isprintable():
            return
    for at, text in enumerate(texts):
        check_id(text, f"{pointer}/{at}")


def _check_unusual(text: str, pointer: str) -> str:
    if not text:
        raise InvalidInput("must not be empty", pointer=pointer, code="invalid_id")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("must be valid Unicode", pointer=pointer, code="invalid_id") from error
    if size > MAX_ID_BYTES:
        raise InvalidInput(
            f"must be at most {MAX_ID_BYTES} bytes, got {size}", pointer=pointer, code="invalid_id"
        )
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
        raise InvalidInput("must not contain control characters", pointer=pointer, code="invalid_id")
    return text


def user_text(user_id: int | str, pointer: str = "/user_id") -> str:
    """A user's canonical text: 12345 and "12345" are one user.

    Raises:
        InvalidInput: the text may not be an id, or the number is negative or beyond 64 bits.
    """
    if isinstance(user_id, str):
        return check_id(user_id, pointer)
    if not 0 <= user_id < 1 << 63:
        raise InvalidInput("must be between 0 and 2^63 - 1", pointer=pointer, code="invalid_id")
    return str(user_id)


def channel_part(name: str) -> str:
    """An id as a part of a channel name."""
    # quote() always leaves "~" alone, which is outside the alphabet of channel names.
    return quote(name, safe=".:").replace("~", "%7E")


def id_of_part(part: str) -> str:
    """The id that ``channel_part`` encoded."""
    return unquote(part)
