"""A server that stops sends its clients elsewhere, and does not send them all in one moment."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from heartcast.realtime.drain import SESSIONS_PER_S, drain

COUNT = 5_000


async def test_five_thousand_clients_are_told_3001_evenly_over_two_and_a_half_seconds(
    make_stage: Callable[..., Any],
) -> None:
    stage = make_stage()
    sessions = [stage.session("public:a") for _ in range(COUNT)]
    over_s = drain(stage.hub, 5.0, Random(3))
    assert over_s == COUNT / SESSIONS_PER_S
    told = [0]
    for _ in range(6):
        stage.advance(0.5)
        told.append(sum(session.closed_with == 3001 for session in sessions))
    assert told[-1] == COUNT
    half_seconds = [later - earlier for earlier, later in pairwise(told)]
    assert all(800 < closed < 1_200 for closed in half_seconds[:5])


async def test_it_takes_no_longer_than_was_set(make_stage: Callable[..., Any]) -> None:
    stage = make_stage()
    sessions = [stage.session() for _ in range(COUNT)]
    assert drain(stage.hub, 0.5, Random(3)) == 0.5
    stage.advance(0.7)
    assert {session.closed_with for session in sessions} == {3001}


async def test_few_clients_are_told_at_once_and_all_are_where_nothing_may_be_spread(
    make_stage: Callable[..., Any],
) -> None:
    stage = make_stage()
    few = [stage.session("public:a") for _ in range(100)]
    assert drain(stage.hub, 5.0, Random(3)) == 0.0
    assert {session.closed_with for session in few} == {3001}
    many = [stage.session() for _ in range(1_000)]
    assert drain(stage.hub, 0.0, Random(3)) == 0.0
    assert {session.closed_with for session in many} == {3001}


async def test_what_is_published_meanwhile_reaches_those_who_are_still_there(
    make_stage: Callable[..., Any],
) -> None:
    stage = make_stage()
    sessions = [stage.session("public:a") for _ in range(2_000)]
    drain(stage.hub, 5.0, Random(3))
    stage.advance(0.5)
    staying = [session for session in sessions if session.closed_with is None]
    assert 500 < len(staying) < 1_500
    stage.publish("public:a", b"1")
    stage.hub.flush()
    assert all(session.data() == [1] for session in staying)
