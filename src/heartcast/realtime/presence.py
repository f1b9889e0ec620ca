"""Who is in a channel.

In one process the members of a channel are its presence: nothing is stored beside
them, so nothing can be out of date.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from heartcast.wire.codec import ClientInfo

if TYPE_CHECKING:
    from heartcast.realtime.session import Session


def present(members: Iterable[Session]) -> dict[str, ClientInfo]:
    """Everyone in the channel, by client id."""
    return {session.client_id: ClientInfo(session.user or "", session.client_id) for session in members}


def count(members: Iterable[Session]) -> tuple[int, int]:
    """How many clients there are, and how many different users."""
    users = [session.user or "" for session in members]
    return len(users), len(set(users))
