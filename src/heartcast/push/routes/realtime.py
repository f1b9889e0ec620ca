"""The way out over the user's own channel, ``inbox:#<user>``.

The push's id travels in ``tags.id``. A first delivery carries the push's offset; a
redelivery has none, because stock clients would move their position back to it, and is
marked with ``tags.redelivered``.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.core.names import channel_part, id_of_part
from heartcast.push.model import Push

PREFIX = "inbox:#"

Deliver = Callable[[str, bytes, int, dict[str, str]], int]
"""``deliver(channel, data, offset, tags)`` to current subscribers only; returns sessions reached."""
IsWatched = Callable[[str], bool]


def channel_of(user: str) -> str:
    """The channel on which this user gets pushes."""
    # Nearly every id is letters and digits, which quoting would leave as they are.
    return PREFIX + (user if user.isalnum() and user.isascii() else channel_part(user))


def user_of(channel: str) -> str:
    """The user whose channel this is."""
    return id_of_part(channel.removeprefix(PREFIX))


def rendered(push: Push) -> bytes:
    """What clients get; made on the first call and kept.

    Raises:
        RenderingFailed: the template cannot be rendered with this payload.
    """
    if push.data is None:
        push.data = push.template.render(push.id, push.payload, push.accepted_ms, push.asked.locale)
    return push.data


class RealtimeRoute:
    """Hands pushes to the connected sessions of their users."""

    __slots__ = ("_deliver", "_is_watched")

    def __init__(self, deliver: Deliver, is_watched: IsWatched) -> None:
        self._deliver = deliver
        self._is_watched = is_watched

    def reaches(self, channel: str) -> bool:
        """Whether any session listens on a user's channel now."""
        return self._is_watched(channel)

    def send(self, push: Push, channel: str, *, is_again: bool, now_ms: int) -> int:
        """Hand the push to every session on the channel, which is its user's.

        Returns:
            Sessions reached.

        Raises:
            RenderingFailed: the template cannot be rendered with this payload.
        """
        tags = {"id": push.id, "redelivered": "1"} if is_again else {"id": push.id}
        offset = 0 if is_again else push.offset
        reached = self._deliver(channel, push.data or rendered(push), offset, tags)
        if reached:
            push.attempts += 1
            push.attempted_ms = now_ms
        return reached
