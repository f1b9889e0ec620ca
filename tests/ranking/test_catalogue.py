"""What items are: found by id and by category, whatever order it was said in."""

from __future__ import annotations

import msgspec
import pytest

from heartcast.core.errors import InvalidInput, Overloaded
from heartcast.ranking.catalogue import UNKNOWN, About, Catalogue


def test_an_item_nobody_described_is_nothing_in_particular() -> None:
    assert Catalogue(9).find("any") == UNKNOWN == About()


def test_a_category_has_its_members_and_loses_those_that_change() -> None:
    catalogue = Catalogue(9)
    catalogue.describe("a", About(categories=("jazz", "news")))
    catalogue.describe("b", About(categories=("jazz",)))
    catalogue.describe("a", About(categories=("news", "news")))

    assert catalogue.members("jazz") == ["b"]
    assert catalogue.members("news") == ["a"]
    assert catalogue.members("void") == []
    catalogue.describe("a", None)
    assert catalogue.members("news") == []
    assert catalogue.members(None) == ["b"]


def test_the_newest_come_first_and_those_without_age_last() -> None:
    catalogue = Catalogue(9)
    for item, published_ms in (("old", 1), ("new", 3), ("ageless", None), ("middle", 2)):
        catalogue.describe(item, About(published_ms=published_ms))

    assert catalogue.newest(catalogue.members(None), 9) == ["new", "middle", "old", "ageless"]
    assert catalogue.newest(catalogue.members(None), 1) == ["new"]


def test_a_full_catalogue_takes_changes_and_no_newcomers() -> None:
    catalogue = Catalogue(1)
    catalogue.describe("a", About())

    catalogue.check_room("a")
    with pytest.raises(Overloaded, match="1 items are described already"):
        catalogue.check_room("b")


@pytest.mark.parametrize(
    ("about", "pointer"),
    [(About(categories=("fine", "")), "/categories/1"), (About(author="a\nb"), "/author")],
)
def test_names_that_may_not_be_ids_are_pointed_at(about: About, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        about.check()

    assert caught.value.pointer == pointer


@pytest.mark.parametrize("body", [b'{"published_ms":-1}', b'{"published_ms":9007199254740992}'])
def test_times_that_cannot_be_are_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError, match="published_ms: must be"):
        msgspec.json.decode(body, type=About)


def test_what_was_kept_is_known_again() -> None:
    catalogue = Catalogue(9)
    catalogue.restore({"a": b'{"categories":["x"],"is_hidden":true}'})

    assert catalogue.find("a").is_hidden
    assert catalogue.members("x") == ["a"]
