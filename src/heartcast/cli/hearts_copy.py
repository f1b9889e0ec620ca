"""``heartcast hearts copy``: from one store to another, while hearts come and go."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from heartcast.app import heart_stores
from heartcast.app.settings import load
from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError
from heartcast.hearts import copying
from heartcast.hearts.copying import Copy, Difference, Place, Report
from heartcast.hearts.options import HeartOptions, OutboxOptions

_SHOWN = 20
"""Targets shown; all of them are in the JSON."""
_URL = "sqlite:FOLDER, redis://… or postgresql://…"


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="URL",
    envvar="HEARTCAST_COPY_FROM",
    show_envvar=True,
    help=_URL,
)
@click.option(
    "--to", "target", required=True, metavar="URL", envvar="HEARTCAST_COPY_TO", show_envvar=True, help=_URL
)
@click.option(
    "--place",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="heartcast-copy.json",
    show_default=True,
    help="Where the copy keeps how far it has come.",
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings of the stores.")
@click.option(
    "--events/--no-events",
    default=False,
    help="Whether copied hearts are told at /api/v1/events of the target.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def copy(source: str, target: str, file: Path, config: Path | None, events: bool, as_json: bool) -> None:
    """Copy all hearts from one store to another, while the server of the first one runs.

    Ends when all that had happened is there and every count was compared; with status 3 when one
    differs. Run it again with the same --place to take over what has happened since, also
    after it was killed. So the last run, with the server stopped, takes seconds.

    \b
    heartcast hearts copy --from sqlite:heartcast-data --to redis://127.0.0.1:6379/0

    URLs with passwords are better in HEARTCAST_COPY_FROM and HEARTCAST_COPY_TO: other users of
    the machine can read a command line.
    """
    started_s = time.perf_counter()
    options = msgspec.structs.replace(
        load(config=config, environ=os.environ, flags={}).hearts, outbox=OutboxOptions(is_on=events)
    )
    report = asyncio.run(_run(source, target, file, options))
    took_s = time.perf_counter() - started_s
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(report), "seconds": round(took_s, 3)}))
    else:
        _print(report, took_s)
    if report.differ:
        sys.exit(3)


async def _run(source: str, target: str, file: Path, options: HeartOptions) -> Report:
    if source.startswith("memory:") or target.startswith("memory:"):
        raise SettingsError("what is kept in memory is of one process alone; copy a store that lasts")
    if heart_stores.place(source) == heart_stores.place(target):
        raise SettingsError("--from and --to are the same store")
    clock = SystemClock()
    opened = await heart_stores.open_source(source, options, clock)
    try:
        store = await heart_stores.open_store(target, options, clock)
        try:
            names = (heart_stores.place(source), heart_stores.place(target))
            place = _read(file, names) or await copying.begin(opened, store, names)
            _save(file, place)
            with _progress() as shown:
                task = shown.add_task(f"Copying to {names[1]}", total=await copying.hearts_of(opened))

                def progress(place: Place) -> None:
                    events = f", {place.events:,} events" if place.is_walked else ""
                    shown.update(task, completed=place.hearts, description=f"Copying to {names[1]}{events}")

                work = Copy(
                    opened, store, place,
                    save=lambda place: _save(file, place), progress=progress, now_ms=clock.wall_ms,
                )  # fmt: skip
                return await work.run()
        finally:
            await store.close()
    finally:
        await opened.close()


def _progress() -> Progress:
    # On stderr, so that --json leaves stdout to the result.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _read(file: Path, names: tuple[str, str]) -> Place | None:
    if not file.exists():
        return None
    try:
        place = msgspec.json.decode(file.read_bytes(), type=Place)
    except (msgspec.DecodeError, OSError) as error:
        raise SettingsError(f"{file} is not the place of a copy: {error}") from error
    if (place.source, place.target) != names:
        raise SettingsError(
            f"{file} is of a copy from {place.source} to {place.target}; name another --place"
        )
    return place


def _save(file: Path, place: Place) -> None:
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as out:
            out.write(msgspec.json.encode(place))
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error.strerror}") from error


def _print(report: Report, took_s: float) -> None:
    click.echo(
        f"{report.hearts:,} hearts copied, {report.events:,} events since then, "
        f"{report.targets:,} targets compared; {took_s:.1f} s"
    )
    if not report.differ:
        click.echo("every count is the same in both")
        return
    table = Table("target", "kind", "from", "to")
    for one in report.differ[:_SHOWN]:
        table.add_row(*_cells(one))
    Console().print(table)
    if len(report.differ) > _SHOWN:
        click.echo(f"… and {len(report.differ) - _SHOWN:,} more")
    click.echo("these counts differ: was something else written to the target, or are events off?")


def _cells(one: Difference) -> tuple[str, str, str, str]:
    return one.target_id, one.kind, f"{one.source:,}", f"{one.target:,}"
