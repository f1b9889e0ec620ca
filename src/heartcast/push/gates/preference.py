"""What the user wants: routes and categories, and hours of quiet."""

from __future__ import annotations

from collections.abc import Callable

from heartcast.core.hashing import hash64
from heartcast.push.gates import Gate, Verdict
from heartcast.push.model import Priority, Push, State
from heartcast.push.preferences import Wishes
from heartcast.push.routes import REALTIME

_NO_ROUTE = Verdict(State.SUPPRESSED, "route_off")
_NO_CATEGORY = Verdict(State.SUPPRESSED, "category_off")
_QUIET = Verdict(State.SUPPRESSED, "quiet_hours")

WishesOf = Callable[[str], Wishes | None]
"""What a user wishes; None: nothing was ever said."""


def preference(wishes_of: WishesOf) -> Gate:
    """Holds back what the user has switched off, critical or not."""

    def ask(push: Push, now_ms: int) -> Verdict | None:
        wishes = wishes_of(push.user)
        if wishes is None:
            return None
        # Of several routes the route gate takes those that are left.
        if REALTIME in wishes.routes_off and not push.asked.has_routes:
            return _NO_ROUTE
        if push.extra is not None and push.extra.category in wishes.categories_off:
            return _NO_CATEGORY
        return None

    return Gate("preference", ask, needs_wishes=True)


def quiet_hours(wishes_of: WishesOf, jitter_ms: int) -> Gate:
    """Defers or drops what would come while the user wants quiet; critical pushes pass.

    What is deferred is released up to ``jitter_ms`` after the end, so that not every user
    of a time zone is pushed to in the same second. The delay is the same for all pushes of
    a user, which keeps them in order.
    """

    def ask(push: Push, now_ms: int) -> Verdict | None:
        wishes = wishes_of(push.user)
        if wishes is None or wishes.quiet is None or push.asked.priority is Priority.CRITICAL:
            return None
        until_ms = wishes.quiet.until_ms(now_ms)
        if until_ms is None:
            return None
        if wishes.quiet.drops:
            return _QUIET
        released_ms = until_ms + (hash64(push.user) % jitter_ms if jitter_ms else 0)
        return Verdict(State.DEFERRED, "quiet_hours", released_ms)

    return Gate("quiet_hours", ask, needs_wishes=True)
