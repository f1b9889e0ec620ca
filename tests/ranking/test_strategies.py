"""Strategies by name: every version is kept, one counts, and going back is one call."""

from __future__ import annotations

import pytest

from heartcast.core.errors import InvalidInput, NotFound, Overloaded
from heartcast.ranking.strategies import MAX_NAMES, MAX_VERSIONS, Strategies
from heartcast.ranking.strategy import ARTICLE, BALANCED, Component, Strategy

CLICKS = Strategy(ctr=Component(weight=1.0))


def test_the_shipped_ones_are_there_and_can_be_revised() -> None:
    strategies = Strategies()

    assert strategies.find("balanced").strategy == BALANCED
    assert strategies.find("article").strategy == ARTICLE
    strategies.use(strategies.revised("balanced", CLICKS, now_ms=5))
    assert strategies.find("balanced").strategy == CLICKS
    assert strategies.find("balanced").active == 1
    strategies.use(strategies.activated("balanced", 0))
    assert strategies.find("balanced").strategy == BALANCED


def test_a_revision_counts_only_when_it_is_used() -> None:
    strategies = Strategies()

    strategies.revised("mine", CLICKS, now_ms=5)

    with pytest.raises(NotFound, match="there are: article, balanced"):
        strategies.find("mine")


def test_numbers_go_on_and_the_oldest_versions_go() -> None:
    strategies = Strategies()
    for _ in range(MAX_VERSIONS + 5):
        strategies.use(strategies.revised("mine", CLICKS, now_ms=5))

    named = strategies.find("mine")
    assert [one.version for one in named.versions] == list(range(6, MAX_VERSIONS + 6))
    with pytest.raises(NotFound, match="mine has no version 5"):
        strategies.activated("mine", 5)


def test_what_was_kept_is_known_again() -> None:
    before = Strategies()
    named = before.revised("mine", CLICKS, now_ms=5)
    document = before.packed(named)
    after = Strategies()

    assert document.value is not None
    after.restore({document.key: document.value})

    assert after.find("mine") == named
    assert [one.name for one in after.all()] == ["article", "balanced", "mine"]


@pytest.mark.parametrize("name", ["", "a b", "/x", "x" * 65, ".x"])
def test_names_are_short_and_plain(name: str) -> None:
    with pytest.raises(InvalidInput, match="a name is 1 to 64"):
        Strategies().revised(name, CLICKS, now_ms=5)


def test_there_are_not_more_than_may_be() -> None:
    strategies = Strategies()
    for number in range(MAX_NAMES - 2):
        strategies.use(strategies.revised(f"s{number}", CLICKS, now_ms=5))

    with pytest.raises(Overloaded, match="100 strategies already"):
        strategies.revised("one_more", CLICKS, now_ms=5)
