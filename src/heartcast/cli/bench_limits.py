"""``heartcast bench limits``: ways of limiting compared, and libraries beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from heartcast.core.errors import HeartcastError

if TYPE_CHECKING:
    from heartcast.resilience.compare.report import Report

_LEAST_WIDTH = 120


@click.command("limits")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the raw figures."
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("limits.png"),
    show_default=True,
    help="Where to draw the picture; needs the extra bench.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=25, show_default=True, help="More is steadier."
)
def limits(json_path: Path | None, plot_path: Path, rounds: int) -> None:
    """Compare sliding window, token bucket and leaky bucket, and the libraries that have them."""
    from heartcast.resilience.compare import picture
    from heartcast.resilience.compare import report as comparison

    report = comparison.measure(rounds=rounds)
    console = Console()
    if console.width < _LEAST_WIDTH and not console.is_terminal:
        # A pipe has no width of its own; narrower than this every cell would be folded.
        console = Console(width=_LEAST_WIDTH)
    _show(console, report)
    if json_path is not None:
        _write(json_path, report)
    try:
        picture.plot(report, plot_path)
    except ImportError:
        console.print("No picture: matplotlib is not installed; it comes with the extra bench.")
    except OSError as error:
        raise HeartcastError(f"cannot write {plot_path}: {error}", code="output_unwritable") from error
    else:
        console.print(f"Drawn: {plot_path}")


def _write(path: Path, report: Report) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    except OSError as error:
        raise HeartcastError(f"cannot write {path}: {error}", code="output_unwritable") from error


def _show(console: Console, report: Report) -> None:
    console.print(f"{report.python}, {report.machine}; one thread")
    table = Table(title="1000 requests/s against a limit of 1000/s, with a burst of 500 ms at 5000/s")
    headings = ("", "admitted/s", "of the burst", "worst second", "P99 wait ms", "decision ns", "bytes/key")
    for column in headings:
        table.add_column(column, justify="left" if not column else "right")
    for row in report.algorithms:
        table.add_row(
            row.algorithm,
            f"{row.admitted_per_s:.0f}",
            f"{row.burst_admitted} of {row.burst_offered}",
            str(row.worst_second),
            f"{row.wait_p99_ms:.1f}",
            f"{row.decision_ns:.0f}",
            f"{row.bytes_per_key:.0f}",
        )
    console.print(table)
    _show_costs(console, "An admitted decision", report.limiters_ns)
    _show_costs(console, "A refusal, as a value", report.refusals_ns)
    _show_costs(console, "A good call through a closed breaker", report.breakers_ns)
    if report.missing:
        console.print(f"Not installed, so not compared: {', '.join(report.missing)} (extra bench)")


def _show_costs(console: Console, title: str, costs_ns: dict[str, float]) -> None:
    table = Table(title=title)
    for column in ("", "µs", "times ours"):
        table.add_column(column, justify="left" if not column else "right")
    ours = next(iter(costs_ns.values()))
    for name, cost_ns in costs_ns.items():
        table.add_row(name, f"{cost_ns / 1000:.2f}", f"{cost_ns / ours:.1f}")
    console.print(table)
