"""``heartcast bench capacity`` measures; ``heartcast capacity`` says how many nodes that means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from heartcast.cli.bench import target_flags, target_of
from heartcast.core.clock import SystemClock
from heartcast.loadtest import capacity as model
from heartcast.loadtest.bench import on_a_loop
from heartcast.loadtest.sweep import ROUNDS, loads

DEFAULT_FILE = "capacity.json"


@click.command("capacity")
@click.option("--of", type=click.Choice(["push", "hearts", "publish"]), default="push", show_default=True)
@click.option(
    "--largest", type=int, default=32, show_default=True, help="Most requests in flight in the fit."
)
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Length of each load.")
@click.option(
    "--json", "json_", type=click.Path(dir_okay=False, path_type=Path), help="Keep it for planning."
)
@target_flags
def bench_capacity(of: str, largest: int, seconds: float, json_: Path | None, **flags: Any) -> None:
    """Keep more and more requests in flight, fit how far that scales, check it by a held-out load."""
    console = Console()
    target = target_of(flags)
    total = ROUNDS * (len(loads(largest)) + 1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=total)
        found = on_a_loop(
            lambda: model.measure(
                target,
                SystemClock(),
                of=of,
                largest=largest,
                seconds=seconds,
                on_step=lambda step: progress.advance(task),
            )
        )
    _show(found, console)
    if json_ is not None:
        model.write(found, json_)
        console.print(
            f"  · kept in {json_}; plan with: heartcast capacity --qps 100000 --p99 50", highlight=False
        )


def _show(found: model.Capacity, console: Console) -> None:
    law, last = found.law, found.steps[-1]
    for step in [*found.steps, found.hold_out]:
        console.print(
            f"  {step.n:>4} in flight  {step.per_s:>9,.0f}/s  mean {step.mean_ms:.2f} ms  "
            f"p99 {step.p99_ms:.2f} ms",
            highlight=False,
        )
    console.print(f"\n[dim]{found.machine}[/dim]", highlight=False)
    table = Table(box=None, padding=(0, 2))
    for column in ("model", "says", "from"):
        table.add_column(column)
    if found.cpu_ms is not None:
        safe = model.formula_per_s(1, found.cpu_ms)
        table.add_row(
            "formula",
            f"{safe:,.0f}/s a core",
            f"1 x 0.7 / {found.cpu_ms:.3f} ms x 1000, with 30 % in reserve",
        )
    else:
        table.add_row("formula", "-", "the server's processor time cannot be seen from here")
    flight = model.in_flight(last.per_s, last.mean_ms)
    table.add_row("Little", f"{flight:.1f} in flight", f"{last.per_s:,.0f}/s x {last.mean_ms:.2f} ms")
    ranges = found.intervals
    n, best = law.best
    peak = f"peak at N = {law.peak_n:.0f}" if law.peak_n is not None else "no peak"
    table.add_row("USL", f"{best:,.0f}/s at N = {n:.0f}", f"{peak}; speaks up to N = {2 * law.largest_n:g}")
    table.add_row("  scatter", f"{found.scatter:.1%}", "how far the loads above lie from the law")
    for name, value, interval in (
        ("  gamma", law.gamma, ranges.gamma),
        ("  alpha", law.alpha, ranges.alpha),
        ("  beta", law.beta, ranges.beta),
    ):
        table.add_row(name, f"{value:.5g}", f"95 %: {interval.low:.5g} to {interval.high:.5g}")
    console.print(table)
    console.print(
        f"  held out: {found.hold_out.n} in flight measured {found.hold_out.per_s:,.0f}/s, "
        f"predicted {found.predicted_per_s:,.0f}/s ({found.miss:+.1%})",
        highlight=False,
    )
    waited = max(step.waited for step in [*found.steps, found.hold_out])
    if waited > 0.05:
        console.print(
            f"  · Other programs had a core for up to {waited:.0%} of a load; that time is left out.",
            style="dim",
        )
    if any(step.tester_cpu > 0.85 for step in [*found.steps, found.hold_out]):
        console.print("  · The tester itself was busy: the server may take more than this says.", style="dim")


@click.command()
@click.option("--qps", type=float, required=True, help="Requests per second to carry.")
@click.option("--p99", type=float, default=50.0, show_default=True, help="Bound in milliseconds.")
@click.option("--headroom", type=float, default=model.HEADROOM, show_default=True, help="Share to plan with.")
@click.option("--from", "file", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
def capacity(qps: float, p99: float, headroom: float, file: Path) -> None:
    """How many nodes carry a load, after a measurement by 'heartcast bench capacity --json capacity.json'."""
    found = model.read(file)
    plan = model.plan(found, per_s=qps, p99_ms=p99, headroom=headroom)
    console = Console(highlight=False)
    noun = "node" if plan.nodes == 1 else "nodes"
    console.print(f"[bold]{plan.nodes:,} {noun}[/bold] for {qps:,.0f} requests/s with a p99 of {p99:g} ms")
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_row("a node is planned with", f"{plan.per_node:,.0f}/s", f"{headroom:.0%} of {plan.by}")
    table.add_row("measured within the bound", f"{plan.measured_per_s:,.0f}/s", "")
    table.add_row(
        "the law's best", f"{plan.usl_per_s:,.0f}/s", f"missed the held-out load by {found.miss:+.1%}"
    )
    if plan.formula_per_s is not None:
        table.add_row("the linear formula", f"{plan.formula_per_s:,.0f}/s", "one process on one core")
    table.add_row(
        "in flight per node", f"{plan.in_flight:.1f}", "Little: what a limit of concurrency must allow"
    )
    console.print(table)
    console.print(f"  measured {found.began_at[:10]} on {found.machine}", style="dim")
