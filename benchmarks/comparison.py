"""docs/benchmarks.md: where heartcast is ahead of its peers, where it is behind, and why.

The sentences are written here, the figures and which sentences apply come from
``results/peers.json``: a reason for being ahead is only given where the last run was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

OURS = "heartcast"
LEVEL = 0.10
"""Ratios this near to 1 differ from run to run."""
_SATURATED = 0.9
"""A process of subscribers that used this much of its core measured itself."""


class Measure(NamedTuple):
    """One thing that is compared; less is better."""

    load: str
    field: str
    unit: str
    what: str
    ahead: str
    behind: str


MEASURES = (
    Measure(
        "lively",
        "cpu_us_per_delivery",
        "µs",
        "processor time per delivery, lively channel",
        "What is published within one tick is framed once and reaches each subscriber in one write, so the "
        "cost of a system call is shared by several messages; most peers write each message by itself.",
        "A delivery crosses Python once per subscriber and tick; a server in C or Go pays less for it where "
        "it gathers as well.",
    ),
    Measure(
        "lively",
        "p99_ms",
        "ms",
        "latency (p99) from the due moment, lively channel",
        "Cheaper deliveries leave the core idle between messages, so none waits behind another. A peer at "
        "seconds here was past its knee: its core could not follow this load.",
        "A tick gathers, and what is gathered waits: heartcast gives up some milliseconds of latency for "
        "throughput when a channel is lively.",
    ),
    Measure(
        "quiet",
        "cpu_us_per_delivery",
        "µs",
        "processor time per delivery, quiet channel",
        "Each message is framed once for all, and a subscriber is one small object with one write to its "
        "socket, without a library between.",
        "With nothing to gather, what is left is one write per subscriber: the kernel's part is the same for "
        "all, and Python's part is more than that of C.",
    ),
    Measure(
        "quiet",
        "p99_ms",
        "ms",
        "latency (p99) from the due moment, quiet channel",
        "A message that comes alone leaves at once, and the last subscriber's wait is the cost of all those "
        "before.",
        "The last of a thousand subscribers waits for all writes before its own.",
    ),
    Measure(
        "quiet",
        "kb_per_connection",
        "KB",
        "resident memory per subscribed connection",
        "No buffers and no library objects are kept per socket while nothing is under way.",
        "Session, subscription and transport are Python objects; C keeps a few fields, and plain MQTT needs "
        "no state of WebSockets.",
    ),
    Measure(
        "ingest",
        "cpu_us_per_request",
        "µs",
        "processor time per push taken by POST",
        "One table of routes, no middleware, a typed decoder, and heads of requests that were seen before "
        "are not parsed again.",
        "heartcast also carries each push through its gates into the inbox of a user who is away, which is "
        "in its figure; the peers count and forget.",
    ),
)


class Standing(NamedTuple):
    measure: Measure
    ratios: dict[str, float]
    """Peer to heartcast's figure / the peer's; below 1: heartcast is ahead."""


def standings(figures: dict[str, Any]) -> list[Standing]:
    """Every measure with its ratios. A peer that lost deliveries or had no figure is left out."""
    servers = figures["servers"]
    found = []
    for measure in MEASURES:
        values = {name: value for name, row in servers.items() if (value := _value(row, measure))}
        if OURS in values:
            ours = values.pop(OURS)
            found.append(Standing(measure, {name: ours / value for name, value in values.items()}))
    return found


def _value(row: dict[str, Any], measure: Measure) -> float | None:
    part = row.get(measure.load)
    if part is None or part.get("delivered") != part.get("of"):
        return None
    value: float = part[measure.field]
    return value


def page(result: dict[str, Any]) -> list[str]:
    """Lines of the comparison."""
    figures = result["figures"]
    found = standings(figures)
    return [
        f"`{result['command']}` on {result['machine']};",
        "`make bench-peers` makes it where you are. One server after another, each with one event loop or",
        "worker, its subscribers and its publisher beside it on the same machine.",
        f"Ratios within {LEVEL:.0%} of 1 differ from run to run and count as level.",
        "",
        "### Ahead",
        "",
        *_side(found, lambda ratio: ratio < 1 - LEVEL, "ahead"),
        "### Behind",
        "",
        *_side(found, lambda ratio: ratio > 1 + LEVEL, "behind"),
        "### Level",
        "",
        *(_level(found) or ["Nowhere in this run.", ""]),
        *_fanout(figures, "lively", "One lively channel"),
        *_fanout(figures, "quiet", "One quiet channel"),
        *_ingest(figures),
        *_skipped(figures),
        *_LIMITS,
    ]


def _side(found: list[Standing], holds: Any, side: str) -> list[str]:
    lines = []
    for measure, ratios in found:
        named = {name: ratio for name, ratio in ratios.items() if holds(ratio)}
        if named:
            lines += [f"- **{_upper(measure.what)}**: {_named(named)}. {getattr(measure, side)}"]
    return [*(lines or ["Nowhere in this run."]), ""]


def _level(found: list[Standing]) -> list[str]:
    lines = []
    for measure, ratios in found:
        named = [name for name, ratio in ratios.items() if abs(ratio - 1) <= LEVEL]
        if named:
            lines.append(f"- {_upper(measure.what)}: {', '.join(named)}.")
    return [*lines, ""] if lines else []


def _named(ratios: dict[str, float]) -> str:
    """Each peer with how many times the one is the other, the nearest first."""
    nearest = sorted(ratios.items(), key=lambda item: max(item[1], 1 / item[1]))
    return ", ".join(f"{name} {_times(max(ratio, 1 / ratio))}" for name, ratio in nearest)


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:,.0f}x"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _fanout(figures: dict[str, Any], load: str, title: str) -> list[str]:
    shape = figures[load]
    lines = [
        f"### {title}",
        "",
        f"{shape['subscribers']:,} subscribers, {shape['per_s']} messages per second of 128 bytes, "
        f"{shape['messages'] / shape['per_s']:.0f} s.",
        "",
        "| server | delivered | p50 | p99 | CPU per delivery | memory per connection |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = dict(_rows(figures, load))
    for name, row in rows.items():
        mark = " *" if row["subscriber_cpu"] >= _SATURATED else ""
        lines.append(
            f"| {name} | {row['delivered'] / row['of']:.0%} | {row['p50_ms']:,.1f} ms{mark} "
            f"| {row['p99_ms']:,.1f} ms{mark} | {row['cpu_us_per_delivery']:.1f} µs "
            f"| {row['kb_per_connection']:.1f} KB |"
        )
    if any(row["subscriber_cpu"] >= _SATURATED for row in rows.values()):
        lines += ["", "\\* The subscribers' own core was full: these latencies are partly theirs."]
    if any(row["delivered"] < row["of"] for row in rows.values()):
        lines += ["", "Less than 100 %: not all had arrived after 60 s, and nothing is compared with it."]
    return [*lines, ""]


def _ingest(figures: dict[str, Any]) -> list[str]:
    lines = [
        "### A push by POST",
        "",
        "64 connections, each posts again when it is answered, until the server is done with all.",
        "",
        "| server | per second | p50 | p99 | CPU per request |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in _rows(figures, "ingest"):
        lines.append(
            f"| {name} | {row['sustained_per_s']:,} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms "
            f"| {row['cpu_us_per_request']:.1f} µs |"
        )
    return [*lines, ""]


def _rows(figures: dict[str, Any], load: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, row in figures["servers"].items():
        if load in row:
            version = "" if row["version"].lower().startswith(name.lower()) else f"{name} "
            yield f"{version}{row['version']}", row[load]


def _skipped(figures: dict[str, Any]) -> list[str]:
    lines = [f"- {name}: {row['skipped']}" for name, row in figures["servers"].items() if "skipped" in row]
    return ["### Not measured in this run", "", *lines, ""] if lines else []


_LIMITS = [
    "### What this does not show",
    "",
    "- More than one core. NATS was held to one (`GOMAXPROCS=1`) and nginx to one worker; both use more",
    "  by themselves, heartcast by more processes.",
    "- Networks. Everything runs over loopback.",
    "- The same work. Nchan keeps the last hundred messages of the channel, the others and heartcast's",
    "  `public:` keep none. Mosquitto speaks plain MQTT over TCP, without WebSocket frames. Of pushes taken",
    "  by POST heartcast keeps each in an inbox; the servers in Python and Node forget them.",
    "",
]
