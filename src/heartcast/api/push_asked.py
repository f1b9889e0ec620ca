"""What a sender may ask for beside user, template and payload: reading and checking it.

``send_at`` is RFC 3339 with an offset, or a local time together with ``zone``. A local time
that a clock change leaves out becomes the time that clocks show instead; of one that happens
twice the first is meant.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from heartcast.api.push_composed import PayloadFrom
from heartcast.api.push_routes import Fallback, fallback_of, routes_of
from heartcast.core.errors import InvalidInput
from heartcast.core.names import check_id
from heartcast.push.model import Extra, Priority
from heartcast.push.preferences import zone_named
from heartcast.push.template import check_locale

MAX_AHEAD_S = 366 * 86_400.0
"""``send_at`` and ``ttl`` reach at most a year: further away nobody remembers why."""
DEDUPE_WINDOW_S = 86_400.0
MAX_DEDUPE_WINDOW_S = 30 * 86_400.0
DIGEST_WINDOW_S = 3_600.0
MAX_DIGEST_WINDOW_S = 7 * 86_400.0
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(Z|z|[+-]\d\d:\d\d)?").fullmatch


class PlainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A push that asks for nothing special: nearly all of them, so they are read by a
    decoder of their own, which is a third faster."""

    user_id: int | str
    template: str
    payload: dict[str, Any]


class PushRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to push to whom, and how."""

    user_id: int | str
    template: str
    """``news_v2``, or ``news_v2@1`` for one version for good."""
    payload: dict[str, Any]
    """The fields that the template declares, and any others for the client."""
    priority: Priority = Priority.NORMAL
    """critical, high, normal or low. Critical passes caps and quiet hours."""
    category: str | None = None
    """What users can switch off, and caps can count, like ``marketing``."""
    send_at: str | None = None
    """Not before this time: RFC 3339, or a local time such as ``2026-12-24T18:00`` with ``zone``."""
    zone: str | None = None
    """IANA time zone of a local ``send_at``."""
    ttl: float | None = None
    """Seconds after which it is no longer worth anything, counted from ``send_at`` if given."""
    dedupe_key: str | None = None
    """Of pushes to one user with one key only the first within the window is accepted."""
    dedupe_window: float | None = None
    """Seconds; a day when left out."""
    collapse_key: str | None = None
    """Of pushes to one user with one key only the newest counts while they wait."""
    digest_key: str | None = None
    """Pushes to one user with one key wait for each other, and leave as one."""
    digest_window: float | None = None
    """Seconds that the first of them waits for others; an hour when left out."""
    locale: str | None = None
    """Language tag of its texts, like ``de`` or ``pt-BR``; the user's own when left out."""
    routes: list[str] | None = None
    """Ways out that it takes at once: ``realtime``, ``webhook``, ``webhook:crm``; realtime when left out."""
    fallback: Fallback | None = None
    """Ways out that it takes when nobody acknowledges it."""
    payload_from: PayloadFrom | None = None
    """What the server adds to the payload, such as ``{"recommend": {"n": 3}}``."""


class PushPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a push that waits; what is left out stays."""

    payload: dict[str, Any] | None = None
    send_at: str | None = None
    zone: str | None = None
    ttl: float | None = None


def extra_of(request: PushRequest, now_ms: int) -> Extra | None:
    """The extras of a request; None: it asks for nothing special.

    Raises:
        InvalidInput: a value is out of its range, or two contradict each other.
    """
    due_ms = due_of(request.send_at, request.zone, now_ms)
    if request.dedupe_window is not None and request.dedupe_key is None:
        raise _conflict("dedupe_window means nothing without dedupe_key", "/dedupe_window")
    if request.dedupe_window is not None and not 0 < request.dedupe_window <= MAX_DEDUPE_WINDOW_S:
        raise InvalidInput("must be more than 0 and at most 30 days, in seconds", pointer="/dedupe_window")
    _check_digest(request)
    routes = routes_of(request.routes)
    fallback, fallback_ms = fallback_of(request.fallback, routes)
    extra = Extra(
        due_ms=due_ms or 0,
        sends_at_ms=due_ms or 0,
        ttl_ms=ttl_of(request.ttl) or 0,
        priority=request.priority,
        category=_name(request.category, "/category"),
        dedupe_key=_name(request.dedupe_key, "/dedupe_key"),
        collapse_key=_name(request.collapse_key, "/collapse_key"),
        digest_key=_name(request.digest_key, "/digest_key"),
        locale=check_locale(request.locale, "/locale") if request.locale is not None else "",
        routes=routes,
        fallback=fallback,
        fallback_ms=fallback_ms,
    )
    if extra.dedupe_key:
        extra.dedupe_ms = round((request.dedupe_window or DEDUPE_WINDOW_S) * 1000)
    if extra.digest_key:
        extra.digest_ms = round((request.digest_window or DIGEST_WINDOW_S) * 1000)
    return None if _is_plain(extra) else extra


def _check_digest(request: PushRequest) -> None:
    if request.digest_window is not None and request.digest_key is None:
        raise _conflict("digest_window means nothing without digest_key", "/digest_window")
    if request.digest_window is not None and not 1 <= request.digest_window <= MAX_DIGEST_WINDOW_S:
        raise InvalidInput("must be at least 1 and at most 7 days, in seconds", pointer="/digest_window")
    if request.digest_key is not None and request.send_at is not None:
        raise _conflict("a digest has a time of its own; leave one of the two out", "/send_at")
    if request.digest_key is not None and request.collapse_key is not None:
        raise _conflict("only the newest counts, or all together; leave one of the two out", "/collapse_key")
    if request.digest_key is not None and "digest" in request.payload:
        raise _conflict("a digest puts the others there; give this field another name", "/payload/digest")


def due_of(send_at: str | None, zone: str | None, now_ms: int) -> int | None:
    """Wall time that is asked for; None: nothing was.

    Raises:
        InvalidInput: it is no time, has passed (code ``send_at_in_past``) or is too far away
            (``send_at_too_far``), or offset and zone contradict each other.
    """
    if send_at is None:
        if zone is not None:
            raise _conflict("zone means nothing without send_at", "/zone")
        return None
    due_ms = _instant_ms(send_at, zone)
    if due_ms < now_ms:
        raise InvalidInput("must be in the future", pointer="/send_at", code="send_at_in_past")
    if due_ms - now_ms > MAX_AHEAD_S * 1000:
        raise InvalidInput("must be within a year", pointer="/send_at", code="send_at_too_far")
    return due_ms


def ttl_of(ttl_s: float | None) -> int | None:
    """Milliseconds; None: nothing was asked for.

    Raises:
        InvalidInput: it is not more than 0, or more than a year.
    """
    if ttl_s is None:
        return None
    if not 0 < ttl_s <= MAX_AHEAD_S:
        raise InvalidInput("must be more than 0 and at most a year, in seconds", pointer="/ttl")
    return max(1, round(ttl_s * 1000))


def _instant_ms(send_at: str, zone: str | None) -> int:
    found = _TIME(send_at)
    if found is None:
        raise InvalidInput("must be a time like 2026-12-24T18:00:00Z", pointer="/send_at")
    if found[1] and zone is not None:
        raise _conflict("send_at has an offset already; leave one of the two out", "/zone")
    if not found[1] and zone is None:
        raise InvalidInput("needs an offset, or a zone beside it", pointer="/send_at")
    try:
        moment = datetime.fromisoformat(send_at.upper())
        if zone is not None:
            moment = moment.replace(tzinfo=zone_named(zone, "/zone"))
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"there is no such time: {error}", pointer="/send_at") from error


def _name(text: str | None, pointer: str) -> str:
    return "" if text is None else check_id(text, pointer)


def _is_plain(extra: Extra) -> bool:
    return extra.priority is Priority.NORMAL and not (
        extra.due_ms
        or extra.ttl_ms
        or extra.category
        or extra.dedupe_key
        or extra.collapse_key
        or extra.digest_key
        or extra.locale
        or extra.has_routes
    )


def _conflict(detail: str, pointer: str) -> InvalidInput:
    return InvalidInput(detail, pointer=pointer, code="conflicting_options")
