"""Visitors who are nobody: a signed name for their device.

    visitor-01JD3…  .  1764000000  .  signature
    who                seconds        of both

A name costs nothing to get, so it proves one thing only: whoever shows it is the same
browser as before. It travels in a cookie that scripts cannot read and other sites cannot
send, or, where pages of another origin hold the button and browsers keep cookies from it,
as ``Authorization: Visitor <name>``.
"""

from __future__ import annotations

from typing import NamedTuple

from heartcast.api.auth.signing import Signer
from heartcast.core.clock import Clock
from heartcast.core.ids import IdSource, is_id

COOKIE = "heartcast_visitor"
_START = COOKIE.encode() + b"="
PREFIX = "visitor-"


class Visitor(NamedTuple):
    """A visitor's name."""

    user: str
    """What hearts are given as."""
    proof: str
    """The signed name."""
    is_fresh: bool
    """Whether it is signed with the newest key and young; else it should be signed anew."""


class Devices:
    """Gives names to visitors and knows them again.

    Args:
        max_age_s: Seconds after which a name is no longer known, > 0.
    """

    def __init__(self, signer: Signer, clock: Clock, ids: IdSource, max_age_s: float) -> None:
        self._signer = signer
        self._wall_ms = clock.wall_ms
        self._next_id = ids.next
        self.max_age_s = int(max_age_s)

    def issue(self, user: str | None = None) -> Visitor:
        """A new name, or an old one signed anew."""
        user = user or PREFIX + self._next_id()
        said = f"{user}.{self._wall_ms() // 1000}"
        return Visitor(user, f"{said}.{self._signer.sign(said)}", True)

    def read(self, proof: str) -> Visitor | None:
        """The visitor who shows this; None when it is forged, malformed, too old or not of now."""
        said, _, signature = proof.rpartition(".")
        if not self._signer.verify(said, signature):
            return None
        user, _, issued = said.rpartition(".")
        age_s = self._wall_ms() // 1000 - int(issued)
        # A minute: the clocks of two nodes differ.
        if not is_id(user.removeprefix(PREFIX)) or not -60 <= age_s < self.max_age_s:
            return None
        is_fresh = age_s < self.max_age_s // 2 and self._signer.sign(said) == signature
        return Visitor(user, proof, is_fresh)

    def of(self, headers: list[tuple[bytes, bytes]]) -> Visitor | None:
        """The visitor whose cookie is among these headers; None when there is none that is good."""
        for name, value in headers:
            if name == b"cookie" and _START in value:
                for part in value.split(b";"):
                    if part.strip().startswith(_START):
                        return self.read(part.strip()[len(_START) :].decode("latin-1"))
        return None
