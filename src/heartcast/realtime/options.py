"""What an operator may say about channels and connections."""

from __future__ import annotations

from typing import Literal

import msgspec

Delivery = Literal["live", "stream", "assured"]
Recovery = Literal["none", "stream", "cache"]
Access = Literal["nobody", "token", "owner", "users", "anyone"]
Overflow = Literal["disconnect", "drop_oldest", "keep_latest"]


def _check(is_good: bool, message: str) -> None:
    if not is_good:
        raise ValueError(message)


class NamespaceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the channels ``<namespace>:…`` behave."""

    delivery: Delivery = "live"
    """live: at most once. stream: at least once inside the history, gaps are always detected.
    assured: an inbox with acknowledgements, kept by whoever binds a log to the namespace."""

    history_size: int = 0
    """Publications kept per channel; 0 keeps none."""

    history_ttl_s: float = 300.0
    """A publication is kept so many seconds; long enough for a tunnel or a reboot."""

    recovery: Recovery = "none"
    """stream: a client that comes back gets what it missed. cache: every subscriber gets the latest."""

    presence: bool = False
    """Whether subscribers may see who else is there."""

    join_leave: bool = False
    """Whether subscribers that ask for it are told who comes and goes."""

    subscribe: Access = "anyone"
    """Who may subscribe without a subscription token; owner: only the user after the ``#``."""

    publish: Access = "nobody"
    """Which clients may publish; servers always may."""

    dev_publish: bool = False
    """Whether any client may publish in dev mode."""

    overflow: Overflow = "disconnect"
    """What happens to a subscriber that reads too slowly. Only ``disconnect`` loses nothing where
    clients recover, so the other two are for live and cache channels."""

    queue_bytes: int = 1_048_576
    """Bytes that may wait for one subscriber; 1 MiB is some seconds of a busy channel."""

    def __post_init__(self) -> None:
        _check(self.history_size >= 0, "history_size: must be >= 0")
        _check(self.history_ttl_s > 0, "history_ttl_s: must be > 0")
        _check(self.queue_bytes >= 16_384, "queue_bytes: must be >= 16384")
        _check(
            self.recovery == "none" or self.history_size > 0 or self.delivery == "assured",
            "history_size: must be >= 1 where recovery is on",
        )
        _check(
            self.delivery != "stream" or self.recovery == "stream",
            'recovery: must be "stream" for delivery "stream"',
        )
        _check(
            self.overflow == "disconnect" or (self.delivery == "live" and self.recovery != "stream"),
            'overflow: must be "disconnect" where clients recover',
        )


DEFAULT_NAMESPACES: dict[str, NamespaceOptions] = {
    "public": NamespaceOptions(presence=True, dev_publish=True),
    "hearts": NamespaceOptions(recovery="cache", history_size=1, overflow="keep_latest"),
    "hot": NamespaceOptions(recovery="cache", history_size=1, overflow="keep_latest"),
    "feed": NamespaceOptions(
        delivery="stream",
        recovery="stream",
        history_size=100,
        presence=True,
        join_leave=True,
        dev_publish=True,
    ),
    "inbox": NamespaceOptions(delivery="assured", subscribe="owner"),
}


class RealtimeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Channels, connections and fan-out."""

    namespaces: dict[str, NamespaceOptions] = {}
    """Namespaces beside the defaults (public, hearts, hot, feed, inbox); one of the same name
    replaces the default as a whole."""

    allow_anonymous: bool = True
    """Whether a client may connect without a token: live counts are for every visitor of a page."""

    ping_interval_s: float = 25.0
    """Seconds between pings; proxies cut connections that are silent for a minute."""

    pong_timeout_s: float = 10.0
    """A client that answers no ping within so many seconds is closed (3012)."""

    connect_timeout_s: float = 25.0
    """A socket that sends no connect command within so many seconds is closed (3502)."""

    max_connections: int = 100_000
    """Sockets and streams beyond this are refused: at some 4 KB each this bounds their memory."""

    max_channels_per_connection: int = 128
    """As the Centrifugo server has it; each costs memory on every connection."""

    max_message_bytes: int = 65_536
    """The longest message a client may send."""

    max_publication_bytes: int = 131_072
    """The longest publication; an eighth of a queue, so that one message never overflows it."""

    max_logged_channels: int = 100_000
    """Channels whose history is kept in memory at a time; the least recently used goes first."""

    recovery_limit: int = 300
    """A client that missed more than so many publications is told that it cannot recover."""

    tick_max_s: float = 0.015
    """After a fan-out the next one waits at most so long, collecting messages meanwhile."""

    tick_rest_ratio: float = 2.0
    """After a fan-out the next one waits so many times as long as it took, up to ``tick_max_s``:
    small fan-outs never wait, large ones leave two thirds of the core to everything else."""

    write_deadline_s: float = 10.0
    """A subscriber that reads nothing for so long while data waits is closed (3008)."""

    drain_s: float = 5.0
    """When the server stops, its clients are told to connect elsewhere (3001) over at most so many
    seconds: 2,000 a second, at random, so that they do not all come back in one moment. 0: at once."""

    compare_s: float = 5.0
    """Many nodes: every watched channel's position is compared with the log once in so many seconds,
    which finds the last message of a quiet channel when pub/sub lost it."""

    redis_timeout_s: float = 2.0
    """Many nodes: the longest wait for Redis. Longer than the hiccups of a healthy server, shorter
    than the patience of a client that waits for its subscription."""

    def __post_init__(self) -> None:
        for name in (
            "compare_s",
            "redis_timeout_s",
            "ping_interval_s",
            "pong_timeout_s",
            "connect_timeout_s",
            "write_deadline_s",
            "max_connections",
            "max_channels_per_connection",
            "max_message_bytes",
            "max_publication_bytes",
            "max_logged_channels",
            "recovery_limit",
        ):
            _check(getattr(self, name) > 0, f"{name}: must be > 0")
        _check(self.drain_s >= 0, "drain_s: must be >= 0")
        _check(self.tick_max_s >= 0, "tick_max_s: must be >= 0")
        _check(self.tick_rest_ratio >= 0, "tick_rest_ratio: must be >= 0")
        _check(self.pong_timeout_s < self.ping_interval_s, "pong_timeout_s: must be < ping_interval_s")
        for name, namespace in self.namespaces.items():
            _check(
                self.max_publication_bytes * 4 <= namespace.queue_bytes,
                f"namespaces.{name}.queue_bytes: must be >= 4 * max_publication_bytes",
            )

    def all_namespaces(self) -> dict[str, NamespaceOptions]:
        """The defaults and what the operator said, by name."""
        return {**DEFAULT_NAMESPACES, **self.namespaces}
