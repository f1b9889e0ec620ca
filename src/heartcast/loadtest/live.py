"""The terminal: a panel that lives while the load runs, and the verdict at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from heartcast.loadtest.meter import Quantiles
from heartcast.loadtest.report import Report
from heartcast.loadtest.run import Second
from heartcast.loadtest.scenario import Scenario
from heartcast.loadtest.target import Target
from heartcast.loadtest.verdict import Ledger

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 32
_BAD = ("lost", "duplicate", "reordered", "damaged", "unacknowledged")
_FACTS = ("late", "recovered", "redelivered", "told")


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """The last ``width`` values as bars; the highest is a full one."""
    shown = values[-width:]
    top = max(shown, default=0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[round(max(0.0, value) / top * (len(_BARS) - 1))] for value in shown)


class Followed(Protocol):
    """A load that can be watched."""

    @property
    def target(self) -> Target: ...
    @property
    def scenario(self) -> Scenario: ...
    @property
    def seconds(self) -> list[Second]: ...
    @property
    def ledger(self) -> Ledger: ...


class LiveView:
    """Shows a run while it happens; nothing where the output is no terminal.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = "connecting"
        self._run: Followed | None = None
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def follow(self, run: Followed) -> None:
        self._run = run

    def phase(self, sentence: str) -> None:
        self._phase = sentence
        self._show()

    def second(self, second: Second) -> None:
        self._phase = ""
        self._show()

    def _show(self) -> None:
        if self._run is not None and self._live.is_started:
            self._live.update(self._panel(self._run))

    def _panel(self, run: Followed) -> RenderableType:
        seconds = run.seconds
        title = f"heartcast bench {run.scenario.name} → {run.target.url}"
        if not seconds:
            return Panel(Text(self._phase), title=title, border_style="cyan")
        last, load = seconds[-1], run.scenario.load
        table = Table.grid(padding=(0, 2))
        for name, read, unit in _ROWS:
            values = [read(second) for second in seconds]
            present = values[-1]
            shown = "-" if present is None else f"{present:,.{0 if abs(present) >= 100 else 1}f} {unit}"
            table.add_row(
                name, Text(shown, justify="right"), Text(sparkline([v or 0 for v in values]), "cyan")
            )
        counts = run.ledger.counts
        verdict = Text.assemble(
            *[
                (f"{counts[kind]:,} {kind}  ", "bold red" if kind in _BAD and counts[kind] else "dim")
                for kind in (*_BAD, *_FACTS)
            ]
        )
        bar = ProgressBar(total=load.seconds, completed=min(load.seconds, last.at_s + 1), width=_WIDTH + 20)
        return Panel(Group(bar, table, verdict, Text(self._phase, "dim")), title=title, border_style="cyan")


_ROWS: tuple[tuple[str, Callable[[Second], float | None], str], ...] = (
    ("offered", lambda s: s.offered, "/s"),
    ("delivered", lambda s: s.delivered, "/s"),
    ("request p99", lambda s: s.requests.p99_ms, "ms"),
    ("delivery p50", lambda s: s.deliveries.p50_ms, "ms"),
    ("delivery p99", lambda s: s.deliveries.p99_ms, "ms"),
    ("listening", lambda s: s.listening, ""),
    ("server CPU", lambda s: None if s.server_cpu is None else s.server_cpu * 100, "%"),
    ("server memory", lambda s: None if s.server_rss_bytes is None else s.server_rss_bytes / 1e6, "MB"),
    ("tester CPU", lambda s: s.tester_cpu * 100, "%"),
)


def show(report: Report, console: Console) -> None:
    """The verdict, for people."""
    console.print()
    title = f"heartcast bench {report.scenario}"
    console.print(Text.assemble((title, "bold"), f"  {report.url}  {report.took_s:.0f} s"))
    console.print(Text(report.machine, "dim"))
    console.print(_figures(report))
    console.print(_usage(report))
    for check in report.checks:
        console.print(
            Text.assemble(("  ✓ ", "green") if check.is_met else ("  ✗ ", "bold red"), check.sentence)
        )
    for kind in (*_BAD, "late"):
        for example in report.examples[kind][:3]:
            where = f"{example.stream} " if example.stream != "?" else ""
            number = f"number {example.sequence} " if example.sequence is not None else ""
            console.print(
                Text(f"      {kind}: {where}{number}at {example.at_s:.2f} s, session {example.session} "
                     f"{example.detail}".rstrip(), "red"),
            )  # fmt: skip
    for note in report.notes:
        console.print(Text(f"  · {note}", "dim"))
    for what, reasons in (
        ("connections closed by the server", report.closes),
        ("attempts to connect or subscribe that failed", report.failures),
    ):
        if reasons:
            said = ", ".join(f"{reason} ({n:,})" for reason, n in reasons.items())
            console.print(Text(f"  · {what}: {said}", "dim"))
    console.print(_verdict(report))


def _figures(report: Report) -> Table:
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for column in ("ms", "per s", "mean", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if column == "ms" else "right", no_wrap=True)
    rows: list[tuple[str, float | None, Quantiles]] = [
        ("requests", report.answered_per_s, report.requests),
        ("deliveries", report.delivered_per_s, report.deliveries),
        ("connecting", None, report.openings),
    ]
    for name, per_s, quantiles in rows:
        if quantiles.count:
            said = f"{per_s:,.0f}" if per_s is not None else ""
            table.add_row(Text(name, "bold"), said, *_milliseconds(quantiles))
    return table


def _usage(report: Report) -> Text:
    tester = report.tester
    lag = f", sends {tester.lag_p99_ms:.1f} ms late (p99)" if tester.lag_p99_ms is not None else ""
    said = f"  tester: {tester.cpu_mean:.0%} of a core{lag}"
    if report.server_cpu_mean is not None:
        each = report.server_cpu_per_message_us
        memory = f", {report.server_rss_last_bytes / 1e6:.0f} MB" if report.server_rss_last_bytes else ""
        server = f"  server: {report.server_cpu_mean:.0%} of a core{memory}"
        said = server + (f", {each:,.0f} µs a message" if each else "") + "\n" + said
    return Text(said)


def _milliseconds(quantiles: Quantiles) -> list[str]:
    values = (
        quantiles.mean_ms,
        quantiles.p50_ms,
        quantiles.p90_ms,
        quantiles.p99_ms,
        quantiles.p999_ms,
        quantiles.max_ms,
    )
    return [f"{value:,.1f}" if value is not None else "-" for value in values]


def _verdict(report: Report) -> Text:
    counted = f"{report.delivered:,} of {report.owed:,} delivered"
    extra = ", ".join(f"{report.counts[kind]:,} {kind}" for kind in _FACTS if report.counts[kind])
    said = f"{counted}{'; ' + extra if extra else ''}"
    if report.ended_by is not None:
        return Text.assemble(("  INCOMPLETE  ", "bold white on red"), f"  {report.ended_by}. {said}")
    if report.is_passed:
        return Text.assemble(("  PASSED  ", "bold white on green"), f"  {said}")
    return Text.assemble(("  FAILED  ", "bold white on red"), f"  {said}")
