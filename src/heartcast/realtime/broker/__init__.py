"""How a publication reaches every process that has subscribers for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heartcast.realtime.log import Publication

Receiver = Callable[[str, Publication], None]


class Broker(Protocol):
    """Carries publications between the processes of one installation.

    Guarantees:

    1. **To every watcher.** A process that watched a channel before a publication was
       handed in receives it once, the publishing process included; a broker that may
       lose one says so by a later offset, never silently.
    2. **In order.** Publications of one channel arrive in the order of their offsets;
       those without offsets in the order one process handed them in.
    3. **Only what is watched.** After ``unwatch`` nothing more of the channel arrives.
    """

    def follow(self, receiver: Receiver) -> None:
        """Say who takes what arrives. Called once, before anything else."""
        ...

    def watch(self, channel: str) -> None: ...

    def unwatch(self, channel: str) -> None: ...

    def publish(self, channel: str, publication: Publication) -> None: ...
