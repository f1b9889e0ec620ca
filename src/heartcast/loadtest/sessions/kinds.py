"""The protocols by the names that scenarios have for them."""

from __future__ import annotations

from heartcast.loadtest.scenario import Sessions
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.sessions.binary import BinarySubscriber
from heartcast.loadtest.sessions.centrifugo import CentrifugoSubscriber
from heartcast.loadtest.sessions.sse import StreamSubscriber

KINDS: dict[Sessions, type[Subscriber]] = {
    "json": CentrifugoSubscriber,
    "binary": BinarySubscriber,
    "sse": StreamSubscriber,
}
