"""Sending the sessions of a process that stops elsewhere: not all in one moment.

Stock clients answer 3001 by connecting again within tenths of a second. Thousands of them at once
would find their next node busy with nothing but them, and its own clients would wait for that. So
each session is closed at a moment of its own, at random, and the fewer there are the sooner it is over.
"""

from __future__ import annotations

from functools import partial
from random import Random

from heartcast.realtime.hub import Hub
from heartcast.wire.envelopes import SHUTDOWN

SESSIONS_PER_S = 2_000
"""As many as a node on one core takes in with half of its time."""
_AT_ONCE_S = 0.1
"""A tick of the timing wheel: less cannot be spread."""


def drain(hub: Hub, longest_s: float, random: Random) -> float:
    """Close every session with 3001, each some time from now.

    Returns:
        Seconds after which the last one is told, at most ``longest_s``.
    """
    hub.flush()
    sessions = list(hub.sessions())
    over_s = min(longest_s, len(sessions) / SESSIONS_PER_S)
    if over_s <= _AT_ONCE_S:
        hub.close_all(SHUTDOWN)
        return 0.0
    for session in sessions:
        hub.after(random.uniform(0.0, over_s), partial(session.close, SHUTDOWN))
    return over_s
