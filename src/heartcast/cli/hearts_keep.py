"""``heartcast hearts verify``, ``backup`` and ``restore``: hearts that are right, and safe."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from heartcast.app import heart_stores
from heartcast.app.settings import Settings
from heartcast.cli.flags import settings_flags, settings_of
from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError
from heartcast.hearts.auditor import Auditor
from heartcast.hearts.model import Recount
from heartcast.hearts.options import AuditorOptions
from heartcast.hearts.store.sqlite import FILE_NAME
from heartcast.hearts.store.sqlite_backup import backup as make_backup
from heartcast.hearts.store.sqlite_backup import restore as put_back

_SHOWN = 20
"""Targets shown; all of them are in the JSON."""


@click.command()
@settings_flags
@click.option("--repair", "repairs", is_flag=True, help="Make counts that differ what their rows say.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(config: Path | None, repairs: bool, as_json: bool, **flags: Any) -> None:
    """Count every heart of every target, and compare with the counts that are told.

    Ends with status 3 when a count differs and was not repaired. A count that changes
    meanwhile is never overwritten. A running server on SQLite holds its files: it checks
    itself all the time, see heartcast_heart_count_drift at /metrics.
    """
    settings = settings_of(config, flags)
    try:
        auditor, found = asyncio.run(_verified(settings, repairs=repairs))
    except HeartcastError as error:
        raise click.ClickException(error.detail) from error
    if as_json:
        result = {
            "targets": auditor.recounted,
            "drifted": [{**msgspec.to_builtins(one), "drift": one.drift} for one in found],
            "repaired": auditor.repaired,
        }
        click.echo(msgspec.json.encode(result))
    else:
        _print(auditor, found)
    if len(found) > auditor.repaired:
        sys.exit(3)


async def _verified(settings: Settings, *, repairs: bool) -> tuple[Auditor, list[Recount]]:
    url = heart_stores.url_of(settings)
    store = await heart_stores.open_store(url, settings.hearts, SystemClock())
    try:
        auditor = Auditor(store, AuditorOptions(targets=500, repairs=repairs))
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
        ) as shown:
            task = shown.add_task(f"Counting {heart_stores.place(url)}")
            found = await auditor.round(
                lambda done: shown.update(task, description=f"{done:,} targets counted")
            )
        return auditor, found
    finally:
        await store.close()


def _print(auditor: Auditor, found: list[Recount]) -> None:
    if not found:
        click.echo(f"{auditor.recounted:,} targets counted: every count is what its rows say")
        return
    table = Table("target", "kind", "count", "rows", "drift")
    for one in found[:_SHOWN]:
        table.add_row(one.target_id, one.kind, f"{one.count:,}", f"{one.rows:,}", f"{one.drift:+,}")
    Console().print(table)
    if len(found) > _SHOWN:
        click.echo(f"… and {len(found) - _SHOWN:,} more")
    click.echo(
        f"{auditor.recounted:,} targets counted, {len(found):,} differ, {auditor.repaired:,} repaired"
        + ("" if auditor.repaired else "; --repair makes them right")
    )


@click.command()
@click.argument("copy", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), default="heartcast-data")
def backup(copy: Path, data_dir: Path) -> None:
    """Copy the hearts of a data folder to the file COPY, also while the server runs.

    The copy is of one moment and complete once it has its name.
    """
    try:
        make_backup(data_dir / FILE_NAME, copy)
    except HeartcastError as error:
        raise click.ClickException(error.detail) from error
    click.echo(f"{data_dir / FILE_NAME} copied to {copy}, {copy.stat().st_size:,} bytes")


@click.command()
@click.argument("copy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), default="heartcast-data")
def restore(copy: Path, data_dir: Path) -> None:
    """Put the hearts of COPY into a data folder. The server must not be running.

    What was there is kept as hearts.db.before. Events begin a new history: consumers of
    /api/v1/events are told so.
    """
    try:
        hearts = put_back(copy, data_dir / FILE_NAME)
    except HeartcastError as error:
        raise click.ClickException(error.detail) from error
    click.echo(f"{hearts:,} hearts restored to {data_dir / FILE_NAME}")
