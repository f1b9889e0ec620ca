"""What to do to a server, as a small typed file or the flags of a command.

    scenario = "push"
    users = 500
    offline_share = 0.05

    [load]
    rate_per_s = 1000
    seconds = 20

    [bounds]
    p99_ms = 100

Keys that do not exist, values of the wrong type and choices that contradict each other
are refused, each with its place.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from heartcast.core.errors import SettingsError
from heartcast.loadtest.arrivals import Piece, Process, Shape, pieces


def _check(is_good: bool, message: str) -> None:
    if not is_good:
        raise ValueError(message)


def _check_share(name: str, value: float) -> None:
    _check(0 <= value <= 1, f"{name}: must be 0 to 1, got {value}")


Sessions: TypeAlias = Literal["json", "binary", "sse"]


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much, when."""

    rate_per_s: float = 500.0
    """Messages due per second, all streams together."""

    peak_per_s: float | None = None
    """Highest rate of ramp, step, spike and sweep; None: three times ``rate_per_s``."""

    shape: Shape = "steady"
    """steady, ramp, step, spike or sweep."""

    steps: int = 6
    """Stairs of a sweep."""

    arrivals: Process = "poisson"
    """poisson, as many independent senders make, or constant."""

    seconds: float = 20.0
    """Length of the load, warm-up included."""

    warmup_s: float = 3.0
    """Seconds at the start whose latencies do not count; their messages do."""

    connections: int = 8
    """HTTP connections that requests are spread over."""

    max_open: int = 20_000
    """Requests waiting for their answers, at most; what is due beyond it is counted and not sent."""

    def __post_init__(self) -> None:
        for name in ("rate_per_s", "seconds", "steps", "connections", "max_open"):
            _check(getattr(self, name) > 0, f"{name}: must be > 0")
        _check(0 <= self.warmup_s < self.seconds, "warmup_s: must be >= 0 and shorter than seconds")
        if self.peak_per_s is not None:
            _check(self.shape != "steady", 'peak_per_s: has no meaning with shape = "steady"')
            _check(self.peak_per_s > self.rate_per_s, "peak_per_s: must be above rate_per_s")

    @property
    def highest_per_s(self) -> float:
        if self.shape == "steady":
            return self.rate_per_s
        return self.peak_per_s if self.peak_per_s is not None else 3 * self.rate_per_s

    def schedule(self) -> list[Piece]:
        return pieces(
            self.shape,
            rate_per_s=self.rate_per_s,
            peak_per_s=self.highest_per_s,
            seconds=self.seconds,
            steps=self.steps,
        )


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run must keep to. None: not judged."""

    late_ms: float = 1_000.0
    """A message that takes longer is late."""

    p99_ms: float | None = None
    """Delivery, 99th percentile, warm-up left out."""

    max_lost: int | None = 0
    max_duplicate: int | None = 0
    max_reordered: int | None = 0
    max_damaged: int | None = 0
    max_unacknowledged: int | None = 0
    max_late_share: float | None = 0.001
    """Share of deliveries that may be late."""
    max_failed_share: float | None = 0.0
    """Share of requests that may be refused or stay without answer."""
    max_growth_mb_per_min: float | None = None
    """Growth of the server's memory, where it can be seen."""

    def __post_init__(self) -> None:
        _check(self.late_ms > 0, "late_ms: must be > 0")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            _check(value is None or value >= 0, f"{name}: must be >= 0")


class _Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scenario"):
    load: Load = Load()
    bounds: Bounds = Bounds()
    seed: int = 1
    """Of everything that is drawn by lot: the same seed asks for the same."""

    summary: ClassVar[str] = ""
    sessions: ClassVar[Sessions] = "json"

    @property
    def name(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def sockets(self) -> int:
        """Connections held at once."""
        return 0


class Fanout(_Scenario, frozen=True, tag="fanout"):
    """Messages to channels with many subscribers."""

    load: Load = Load(rate_per_s=200.0, seconds=15.0)
    subscribers: int = 1_000
    channels: int = 10
    namespace: str = "public"
    sessions: Sessions = "json"  # type: ignore[misc]  # what a kind of scenario may choose, others have
    """What subscribers speak: json (Centrifugo), binary (heartcast.v1) or sse."""
    payload_bytes: int = 120

    def __post_init__(self) -> None:
        _check(self.subscribers >= 1, "subscribers: must be >= 1")
        _check(1 <= self.channels <= self.subscribers, "channels: must be 1 to subscribers")
        _check(0 < self.payload_bytes <= 65_536, "payload_bytes: must be 1 to 65536")

    @property
    def sockets(self) -> int:
        return self.subscribers


class Push(_Scenario, frozen=True, tag="push"):
    """Pushes to users, acknowledged; some users are away, some connections break."""

    load: Load = Load(rate_per_s=500.0)
    users: int = 500
    template: str = "news_v2"
    payload_bytes: int = 120
    offline_share: float = 0.05
    """Users who come only after the load, and then must find everything."""
    churn_per_s: float = 5.0
    """Connections cut per second without a goodbye; each comes back and recovers."""
    batch: int = 1
    """Pushes per request."""
    burst: int = 1
    """Pushes to the same user that are due one after another."""
    sessions: Sessions = "json"  # type: ignore[misc]  # what a kind of scenario may choose, others have
    """What subscribers speak: json (Centrifugo), binary (heartcast.v1) or sse."""
    acknowledge: bool = True
    cumulative: bool = False
    """Whether a client acknowledges its place in the inbox, and with it all before, instead of each push."""
    ack_timeout_s: float = 5.0
    """How long arrivals and acknowledgements may take after the load."""

    def __post_init__(self) -> None:
        _check(self.users >= 1, "users: must be >= 1")
        _check(1 <= self.batch <= 1_000, "batch: must be 1 to 1000")
        _check(self.burst >= 1, "burst: must be >= 1")
        _check_share("offline_share", self.offline_share)
        _check(self.churn_per_s >= 0, "churn_per_s: must be >= 0")
        _check(self.ack_timeout_s > 0, "ack_timeout_s: must be > 0")
        _check(
            not (self.acknowledge and self.sessions == "sse"),
            'acknowledge: nothing goes back on an event stream; with sessions = "sse" it must be false',
        )
        _check(0 < self.payload_bytes <= 300, "payload_bytes: must be 1 to 300, the longest title")
        _check(
            not (self.offline_share == 1 and self.churn_per_s > 0),
            "churn_per_s: nobody is connected when offline_share is 1",
        )

    @property
    def sockets(self) -> int:
        return self.users


class Hearts(_Scenario, frozen=True, tag="hearts"):
    """Hearts given and taken back; at the end every count must be exact."""

    load: Load = Load(rate_per_s=1_000.0, seconds=15.0)
    targets: int = 1_000
    users: int = 10_000
    zipf: float = 1.0
    """Exponent: how much more the popular targets get; 0: all alike."""
    undo_share: float = 0.1
    batch: int = 1
    """Hearts per request."""

    def __post_init__(self) -> None:
        _check(self.targets >= 1, "targets: must be >= 1")
        _check(self.users >= 1, "users: must be >= 1")
        _check(self.zipf >= 0, "zipf: must be >= 0")
        _check_share("undo_share", self.undo_share)
        _check(1 <= self.batch <= 500, "batch: must be 1 to 500")


class Mixed(_Scenario, frozen=True, tag="mixed"):
    """The whole loop: hearts, live counts, the hot list, and a push to whoever was hearted."""

    load: Load = Load(rate_per_s=500.0)
    targets: int = 200
    users: int = 2_000
    zipf: float = 1.0
    undo_share: float = 0.1
    watchers: int = 200
    """Pages that show the live counts of the most popular targets."""
    push_share: float = 0.2
    """Hearts that are followed by a push to the target's author."""
    authors: int = 100
    ack_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("targets", "users", "authors", "watchers"):
            _check(getattr(self, name) >= 1, f"{name}: must be >= 1")
        _check_share("undo_share", self.undo_share)
        _check_share("push_share", self.push_share)

    @property
    def sockets(self) -> int:
        return self.watchers + self.authors


class Storm(_Scenario, frozen=True, tag="storm"):
    """Everybody's connection breaks at once; all come back and must have missed nothing."""

    load: Load = Load(rate_per_s=50.0, seconds=15.0)
    subscribers: int = 2_000
    channels: int = 20
    namespace: str = "feed"
    sessions: Sessions = "json"  # type: ignore[misc]  # what a kind of scenario may choose, others have
    """What subscribers speak: json (Centrifugo), binary (heartcast.v1) or sse."""
    at_s: float = 6.0
    """When the connections break, in seconds of the load."""
    share: float = 1.0
    within_s: float = 2.0
    """Clients come back at a random moment within so many seconds, as stock SDKs do."""
    payload_bytes: int = 120

    def __post_init__(self) -> None:
        _check(self.subscribers >= 1, "subscribers: must be >= 1")
        _check(1 <= self.channels <= self.subscribers, "channels: must be 1 to subscribers")
        _check_share("share", self.share)
        _check(0 < self.at_s < self.load.seconds, "at_s: must lie within load.seconds")
        _check(self.within_s >= 0, "within_s: must be >= 0")

    @property
    def sockets(self) -> int:
        return self.subscribers


class Slow(_Scenario, frozen=True, tag="slow"):
    """Some readers stall; the others must not notice, and nobody may lose without being told."""

    load: Load = Load(rate_per_s=200.0, seconds=15.0)
    subscribers: int = 200
    channels: int = 4
    namespace: str = "feed"
    sessions: Sessions = "json"  # type: ignore[misc]  # what a kind of scenario may choose, others have
    """What subscribers speak: json (Centrifugo), binary (heartcast.v1) or sse."""
    slow_share: float = 0.1
    at_s: float = 5.0
    stall_s: float = 5.0
    payload_bytes: int = 2_000

    def __post_init__(self) -> None:
        _check(self.subscribers >= 1, "subscribers: must be >= 1")
        _check(1 <= self.channels <= self.subscribers, "channels: must be 1 to subscribers")
        _check_share("slow_share", self.slow_share)
        _check(self.at_s + self.stall_s < self.load.seconds, "stall_s: must end within load.seconds")

    @property
    def sockets(self) -> int:
        return self.subscribers


class Soak(Push, frozen=True, tag="soak"):
    """Pushes for long, with an eye on the server's memory."""

    load: Load = Load(rate_per_s=200.0, seconds=600.0, warmup_s=60.0)
    bounds: Bounds = Bounds(max_growth_mb_per_min=5.0)


Scenario: TypeAlias = Fanout | Push | Hearts | Mixed | Storm | Slow | Soak

KINDS: dict[str, type[Scenario]] = {
    "push": Push,
    "fanout": Fanout,
    "hearts": Hearts,
    "mixed": Mixed,
    "storm": Storm,
    "slow": Slow,
    "soak": Soak,
}


def from_file(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        SettingsError: it cannot be read or says something wrong.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    kind = tree.pop("scenario", None)
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise SettingsError(f"{path}: scenario must be one of {known}, got {kind!r}")
    try:
        return of(kind, tree)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.detail}") from error


def of(kind: str, choices: dict[str, Any]) -> Scenario:
    """A scenario of a kind; ``choices`` are its fields, with ``load`` and ``bounds`` as tables.

    What a table does not say stays as that kind of scenario has it.

    Raises:
        SettingsError: a field does not exist, is of the wrong type, or contradicts another.
    """
    whole = {**choices, "scenario": kind}
    defaults = KINDS[kind]()
    for table, default in (("load", defaults.load), ("bounds", defaults.bounds)):
        if isinstance(whole.get(table, {}), dict):
            whole[table] = {**msgspec.to_builtins(default), **whole.get(table, {})}
    try:
        return msgspec.convert(whole, KINDS[kind])
    except msgspec.ValidationError as error:
        raise SettingsError(_explained(str(error))) from None


_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$")


def _explained(message: str) -> str:
    at = _AT.search(message)
    path = f"{at[1]}." if at and at[1] else ""
    said = message[: at.start()] if at else message
    if unknown := _UNKNOWN.match(said):
        return f"{path}{unknown[1]}: there is no such key"
    if re.match(r"^[a-z_.]+: ", said):
        return path + said
    return f"{path.rstrip('.')}: {said[:1].lower()}{said[1:]}"
