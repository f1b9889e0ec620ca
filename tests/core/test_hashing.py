"""Keys land in the same place on every machine and release."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.hashing import hash64, shard_of


def test_the_hash_never_changes_between_releases() -> None:
    # Shards on disk and on other nodes were placed with these very values.
    assert hash64("") == 0xE4A6A0577479B2B4
    assert hash64("u456") == 0xE820FFFBC22A4A42


@pytest.mark.parametrize(("user", "shard"), [("12345", 57), ("0", 0), ("64", 0), ("9999999999999999999", 63)])
def test_numbers_go_by_their_remainder(user: str, shard: int) -> None:
    assert shard_of(user, 64) == shard


@pytest.mark.parametrize("user", ["01", "+1", "-1", " 1", "1e3", "\u0661", "12345678901234567890"])
def test_text_that_only_looks_like_a_number_goes_by_hash(user: str) -> None:
    assert shard_of(user, 64) == hash64(user) % 64


@given(st.text(max_size=40), st.integers(1, 1000))
def test_every_user_has_a_shard(user: str, shards: int) -> None:
    assert 0 <= shard_of(user, shards) < shards
