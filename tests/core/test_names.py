"""What may be an id, and that any id makes a channel name and comes back."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import InvalidInput
from heartcast.core.names import channel_part, check_id, check_ids, id_of_part, user_text

ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50)


@given(ids)
def test_every_id_without_control_characters_is_accepted_as_it_stands(text: str) -> None:
    assert check_id(text) == text


@given(st.lists(st.text(max_size=210), max_size=5))
def test_ids_are_judged_together_as_one_by_one(texts: list[str]) -> None:
    def judged(check: Callable[[], object]) -> str:
        try:
            check()
        except InvalidInput as error:
            return f"{error.pointer} {error.detail}"
        return "good"

    one_by_one = [judged(partial(check_id, text, f"/ids/{at}")) for at, text in enumerate(texts)]
    assert judged(lambda: check_ids(texts, "/ids")) == next(
        (verdict for verdict in one_by_one if verdict != "good"), "good"
    )


@given(ids)
def test_a_channel_part_uses_only_safe_characters_and_decodes_to_the_id(text: str) -> None:
    part = channel_part(text)

    assert re.fullmatch(r"[A-Za-z0-9._:%-]+", part)
    assert id_of_part(part) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("a" * 201, "200 bytes"),
        ("é" * 101, "200 bytes"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\x85", "control"),
        ("\ud800", "Unicode"),
    ],
)
def test_what_may_not_be_an_id_is_refused_with_its_reason_and_pointer(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        check_id(text, "/target_id")

    assert caught.value.pointer == "/target_id"
    assert caught.value.code == "invalid_id"


def test_a_number_and_its_text_are_the_same_user() -> None:
    assert user_text(12345) == user_text("12345") == "12345"


@pytest.mark.parametrize("user_id", [-1, 1 << 63])
def test_a_number_outside_63_bits_is_no_user(user_id: int) -> None:
    with pytest.raises(InvalidInput, match="between"):
        user_text(user_id)
