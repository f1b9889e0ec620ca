"""Catching up: what a subscriber missed, joined with what arrives meanwhile.

The log may need time to answer. Publications that arrive in that time are kept in
order, and when the answer is there the two are merged by offset. The rule is all or
nothing: a client gets everything after its position, or is told that it cannot.
"""

from __future__ import annotations

from typing import NamedTuple

from heartcast.realtime.log import Complete, Gap, Position, Publication


class Joined(NamedTuple):
    """What a new subscriber is answered."""

    position: Position | None = None
    """Where it stands before ``publications``; None: the channel has no positions."""
    publications: list[Publication] = []  # noqa: RUF012 - never changed, like every list in here
    was_recovering: bool = False
    recovered: bool = False
    later: list[Publication] = []  # noqa: RUF012
    """To be pushed right after the answer."""


def merge(
    answer: list[Publication], arrived: list[Publication], *, is_dense: bool
) -> list[Publication] | None:
    """What the log gave and what arrived since, each offset once, in order.

    Publications without an offset (redeliveries) stand behind, in their order.

    Args:
        is_dense: Offsets may not be skipped. An inbox skips what was acknowledged.

    Returns:
        None when an offset is missing in between.
    """
    merged = list(answer)
    last = merged[-1].offset if merged else 0
    loose: list[Publication] = []
    for publication in arrived:
        if not publication.offset:
            loose.append(publication)
        elif publication.offset > last:
            if is_dense and last and publication.offset != last + 1:
                return None
            merged.append(publication)
            last = publication.offset
    return merged + loose


def join_stream(
    answer: Complete | Gap, arrived: list[Publication], *, was_recovering: bool, is_dense: bool = True
) -> Joined:
    """A subscriber of a ``stream`` or ``assured`` namespace.

    Args:
        answer: What the log said of the client's position (of the top, or of the oldest
            unacknowledged, when the client gave none).
        arrived: Published after the log was asked.
    """
    # What arrived up to the top was part of the answer, or lies before a gap.
    fresh = [p for p in arrived if not p.offset or p.offset > answer.top.offset]
    if isinstance(answer, Gap):
        return Joined(answer.top, [], was_recovering, recovered=False, later=fresh)
    merged = merge(answer.publications, fresh, is_dense=is_dense)
    if merged is None:
        return Joined(answer.top, [], was_recovering, recovered=False, later=fresh)
    return Joined(answer.top, merged, was_recovering, recovered=was_recovering)


def join_cache(answer: Complete | Gap, arrived: list[Publication]) -> Joined:
    """A subscriber of a ``cache`` namespace: the latest publication, whatever it asked.

    Stock clients do not ask for recovery when they first subscribe, so the answer says
    that they did, which makes them hand the publication to the application.
    """
    known = answer.publications if isinstance(answer, Complete) else []
    latest = arrived[-1:] or known[-1:]
    top = max([answer.top.offset, *(p.offset for p in latest)])
    return Joined(Position(top, answer.top.epoch), latest, was_recovering=True, recovered=True)
