"""The order in which gates are asked.

First what ends a push for good, the cheap before the dear; then what holds it for a while,
as a push that will never leave must not wait for the morning first; last what needs all
others to have let it pass.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.push.gates import Gate
from heartcast.push.gates.life import cancelled, experiment, expired
from heartcast.push.gates.preference import WishesOf, preference, quiet_hours
from heartcast.push.gates.remembering import Remembering
from heartcast.push.gates.route import WhyNot, route_choice
from heartcast.push.options import PushOptions


def in_order(
    options: PushOptions,
    remembering: Remembering,
    *,
    wishes_of: WishesOf,
    is_called_off: Callable[[str], bool],
    why_not: WhyNot,
) -> list[Gate]:
    """The service's own gates.

    Args:
        is_called_off: Whether the broadcast with this id was cancelled.
        why_not: Why a push cannot go over a route; "": it can.
    """
    cap = remembering.caps.gate()
    return [
        expired(round(options.ttl_s * 1000)),
        cancelled(is_called_off),
        preference(wishes_of),
        remembering.duplicates.gate(),
        experiment(),
        *((cap,) if cap else ()),
        remembering.frequencies.gate(),
        quiet_hours(wishes_of, round(options.quiet_jitter_s * 1000)),
        remembering.collapses.gate(),
        route_choice(wishes_of, why_not),
        remembering.digests.gate(),
    ]
