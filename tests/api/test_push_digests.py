"""Digests over REST: what may be asked for, and what the trace says."""

from __future__ import annotations

from typing import Any

import pytest

from .test_push_life import Api


@pytest.fixture
def api() -> Api:
    return Api()


def test_the_trace_of_a_merged_push_names_the_one_that_has_it(api: Api) -> None:
    asked = {"digest_key": "replies", "digest_window": 5}
    (status, first), (_, second) = api.post(**asked), api.post(**asked)
    assert (status, first["status"]) == (202, "deferred")
    api.rig.turns.advance(6)
    state = api.get(second["id"])
    assert (state["status"], state["reason"]) == ("suppressed", "merged")
    assert state["trace"][-2] | {"at": ""} == {
        "step": "digest", "verdict": "suppressed", "at": "", "reason": "merged", "push": first["id"],
    }  # fmt: skip
    assert api.get(first["id"])["status"] == "sent"


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"digest_window": 5}, "/digest_window", "conflicting_options"),
        ({"digest_key": "k", "digest_window": 0.5}, "/digest_window", "invalid_input"),
        ({"digest_key": "k", "digest_window": 1e9}, "/digest_window", "invalid_input"),
        ({"digest_key": ""}, "/digest_key", "invalid_id"),
        ({"digest_key": "k", "send_at": "2023-11-15T00:00:00Z"}, "/send_at", "conflicting_options"),
        ({"digest_key": "k", "collapse_key": "k"}, "/collapse_key", "conflicting_options"),
        (
            {"digest_key": "k", "payload": {"title": "x", "digest": 1}},
            "/payload/digest",
            "conflicting_options",
        ),
    ],
)
def test_digests_that_contradict_themselves_are_refused(
    api: Api, asked: dict[str, Any], pointer: str, code: str
) -> None:
    status, problem = api.post(**asked)
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, code, pointer)
