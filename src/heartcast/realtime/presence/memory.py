"""Presence of a single process: its members are all there are.

Only the users are counted beside them; who the members are is read from the rooms.
"""

from __future__ import annotations

from itertools import islice

from heartcast.realtime.presence import MAX_PAGE, Counted, Counts, Member, Members, Paged


class _Users:
    """The users of one channel, and how often each is there."""

    __slots__ = ("clients", "times")

    def __init__(self) -> None:
        self.clients = 0
        self.times: dict[str, int] = {}


class MemoryPresence:
    """``Presence`` inside one process.

    Args:
        members: Everyone who is in a channel, in whatever order.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._channels: dict[str, _Users] = {}

    def enter(self, channel: str, member: Member) -> None:
        users = self._channels.get(channel)
        if users is None:
            users = self._channels[channel] = _Users()
        users.clients += 1
        users.times[member.user] = users.times.get(member.user, 0) + 1

    def leave(self, channel: str, member: Member) -> None:
        users = self._channels[channel]
        users.clients -= 1
        users.times[member.user] -= 1
        if not users.times[member.user]:
            del users.times[member.user]
        if not users.clients:
            del self._channels[channel]

    def count(self, channel: str, done: Counted) -> None:
        users = self._channels.get(channel)
        done(Counts(users.clients, len(users.times)) if users is not None else Counts(0, 0))

    def page(self, channel: str, done: Paged) -> None:
        done(list(islice(self._members(channel), MAX_PAGE)))
