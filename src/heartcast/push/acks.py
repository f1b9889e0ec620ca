"""What a client sends about pushes that it got: has them, cannot take them now, or never will.

::

    {"ack": ["<push id>", …]}
    {"ack_through": {"offset": 41, "epoch": "…"}}
    {"nak": [{"id": "<push id>", "retry_after_ms": 30000}, {"id": "…", "reject": true, "reason": "…"}]}
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_RETRY_AFTER_MS = 86_400_000


class Place(msgspec.Struct, frozen=True):
    """A place in the client's own inbox."""

    offset: Annotated[int, Meta(ge=0)]
    epoch: str


class Nak(msgspec.Struct, frozen=True):
    """A push that was not taken."""

    id: str
    retry_after_ms: Annotated[int, Meta(ge=0)] = 0
    """It comes again after so long, at most a day; 0: as if nothing had been said."""
    reject: bool = False
    """It never comes again, to no device of the user, and ends as a dead letter."""
    reason: str = ""


class Said(msgspec.Struct, frozen=True):
    """One message of a client."""

    ack: list[str] | UnsetType = UNSET
    ack_through: Place | UnsetType = UNSET
    nak: list[Nak] | UnsetType = UNSET


_decode = msgspec.json.Decoder(Said).decode


def read(data: bytes) -> Said | None:
    """None: the message says nothing about pushes."""
    try:
        said = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if said.ack is UNSET and said.ack_through is UNSET and said.nak is UNSET else said
