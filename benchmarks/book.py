"""The figures in README and docs, written from the JSON in ``results/`` and never by hand."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import comparison, heart_sizes, reuse

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OURS = (
    "ingest",
    "fanout",
    "latency",
    "hearts",
    "heart_routes",
    "stores_http",
    "push",
    "ranking",
    "identity",
    "resilience",
    "overload",
    "tester",
    "outbox",
    "track",
    "reuse",
    "ring",
    "failover",
    "acknowledged",
    "backlog",
    "webhooks",
)
"""The benchmarks, each a module with ``run()`` and a file of the same name in ``results/``."""
NAMES = (*OURS, "heart_sizes", "peers")
"""With the one that fills a disk and the one that needs other people's servers."""

_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


def _load(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    loaded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return loaded


def _summary() -> list[tuple[str, str, str]]:
    """What the README shows: claim, figure, command."""
    rows: list[tuple[str, str, str]] = []

    def add(name: str, claim: str, figure: Callable[[Any], str]) -> None:
        if result := _load(name):
            rows.append((claim, figure(result["figures"]), result["command"]))

    add("ingest", "Hearts over HTTP, in memory, live counts and hot list on", _ingest("hearts_in_memory"))
    add("ingest", "Hearts over HTTP, durable (SQLite, `synchronous=FULL`)", _ingest("hearts_durable"))
    add(
        "ingest", "Pushes over HTTP, accepted and taken through gates into inboxes", _ingest("push_in_memory")
    )
    add("ingest", "The same, with a `traceparent` in each", _ingest("push_traced_in_memory"))
    for case, claim in _ACKNOWLEDGED.items():
        add("acknowledged", f"From `POST` to acknowledgement, 9,000 clients, {claim}", _acknowledged(case))
    add("backlog", "A backlog of 1,000,000 pushes to connected users, while 12,000/s arrive", _backlog)
    add("webhooks", "POSTs to a webhook for 10,000 pushes, half answered 503, merged and alone", _webhooks)
    add("push", "Memory per waiting push, its payload of 28 bytes included", _queued_bytes)
    add("fanout", "One channel, 2,000 subscribers, 500 messages/s", _fanout("500_per_s"))
    add("fanout", "One channel, 2,000 subscribers, 50 messages/s", _fanout("50_per_s"))
    add(
        "fanout",
        "A lone message, 2,000 subscribers",
        lambda f: f"p99 {f['lone_message_to_all']['p99_ms']} ms",
    )
    add("fanout", "A lone message, one subscriber", lambda f: f"p99 {f['lone_message_to_one']['p99_ms']} ms")
    add(
        "fanout", "Memory per idle subscribed WebSocket", lambda f: f"{f['50_per_s']['kb_per_connection']} KB"
    )
    add(
        "latency",
        "A push on an idle server, `POST` to the client's socket",
        lambda f: f"p99 {f['p99_ms']} ms",
    )
    return rows


def _ingest(name: str) -> Callable[[Any], str]:
    return lambda f: f"{f[name]['sustained_per_s']:,}/s, {f[name]['cpu_us_per_request']} µs CPU each"


_ACKNOWLEDGED = {
    "single": "one push a request",
    "batches_of_100": "100 a request, to different users",
    "bursts_of_20": "1,000 a request, 20 to each user, acknowledged together",
    "single_sqlite": "one a request, SQLite",
    "single_valkey": "one a request, Valkey on the same cores",
}


def _acknowledged(case: str) -> Callable[[Any], str]:
    def figure(figures: Any) -> str:
        found = figures[case]
        if "pushes" not in found:
            beyond = found["beyond"]
            return f"not kept up with {beyond['offered_per_s']:,}/s: {beyond['delivered_per_s']:,}/s"
        by = f"; beyond it the {found['limited_by']} is at its end" if "limited_by" in found else ""
        return f"{found['offered_per_s']:,}/s, mean {found['mean_ms']} ms, p99 {found['p99_ms']} ms{by}"

    return figure


def _backlog(figures: Any) -> str:
    found = figures["connected"]
    return f"{found['left_per_s']:,}/s leave, {found['recovery']}x what arrives"


def _webhooks(figures: Any) -> str:
    merged, alone = figures["storm_merged"], figures["storm_alone"]
    return f"{merged['posts']:,} and {alone['posts']:,}; all delivered {merged['recovery_s']} s after it"


def _queued_bytes(figures: Any) -> str:
    return f"{figures['queued_bytes_per_push']:.0f} bytes"


def _fanout(name: str) -> Callable[[Any], str]:
    return lambda f: f"{f[name]['cpu_us_per_delivery']} µs CPU per delivery, p99 {f[name]['p99_ms']} ms"


def summary() -> str:
    """The table for the README, with its machine line."""
    rows = _summary()
    lines = ["| what | measured | command |", "|---|---|---|"]
    lines += [f"| {claim} | {figure} | `{command}` |" for claim, figure, command in rows]
    commands = {command for _, _, command in rows}
    results = [result for name in NAMES if (result := _load(name))]
    machines = sorted({result["machine"] for result in results if result["command"] in commands})
    lines += [
        "",
        *(f"Machine: {machine}, with the load generator on the same machine." for machine in machines),
    ]
    return "\n".join(lines)


def page() -> str:
    """The whole of docs/reference/benchmarks.md."""
    parts = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks` from `benchmarks/results/*.json`; do not edit.",
        "The server's CPU per operation is what compares across machines; rates depend on the load",
        "generator beside it.",
        "",
        summary(),
    ]
    for name in NAMES:
        if result := _load(name):
            shown = json.dumps(result["figures"], indent=2)
            parts += [
                "",
                f"## {name}",
                "",
                f"`{result['command']}` on {result['machine']}",
                "",
                "```json",
                shown,
                "```",
            ]
    return "\n".join(parts) + "\n"


def book() -> str:
    """The whole of docs/benchmarks.md: heartcast by itself, beside its peers, and what measures what."""
    parts = [
        "# How fast heartcast is, and against what",
        "",
        "<!-- Written by `python -m benchmarks` from benchmarks/results/*.json; do not edit. -->",
        "",
        "Every figure here was written by a program in `benchmarks/` and can be made again by its command.",
        "The server's processor time per operation compares across machines; rates and latencies share",
        "theirs with the program that makes the load. All figures are in the",
        "[reference](reference/benchmarks.md).",
        "",
        "## By itself",
        "",
        summary(),
        "",
    ]
    if peers := _load("peers"):
        parts += ["## Beside its peers", "", *comparison.page(peers)]
    if reused := _load("reuse"):
        parts += ["## Reusing objects, and the collector", "", *reuse.page(reused)]
    if sizes := _load("heart_sizes"):
        parts += ["## Ten million hearts in one file", "", *heart_sizes.page(sizes)]
    parts += ["## What measures what", "", "| what | command | machine |", "|---|---|---|"]
    for name in NAMES:
        if result := _load(name):
            parts.append(f"| {_purpose(name)} | `{result['command']}` | {result['machine']} |")
    return "\n".join(parts) + "\n"


def _purpose(name: str) -> str:
    """The first sentence of a benchmark's docstring, read and not run."""
    folder = ROOT / "benchmarks"
    path = folder / f"{name}.py" if (folder / f"{name}.py").exists() else folder / name / "__init__.py"
    essay = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(essay.partition("\n\n")[0].split()).removesuffix(".")


def with_figures(text: str) -> str:
    """``text`` with the part between its two markers renewed."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{summary()}\n{_END}{after}"


def renew() -> None:
    """Write the figures into README and docs."""
    readme = ROOT / "README.md"
    readme.write_text(with_figures(readme.read_text()))
    (ROOT / "docs" / "reference" / "benchmarks.md").write_text(page())
    (ROOT / "docs" / "benchmarks.md").write_text(book())
