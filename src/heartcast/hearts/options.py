"""What can be chosen about hearts."""

from __future__ import annotations

from typing import Literal

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.model import HIDDEN, KIND
from heartcast.resilience.breaker.policy import BreakerPolicy
from heartcast.resilience.limits.limit import Limit

STORE_BREAKER = BreakerPolicy(
    failure_rate=0.5, slow_s=10.0, slow_rate=1.0, window_size=10, min_calls=20, open_s=1.0, max_open_s=15.0
)
"""Breaks are short: a probe costs one heart, and a page without hearts costs readers."""


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in ``hearts.db`` of the data folder."""

    synchronous: Literal["full", "normal"] = "full"
    """``full``: an answered heart survives a power cut, and every durable figure of ours
    means this. ``normal``: it survives ``kill -9``, but a power cut may take the last ones."""

    queue_keys: int = 32_768
    """Hearts that may wait for the disk; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    cache_mb: int = 64
    """Memory for pages, in MiB, 1 to 65536. SQLite's own 2 MiB makes random users read the disk."""

    checkpoint_pages: int = 16_000
    """Pages of 4 KiB in the write-ahead log before they are copied into the database, 100 to
    1,000,000. SQLite's own 1,000 copies hot pages again and again."""

    busy_s: float = 5.0
    """Seconds to wait when another program holds the database, 0 to 60."""

    def __post_init__(self) -> None:
        bounds = {
            "queue_keys": (500, 1_000_000),
            "cache_mb": (1, 65_536),
            "checkpoint_pages": (100, 1_000_000),
            "busy_s": (0, 60),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in PostgreSQL."""

    queue_keys: int = 16_384
    """Hearts that may wait for the server; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    group_keys: int = 2_000
    """Hearts in one transaction, 500 to 20,000. More share a commit, but hold the rows of their
    targets longer."""

    readers: int = 4
    """Connections for lists, 1 to 64. Two more are for writing and for counts."""

    timeout_s: float = 5.0
    """Seconds for one answer of the server, 0.1 to 60."""

    replica_dsn: str = ""
    """``postgresql://…`` of a streaming replica that answers counts and lists; never logged. What this
    node has just written is read from the primary until the replica has it. "": all reads
    go to the primary."""

    replica_lag_s: float = 2.0
    """Seconds that the replica may be behind, 0.1 to 3600; when it is later, the primary is read."""

    def __post_init__(self) -> None:
        bounds = {
            "queue_keys": (500, 1_000_000),
            "group_keys": (500, 20_000),
            "readers": (1, 64),
            "timeout_s": (0.1, 60),
            "replica_lag_s": (0.1, 3600),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in Redis or Valkey."""

    prefix: str = "heartcast:"
    """In front of every key, so that a server may be shared."""

    queue_keys: int = 16_384
    """Hearts that may wait for the server; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    timeout_s: float = 2.0
    """Seconds for one answer of the server, 0.05 to 60."""

    check: bool = True
    """Refuse a server that may forget hearts: without an append-only file, or one that evicts.
    Off: for servers that do not tell their settings."""

    def __post_init__(self) -> None:
        if not 500 <= self.queue_keys <= 1_000_000:
            raise ValueError("queue_keys: must be between 500 and 1000000")
        if not 0.05 <= self.timeout_s <= 60:
            raise ValueError("timeout_s: must be between 0.05 and 60")


def plain_emoji(text: str) -> str:
    """An emoji without the mark that asks for colour, which some keyboards send and some don't."""
    return text.replace("\ufe0f", "")


class AbuseOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When hearts of users and visitors are *shadowed*: seen by their giver only, and not counted.

    Rates read like ``"600/h burst 150"``. Servers that act for users are not judged.
    """

    is_on: bool | None = None
    """null: on where callers need credentials, off in dev mode on loopback."""

    per_user: str = "600/h burst 150"
    """Hearts of one user. Somebody who goes through a whole archive stays below it."""

    per_device: str = "600/h burst 150"
    """Hearts of one browser that has a signed name, whoever is signed in there."""

    per_prefix: str = "20000/h burst 5000"
    """Hearts of signed-in users of one network (/24, /64). Wide: offices and campuses are one
    network. Hearts that an own budget refused are not counted here."""

    visitors_per_prefix: str = "2000/h burst 500"
    """Hearts of visitors who are nobody, of one network: names of devices cost nothing."""

    per_target: str = ""
    """Hearts of one target. "": no limit, because what goes viral should count."""

    velocity_run: int = 20
    """So many hearts in a row, each within ``velocity_gap_s`` of the one before, are a script's,
    3 to 1000."""

    velocity_gap_s: float = 0.25
    """Seconds, 0.01 to 10. Nobody finds and presses four different buttons a second for long."""

    velocity_rest_s: float = 600.0
    """Seconds without a heart after which a script counts as a person again, 1 to 86400, and
    more than ``velocity_gap_s``."""

    def __post_init__(self) -> None:
        for name in ("per_user", "per_device", "per_prefix", "visitors_per_prefix", "per_target"):
            text = getattr(self, name)
            if name == "per_target" and not text:
                continue
            try:
                limit = Limit.parse(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if limit.kind != "bucket":
                raise ValueError(f'{name}: must be a rate such as "600/h burst 150", got {limit}')
        bounds = {"velocity_run": (3, 1000), "velocity_gap_s": (0.01, 10), "velocity_rest_s": (1, 86_400)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")
        if self.velocity_rest_s <= self.velocity_gap_s:
            raise ValueError("velocity_rest_s: must be more than velocity_gap_s")


class OutboxOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events: what changed, in order, for other programs and for credit, webhooks and audit."""

    is_on: bool = True
    """Write an event with every change, in its transaction."""

    retention_s: float = 259_200.0
    """Seconds that events are kept, 60 to 10 years. A consumer that stays away longer has to
    begin anew. What follows inside this program is waited for."""

    def __post_init__(self) -> None:
        if not 60 <= self.retention_s <= 315_360_000:
            raise ValueError("retention_s: must be between 60 and 315360000")


class EventWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of events."""

    url: str
    """Where to post; https, unless ``allow_private``. Only its host is ever shown."""

    secrets: list[str]
    """``whsec_…``, one to four. Each signs, so that one can be replaced without a gap."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.secrets) <= 4:
            raise ValueError("secrets: must be one to four")


class EventWebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events posted to servers of others. Needs the outbox."""

    endpoints: dict[str, EventWebhook] = {}
    """Receivers by name. A new one begins with what happens from then on."""

    allow_private: bool = False
    """Whether addresses inside this machine and its networks may be posted to, and plain http with
    them."""

    timeout_s: float = 10.0
    """Longest time of one POST, 0.1 to 60 seconds."""

    max_events: int = 100
    """Events in one POST, 1 to 1000."""

    retry_first_s: float = 1.0
    """Upper end of the wait after a first failure, 0.001 to 60 seconds; doubles with each."""

    retry_max_s: float = 300.0
    """Upper end of the longest wait between tries, ``retry_first_s`` to 86400 seconds. A receiver
    is tried for ever."""

    longest_wait_s: float = 3600.0
    """A Retry-After beyond this many seconds counts as this, 1 to 86400."""

    def __post_init__(self) -> None:
        bounds = {"timeout_s": (0.1, 60), "max_events": (1, 1000), "longest_wait_s": (1, 86_400)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")
        if not 0.001 <= self.retry_first_s <= 60:
            raise ValueError("retry_first_s: must be between 0.001 and 60")
        if not self.retry_first_s <= self.retry_max_s <= 86_400:
            raise ValueError("retry_max_s: must be between retry_first_s and 86400")


class AuditOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chained log of who did what, in ``effects.db`` of the data folder. Needs the outbox."""

    is_on: bool = False
    """Whether it is kept. It only grows."""


class AuditorOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counting hearts again, all the time, to prove the counts that are told."""

    is_on: bool = True
    """Whether a running server does it."""

    every_s: float = 1.0
    """Seconds between two looks, 0.05 to 3600. After a look that took long it rests twenty times
    as long."""

    targets: int = 20
    """Targets counted in one look, 1 to 1000."""

    repairs: bool = True
    """Set a count that differs to what its rows say, unless it changes at that moment."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.every_s <= 3600:
            raise ValueError("every_s: must be between 0.05 and 3600")
        if not 1 <= self.targets <= 1000:
            raise ValueError("targets: must be between 1 and 1000")


class CreditOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ledger that pays users for hearts, in ``effects.db`` of the data folder. Needs the outbox."""

    is_on: bool = False
    """Whether hearts earn anything."""

    points: dict[str, int] = msgspec.field(default_factory=lambda: {KIND: 1})
    """What the first heart of a user on a target earns, per kind, 1 to 1,000,000. Kinds that are not
    named earn nothing."""

    daily_cap: int = 0
    """Points that a user may earn in a day (UTC), 1 to 1,000,000,000; 0: no cap. A first heart beyond
    it earns nothing, also later."""

    clawback_within_s: float = 0.0
    """Seconds after an award within which taking the heart back takes back the award, 1 to
    315360000; 0: an award stays."""

    def __post_init__(self) -> None:
        for kind, points in self.points.items():
            if not 1 <= points <= 1_000_000:
                raise ValueError(f"points: of {kind} must be between 1 and 1000000")
        if not 0 <= self.daily_cap <= 1_000_000_000:
            raise ValueError("daily_cap: must be between 0 and 1000000000")
        if not 0 <= self.clawback_within_s <= 315_360_000:
            raise ValueError("clawback_within_s: must be between 0 and 315360000")


class HeartOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kinds, who may do and see what, live counts and the store."""

    kinds: list[str] = msgspec.field(default_factory=lambda: [KIND])
    """Kinds that may be given; ``heart`` is always among them. A closed list, because every
    kind of every target has a count of its own that is kept for ever."""

    visitor_kinds: list[str] = []
    """Kinds that visitors who are nobody may give, under a signed name of their device. []: none;
    then hearts need a user."""

    visitor_max_age_s: float = 31_536_000.0
    """Seconds that the name of a device is good for, 3600 to 315360000. It is renewed when half
    of them are over."""

    openheart: dict[str, str] = {}
    """Emoji that ``POST /oh/{target}`` takes, each with the kind that it gives, one of
    ``visitor_kinds``: ``{"❤️" = "heart"}``. {}: the OpenHeart protocol is not spoken."""

    who_hearted: Literal["admin", "owner", "public"] = "admin"
    """Who may ask which users hearted a target. ``admin``: servers. ``owner``: also users whose
    token names the target in its claim ``owns``. ``public``: everybody."""

    idempotency_s: float = 86_400.0
    """Seconds that a write of hearts is remembered under its Idempotency-Key, 60 to 604800."""

    undo_window_s: float = 0.0
    """Seconds within which a user may take a heart back, 1 to 315360000; 0: for ever. Servers may
    always."""

    abuse: AbuseOptions = msgspec.field(default_factory=AbuseOptions)

    breaker: BreakerPolicy = msgspec.field(default_factory=lambda: STORE_BREAKER)
    """When a store that fails is left alone for a while. Slowness alone never opens: a store
    with much to do is slow, and its own time limits make failures of calls that hang."""

    live_interval_s: float = 0.2
    """Least seconds between two live counts of one target, 0.01 to 60. Five a second look
    like a running number, more only cost."""

    tracked_per_connection: int = 1_000
    """Targets whose counts one connection may watch by ``track``, 500 to 10,000; one call takes 500.
    Each costs the connection some 100 bytes."""

    store: Literal["auto", "sqlite", "memory", "redis", "postgres"] = "auto"
    """Where hearts are kept: ``sqlite`` in the data folder, ``memory`` nowhere else,
    ``redis`` and ``postgres`` in a server that several nodes may share. ``auto``: ``memory`` when
    ``in_memory`` is set, else ``sqlite``."""

    postgres_dsn: str = ""
    """``postgresql://user:password@host:5432/database``; needed by the store ``postgres``, and
    never logged."""

    redis_url: str = ""
    """``redis://user:password@host:6379/0``, ``rediss://…`` with TLS, or ``unix:///path``; needed
    by the store ``redis``, and never logged."""

    outbox: OutboxOptions = msgspec.field(default_factory=OutboxOptions)
    webhooks: EventWebhookOptions = msgspec.field(default_factory=EventWebhookOptions)
    audit: AuditOptions = msgspec.field(default_factory=AuditOptions)
    auditor: AuditorOptions = msgspec.field(default_factory=AuditorOptions)
    credit: CreditOptions = msgspec.field(default_factory=CreditOptions)
    sqlite: SqliteOptions = msgspec.field(default_factory=SqliteOptions)
    redis: RedisOptions = msgspec.field(default_factory=RedisOptions)
    postgres: PostgresOptions = msgspec.field(default_factory=PostgresOptions)

    def __post_init__(self) -> None:
        if KIND not in self.kinds:
            raise ValueError(f"kinds: must contain {KIND!r}")
        for kind in self.kinds:
            try:
                check_id(kind)
            except InvalidInput as error:
                raise ValueError(f"kinds: each {error.detail}") from None
            if kind.startswith(HIDDEN):
                raise ValueError(f"kinds: must not begin with {HIDDEN!r}, which marks what does not count")
        for kind in self.visitor_kinds:
            if kind not in self.kinds:
                raise ValueError(f"visitor_kinds: {kind!r} is not among the kinds")
        for emoji, kind in self.openheart.items():
            if kind not in self.visitor_kinds:
                raise ValueError(f"openheart: {emoji} gives {kind!r}, which is not among the visitor_kinds")
        if not 3600 <= self.visitor_max_age_s <= 315_360_000:
            raise ValueError("visitor_max_age_s: must be between 3600 and 315360000")
        if not 60 <= self.idempotency_s <= 604_800:
            raise ValueError("idempotency_s: must be between 60 and 604800")
        if self.undo_window_s and not 1 <= self.undo_window_s <= 315_360_000:
            raise ValueError("undo_window_s: must be 0, or between 1 and 315360000")
        if self.webhooks.endpoints and not self.outbox.is_on:
            raise ValueError("webhooks: needs events; set outbox.is_on")
        if self.audit.is_on and not self.outbox.is_on:
            raise ValueError("audit: needs events; set outbox.is_on")
        if self.credit.is_on and not self.outbox.is_on:
            raise ValueError("credit: needs events; set outbox.is_on")
        if self.store == "postgres" and not self.postgres_dsn:
            raise ValueError("postgres_dsn: must be set for the store postgres")
        if self.store == "redis" and not self.redis_url:
            raise ValueError("redis_url: must be set for the store redis")
        if not 500 <= self.tracked_per_connection <= 10_000:
            raise ValueError("tracked_per_connection: must be between 500 and 10000")
        if not 0.01 <= self.live_interval_s <= 60:
            raise ValueError("live_interval_s: must be between 0.01 and 60")
