"""REST of feedback: what people did beside hearting, by the batch.

Each event counts once: by its ``id``, or where it has none by what happened, to whom, with what
and when (``at_ms``). One without either is new every time it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import problem
from heartcast.api.route import Answer, Call, Route
from heartcast.core.errors import Forbidden, InvalidInput, StoreUnavailable
from heartcast.core.names import check_id, user_text
from heartcast.ranking.feedback import MAX_WATCH_S, Feedback, Kind
from heartcast.ranking.intake import FeedbackIntake
from heartcast.ranking.store import MAX_EVENTS
from heartcast.resilience.shedding import Priority

_AHEAD_MS = 300_000
"""Clocks of five minutes ahead are common; more is a mistake."""
_LEAST_MS = 100_000_000_000
"""Milliseconds of March 1973: a smaller number is a time in seconds."""


class FeedbackEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that somebody did."""

    type: Kind
    """exposure, click, watch, conversion or dismissal. Hearts have a route of their own."""
    user_id: int | str
    item_id: str
    at_ms: int | None = None
    """When it happened, in milliseconds since 1970, at most five minutes ahead; null: now."""
    value: float | None = None
    """Of a watch: seconds, 0 to 86,400."""
    propensity: float | None = None
    """Of an exposure: the chance with which the item was drawn for its place, as the recommendation
    said; above 0, at most 1."""
    id: str | None = None
    """The same event always has the same id, so that sending it again changes nothing."""


class FeedbackBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """1 to 1,000 events, oldest first. One that is wrong refuses them all."""

    events: list[FeedbackEvent]


class FeedbackTaken(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the events were new."""

    taken: int
    repeated: int


_encode = msgspec.json.Encoder().encode


def routes(intake: FeedbackIntake, wall_ms: Callable[[], int], new_id: Callable[[], str]) -> list[Route]:
    """The routes of feedback.

    Args:
        intake: Takes the events.
        wall_ms: The wall clock, in milliseconds.
        new_id: Makes ids for events that have nothing to be known again by.
    """
    read = decoder(FeedbackBody)

    def take(call: Call) -> Answer | None:
        body = read(call.body)
        if not 1 <= len(body.events) <= MAX_EVENTS:
            raise InvalidInput(f"must hold 1 to {MAX_EVENTS} events", pointer="/events")
        now_ms = wall_ms()
        events = [
            checked(event, now_ms, new_id, f"/events/{place}") for place, event in enumerate(body.events)
        ]
        if not all(call.identity.may_act_for(event.user_id) for event in events):
            raise Forbidden(
                "people report what they did themselves; servers, what anybody did", code="not_yours"
            )
        intake.take(events, partial(_kept, call))
        return None

    return [
        Route(
            method="POST",
            path="/api/v1/feedback",
            handler=take,
            summary="Report what was shown, clicked, watched, bought or dismissed.",
            tag="ranking",
            body=FeedbackBody,
            answers={200: FeedbackTaken},
            priority=Priority.SHEDDABLE,
            hot=True,
        )
    ]


def checked(event: FeedbackEvent, now_ms: int, new_id: Callable[[], str], pointer: str = "") -> Feedback:
    """An event as it is kept.

    Raises:
        InvalidInput: something is wrong with it; its pointer begins with ``pointer``.
    """
    user = user_text(event.user_id, f"{pointer}/user_id")
    item = check_id(event.item_id, f"{pointer}/item_id")
    at_ms = now_ms if event.at_ms is None else _time(event.at_ms, now_ms, f"{pointer}/at_ms")
    if event.id is not None:
        id_ = check_id(event.id, f"{pointer}/id")
    elif event.at_ms is not None:
        # A line feed is in no id, so that two events never get one name.
        id_ = "\n".join((event.type.value, user, item, str(at_ms)))
    else:
        id_ = new_id()
    return Feedback(id_, event.type, user, item, at_ms, _value(event, pointer), _propensity(event, pointer))


def _time(at_ms: int, now_ms: int, pointer: str) -> int:
    if at_ms < _LEAST_MS:
        raise InvalidInput("must be milliseconds since 1970; this looks like seconds", pointer=pointer)
    if at_ms > now_ms + _AHEAD_MS:
        raise InvalidInput("must not be more than five minutes ahead", pointer=pointer)
    return at_ms


def _value(event: FeedbackEvent, pointer: str) -> float:
    if (event.type is Kind.WATCH) != (event.value is not None):
        raise InvalidInput(
            "a watch has its seconds in value, and nothing else has", pointer=f"{pointer}/value"
        )
    value = event.value or 0.0
    if not 0 <= value <= MAX_WATCH_S:
        raise InvalidInput(f"must be 0 to {MAX_WATCH_S:.0f} seconds", pointer=f"{pointer}/value")
    return value


def _propensity(event: FeedbackEvent, pointer: str) -> float:
    if event.propensity is None:
        return 1.0
    if event.type is not Kind.EXPOSURE:
        raise InvalidInput("only exposures have a propensity", pointer=f"{pointer}/propensity")
    if not (isfinite(event.propensity) and 0 < event.propensity <= 1):
        raise InvalidInput("must be above 0 and at most 1", pointer=f"{pointer}/propensity")
    return event.propensity


def _kept(call: Call, are_new: list[bool] | StoreUnavailable) -> None:
    if isinstance(are_new, StoreUnavailable):
        call.respond(problem(are_new))
        return
    new = sum(are_new)
    call.respond(Answer(200, _encode(FeedbackTaken(taken=new, repeated=len(are_new) - new))))
