"""How a publication reaches every process that has subscribers for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log import Publication

Sent = Callable[[StoreUnavailable | None], None]
Watched = Callable[[StoreUnavailable | None], None]


class Receiver(Protocol):
    """Takes what arrives; the hub is one."""

    def arrived(self, channel: str, publication: Publication) -> None:
        """A publication for those who are subscribed here."""
        ...

    def announced(self, channel: str, line: bytes) -> None:
        """A push for those who asked to be told who comes and goes."""
        ...

    def lost(self, channel: str) -> None:
        """Publications of the channel are gone for ever; what arrives next comes after a hole."""
        ...


class Broker(Protocol):
    """Carries publications between the processes of one installation.

    Guarantees, each with a contract test of the same number:

    1. **To every watcher.** A process whose ``watch`` was answered before a publication
       was handed in receives it once, the publishing process included. Those with
       offsets are never lost in silence: what a broken connection swallowed arrives
       later, in its place, or the channel is declared ``lost``. Those without offsets
       are lost with the connection they were on.
    2. **In order.** Publications of one channel arrive in the order of their offsets;
       those without offsets in the order one process handed them in.
    3. **Only what is watched.** After ``unwatch`` nothing more of the channel arrives.
    4. **Once sent.** A key that was given before, in the last five minutes, sends nothing.
    5. **Once answered.** Every callback is called exactly once, at once or on the loop.
    """

    def follow(self, receiver: Receiver) -> None:
        """Say who takes what arrives. Called once, before anything else."""
        ...

    def watch(self, channel: str, done: Watched) -> None:
        """Want a channel's publications; asked again, the answer is about the same watch.

        Args:
            done: Called when everything handed in from now on arrives, or with the error
                that keeps it from that; the channel is watched all the same until ``unwatch``.
        """
        ...

    def unwatch(self, channel: str) -> None: ...

    def publish(self, channel: str, publication: Publication, done: Sent, *, key: str | None = None) -> None:
        """Send a publication that no log has announced."""
        ...

    def announce(self, channel: str, line: bytes) -> None:
        """Send a push about who comes and goes; at most once."""
        ...
