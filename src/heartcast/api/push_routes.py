"""Which ways out a sender asks for: reading and checking ``routes`` and ``fallback``."""

from __future__ import annotations

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.core.names import check_id
from heartcast.push.routes import REALTIME, WEBHOOK, kind_of, one_of

MAX_ROUTES = 4
_KINDS = (REALTIME, WEBHOOK)
_LONGEST_S = 7 * 86_400.0


class Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a push goes when nobody acknowledges it."""

    routes: list[str]
    """Like ``["webhook"]``; all of them at once."""
    after_s: float | None = None
    """Seconds without an acknowledgement; ``push.fallback_after_s`` when left out."""


def routes_of(routes: list[str] | None) -> list[str]:
    """The routes that were asked for; empty: realtime alone.

    Raises:
        InvalidInput: there are none, too many, the same twice, or one that does not exist
            (code ``unknown_route``).
    """
    if routes is None:
        return []
    checked = _checked(routes, "/routes")
    return [] if checked == [REALTIME] else checked


def fallback_of(fallback: Fallback | None, first: list[str]) -> tuple[list[str], int]:
    """The routes to fall back to, and after how many milliseconds; 0: the server's own.

    Raises:
        InvalidInput: as above; or the time is out of its range; or it names realtime, where
            a push waits for its user anyway, or a route that is taken at once (code
            ``conflicting_options``).
    """
    if fallback is None:
        return [], 0
    routes = _checked(fallback.routes, "/fallback/routes")
    for index, route in enumerate(routes):
        if route == REALTIME or route in first:
            raise InvalidInput(
                f"{route} cannot be fallen back to: use it as one of the routes, or not at all",
                pointer=f"/fallback/routes/{index}",
                code="conflicting_options",
            )
    if fallback.after_s is None:
        return routes, 0
    if not 0 < fallback.after_s <= _LONGEST_S:
        raise InvalidInput("must be more than 0 and at most a week, in seconds", pointer="/fallback/after_s")
    return routes, max(1, round(fallback.after_s * 1000))


def _checked(routes: list[str], pointer: str) -> list[str]:
    if not 1 <= len(routes) <= MAX_ROUTES:
        raise InvalidInput(f"must hold 1 to {MAX_ROUTES} routes", pointer=pointer)
    if len(set(routes)) < len(routes):
        raise InvalidInput("must not hold a route twice", pointer=pointer)
    for index, route in enumerate(routes):
        at = f"{pointer}/{index}"
        if kind_of(route) not in _KINDS or (
            ":" in route and (kind_of(route) != WEBHOOK or not one_of(route))
        ):
            raise InvalidInput(
                "must be realtime, webhook, or webhook: and a name", pointer=at, code="unknown_route"
            )
        check_id(route, at)
    return routes
