"""Strategies by name, each with its versions: what is served now, and what was before.

A new version counts from the request that put it on, and the last ones stay, so that going
back is one call. ``balanced`` and ``article`` are there from the start as version 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from heartcast.core.errors import InvalidInput, NotFound, Overloaded
from heartcast.ranking.store import Document
from heartcast.ranking.strategy import ARTICLE, BALANCED, Strategy

SHELF = "strategy"
MAX_NAMES = 100
MAX_VERSIONS = 50
"""Versions kept of one strategy; of more, the oldest that is not active goes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a strategy."""

    version: int
    """1, 2, 3 …; 0 is one that came with the program."""
    created_ms: int
    """Wall time in milliseconds; 0 for version 0."""
    strategy: Strategy


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy as it is kept: its versions, and which of them counts."""

    name: str
    active: int
    versions: tuple[Version, ...]
    """Oldest first."""

    @property
    def strategy(self) -> Strategy:
        """The one that counts."""
        return self.find(self.active).strategy

    def find(self, version: int) -> Version:
        """A version by its number.

        Raises:
            NotFound: there is no such version any more (code ``unknown_strategy``).
        """
        for one in self.versions:
            if one.version == version:
                return one
        kept = ", ".join(str(one.version) for one in self.versions)
        raise NotFound(f"{self.name} has no version {version}; there are: {kept}", code="unknown_strategy")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Named).decode


def check_name(name: str) -> str:
    """Return ``name`` if a strategy may be called so.

    Raises:
        InvalidInput: it may not (code ``invalid_id``).
    """
    if not _NAME(name):
        raise InvalidInput("a name is 1 to 64 of A-Z a-z 0-9 . _ -", pointer="/name", code="invalid_id")
    return name


class Strategies:
    """All of them. What changes is returned as a document for whoever keeps it, and counts
    when ``use`` is called with it."""

    def __init__(self) -> None:
        shipped = {"balanced": BALANCED, "article": ARTICLE}
        self._named = {
            name: Named(name=name, active=0, versions=(Version(version=0, created_ms=0, strategy=strategy),))
            for name, strategy in shipped.items()
        }

    def restore(self, documents: Mapping[str, bytes]) -> None:
        """Take up what an earlier process kept."""
        for value in documents.values():
            self.use(_decode(value))

    def all(self) -> list[Named]:
        """All of them, by name."""
        return [self._named[name] for name in sorted(self._named)]

    def find(self, name: str) -> Named:
        """The strategy of this name.

        Raises:
            NotFound: there is none (code ``unknown_strategy``).
        """
        found = self._named.get(name)
        if found is None:
            there = ", ".join(sorted(self._named))
            raise NotFound(f"there is no strategy {name!r}; there are: {there}", code="unknown_strategy")
        return found

    def revised(self, name: str, strategy: Strategy, now_ms: int) -> Named:
        """``name`` with one more version, which counts.

        Raises:
            InvalidInput: nothing may be called so.
            Overloaded: there are as many strategies as may be (code ``too_many_strategies``).
        """
        before = self._named.get(check_name(name))
        if before is None:
            if len(self._named) >= MAX_NAMES:
                raise Overloaded(
                    f"there are {MAX_NAMES} strategies already", retry_after_s=60, code="too_many_strategies"
                )
            before = Named(name=name, active=0, versions=())
        number = max((one.version for one in before.versions), default=0) + 1
        versions = (*before.versions, Version(version=number, created_ms=now_ms, strategy=strategy))
        return Named(name=name, active=number, versions=versions[-MAX_VERSIONS:])

    def activated(self, name: str, version: int) -> Named:
        """``name`` with another of its versions in force.

        Raises:
            NotFound: there is no such strategy or version (code ``unknown_strategy``).
        """
        named = self.find(name)
        named.find(version)
        return Named(name=name, active=version, versions=named.versions)

    def use(self, named: Named) -> None:
        """Let it count from now on."""
        self._named[named.name] = named

    def packed(self, named: Named) -> Document:
        """A strategy as it is kept."""
        return Document(SHELF, named.name, _encode(named))
