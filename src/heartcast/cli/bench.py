"""``heartcast bench``: load from outside, and a verdict on what arrived."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from heartcast.core.errors import InvalidInput
from heartcast.loadtest import page
from heartcast.loadtest import report as reports
from heartcast.loadtest.bench import bench as run_bench
from heartcast.loadtest.bench import on_a_loop
from heartcast.loadtest.crew import bench_with
from heartcast.loadtest.live import LiveView, show
from heartcast.loadtest.scenario import KINDS, Scenario, from_file, of
from heartcast.loadtest.target import Target

Command = TypeVar("Command", bound=Callable[..., Any])

# In files of their own; imported when they are asked for.
_MORE = {
    "capacity": ("heartcast.cli.capacity", "bench_capacity", "Sweep the load and fit how far it scales."),
    "limits": ("heartcast.cli.bench_limits", "limits", "Compare rate limiters."),
}


class _Bench(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *_MORE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MORE:
            return self.commands.get(cmd_name)
        module, attribute, _ = _MORE[cmd_name]
        __import__(module)
        command: click.Command = getattr(sys.modules[module], attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*rows, *((name, summary) for name, (_, _, summary) in _MORE.items())])


@click.group(cls=_Bench)
def bench() -> None:
    """Put load on a heartcast and prove what arrived.

    \b
    heartcast bench push
    heartcast bench fanout --subscribers 5000 --rate 500
    heartcast bench run scenario.toml --json report.json --html report.html
    """


def target_flags(command: Command) -> Command:
    """Where the server is, and what opens it."""
    for flag in (
        click.option("--ca", default="", help="File of the CA that signed the server's certificate."),
        click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
        click.option(
            "--secret", default="", envvar="HEARTCAST_AUTH__JWT_SECRET", help="Key of users' tokens."
        ),
        click.option("--api-key", default="", help="Key of one of your servers."),
        click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The server."),
    ):
        command = flag(command)
    return command


def report_flags(command: Command) -> Command:
    """What to do with the outcome."""
    for flag in (
        click.option("--profile", is_flag=True, help="Put a flame graph of a local server into --html."),
        click.option(
            "--processes",
            type=int,
            default=1,
            show_default=True,
            help="Make the load from so many processes, each with its share.",
        ),
        click.option("--source", "sources", multiple=True, help="Address to connect from; may be repeated."),
        click.option(
            "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots."
        ),
        click.option(
            "--json", "json_", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
        ),
    ):
        command = flag(command)
    return command


def target_of(flags: dict[str, Any]) -> Target:
    return Target.parse(
        flags["url"],
        api_key=flags["api_key"],
        secret=flags["secret"],
        verify_tls=not flags["insecure"],
        ca=flags["ca"],
    )


_LOAD_FLAGS = (
    click.option("--rate", "load__rate_per_s", type=float, help="Messages due per second."),
    click.option("--peak", "load__peak_per_s", type=float, help="Highest rate of the other shapes."),
    click.option("--shape", "load__shape", type=click.Choice(["steady", "ramp", "step", "spike", "sweep"])),
    click.option("--arrivals", "load__arrivals", type=click.Choice(["poisson", "constant"])),
    click.option("--seconds", "load__seconds", type=float, help="Length of the load, warm-up included."),
    click.option("--warmup", "load__warmup_s", type=float, help="Seconds whose latencies do not count."),
    click.option("--connections", "load__connections", type=int, help="HTTP connections."),
    click.option("--late-ms", "bounds__late_ms", type=float, help="Later than this is late."),
    click.option("--p99-ms", "bounds__p99_ms", type=float, help="Fail when the p99 is above."),
    click.option("--seed", type=int, help="Of everything drawn by lot."),
)

_TYPES: dict[object, Any] = {int: int, float: float, str: str, bool: bool}


def _own_flags(kind: type[Scenario]) -> list[Callable[[Command], Command]]:
    """A flag for every field of this kind of scenario that is a plain value."""
    defaults = kind()
    flags = []
    for name in kind.__struct_fields__:
        value = getattr(defaults, name)
        if name == "seed" or type(value) not in _TYPES:
            continue
        flag = name.replace("_", "-")
        spelling = f"--{flag}/--no-{flag}" if isinstance(value, bool) else f"--{flag}"
        flags.append(
            click.option(spelling, name, type=_TYPES[type(value)], default=None, help=f"[default: {value:g}]"
                         if isinstance(value, float) else f"[default: {value}]")
        )  # fmt: skip
    return flags


def _command(name: str, kind: type[Scenario]) -> click.Command:
    def run(**flags: Any) -> None:
        _go(of(name, _tree(flags)), flags)

    command: Any = report_flags(target_flags(run))
    for flag in reversed([*_own_flags(kind), *_LOAD_FLAGS]):
        command = flag(command)
    made: click.Command = click.command(name, help=kind.__doc__)(command)
    return made


def _tree(flags: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        table, _, field = name.rpartition("__")
        if value is None or name in _NOT_OF_SCENARIO:
            continue
        if table:
            tree.setdefault(table, {})[field] = value
        else:
            tree[name] = value
    return tree


_NOT_OF_SCENARIO = {
    "url",
    "api_key",
    "secret",
    "insecure",
    "ca",
    "json_",
    "html",
    "sources",
    "profile",
    "processes",
}


def _go(scenario: Scenario, flags: dict[str, Any]) -> None:
    console = Console()
    target = target_of(flags)
    flames: list[str] = []
    if flags["profile"] and flags["html"] is None:
        raise InvalidInput("--profile needs --html: that is where the flame graph goes")
    if flags["profile"] and flags["processes"] > 1:
        raise InvalidInput("--profile looks on from one process: leave out --processes")
    with LiveView(console) as view:
        report = (
            bench_with(flags["processes"], target, scenario, sources=flags["sources"], view=view)
            if flags["processes"] != 1
            else on_a_loop(
                lambda: run_bench(
                    target,
                    scenario,
                    sources=flags["sources"],
                    view=view,
                    profiled=flames.append if flags["profile"] else None,
                )
            )
        )
    show(report, console)
    keep(report, flags, console, flame="".join(flames))
    if not report.is_passed:
        sys.exit(1)


def keep(report: reports.Report, flags: dict[str, Any], console: Console, *, flame: str) -> None:
    """Write the files that were asked for."""
    if flags["json_"] is not None:
        reports.write(report, flags["json_"])
        console.print(f"  · report: {flags['json_']}", highlight=False)
    if flags["html"] is not None:
        page.write(page.page(report, flame), flags["html"])
        console.print(f"  · page: {flags['html']}", highlight=False)


@bench.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@target_flags
@report_flags
def run(file: Path, **flags: Any) -> None:
    """Run the scenario of a TOML file."""
    _go(from_file(file), flags)


@bench.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots.")
def compare(first: Path, second: Path, html: Path | None) -> None:
    """Two JSON reports side by side."""
    before, after = reports.read(first), reports.read(second)
    console = Console()
    table = Table(box=None, padding=(0, 2))
    for column in ("", first.name, second.name, "change"):
        table.add_column(column, justify="right" if column else "left")
    for name, a, b in page.compared(before, after):
        table.add_row(name, *("-" if v is None else f"{v:,.1f}" for v in (a, b)), page.change(a, b))
    console.print(table)
    if html is not None:
        page.write(page.comparison(before, after), html)
        console.print(f"  · page: {html}", highlight=False)


for _name, _kind in KINDS.items():
    bench.add_command(_command(_name, _kind))
