"""``heartcast hearts``: work on the hearts of a data folder."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from heartcast.cli.hearts_audit import audit
from heartcast.cli.hearts_copy import copy
from heartcast.cli.hearts_keep import backup, restore, verify
from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError, InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.importer import BadLine, Columns, Import, Line, Summary, read_csv, read_jsonl
from heartcast.hearts.store.sqlite import FILE_NAME, SqliteHeartStore

_SHOWN = 20
"""Bad lines shown; the rest are counted, and written to ``--errors``."""


@click.group()
def hearts() -> None:
    """Work on the hearts of a data folder."""


for _command in (verify, backup, restore, audit, copy):
    hearts.add_command(_command)


@hearts.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), default="heartcast-data")
@click.option("--format", "format_", type=click.Choice(["csv", "jsonl"]), help="Default: by the file's name.")
@click.option("--delimiter", default=",", help=r"Between the fields of CSV; \t is a tab.  [default: ,]")
@click.option("--header/--no-header", default=True, help="Whether the first CSV line names the columns.")
@click.option("--target-column", default="target_id", show_default=True, help="Name, or number from 1.")
@click.option("--user-column", default="user_id", show_default=True)
@click.option("--kind-column", help='Default: every heart is of the kind "heart".')
@click.option("--kind", "kinds", multiple=True, help="A kind to accept beside heart; may be repeated.")
@click.option("--time-column", help="Seconds, milliseconds or RFC 3339.  Default: now.")
@click.option("--value-column", help="A number such as a rating, for --min.")
@click.option("--min", "minimum", type=float, help="Leave out lines with a lower --value-column.")
@click.option(
    "--events/--no-events",
    default=True,
    help="Whether imported hearts are told at /api/v1/events; without, the import is faster.",
)
@click.option("--errors", type=click.Path(dir_okay=False, path_type=Path), help="Write all bad lines here.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_(file: Path, **options: Any) -> None:
    """Import hearts from FILE into the SQLite database of a data folder.

    CSV with any delimiter, or JSON Lines. Bad lines are reported with their number and
    the rest is imported. Importing again changes nothing. The server must not be
    running on the same folder.

    \b
    heartcast hearts import ratings.csv --value-column rating --min 4
    heartcast hearts import u.data --delimiter '\\t' --no-header \\
        --user-column 1 --target-column 2 --value-column 3 --min 4 --time-column 4
    """
    if (options["minimum"] is None) != (options["value_column"] is None):
        raise click.UsageError("--min and --value-column belong together")
    started_s = time.perf_counter()
    try:
        summary, bad = asyncio.run(_run(file, options))
    except InvalidInput as error:
        raise click.UsageError(error.detail) from error
    except HeartcastError as error:
        raise click.ClickException(error.detail) from error
    _report(summary, bad, time.perf_counter() - started_s, as_json=options["as_json"])
    if summary.bad:
        sys.exit(2)


async def _run(file: Path, options: dict[str, Any]) -> tuple[Summary, list[BadLine]]:
    shown: list[BadLine] = []
    with ExitStack() as stack:
        source = stack.enter_context(file.open("rb"))
        errors = stack.enter_context(options["errors"].open("w")) if options["errors"] else None
        lines = _lines(file, source, options)
        progress = stack.enter_context(_progress())
        size_bytes = source.seek(0, os.SEEK_END)
        source.seek(0)
        task = progress.add_task("Importing", total=max(1, size_bytes))

        def bad(line: BadLine) -> None:
            if len(shown) < _SHOWN:
                shown.append(line)
            if errors is not None:
                errors.write(f"{line.number}\t{line.reason}\n")

        store = SqliteHeartStore(
            options["data_dir"] / FILE_NAME, clock=SystemClock(), keeps_events=options["events"]
        )
        try:
            work = Import(store, bad=bad, progress=lambda _: progress.update(task, completed=source.tell()))
            summary = await work.run(lines)
            progress.update(task, completed=max(1, size_bytes))
        finally:
            await store.close()
    return summary, shown


def _progress() -> Progress:
    # On stderr, so that --json leaves stdout to the summary.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _lines(file: Path, source: IO[bytes], options: dict[str, Any]) -> Iterator[Line]:
    columns = Columns(
        target=options["target_column"],
        user=options["user_column"],
        kind=options["kind_column"],
        time=options["time_column"],
        value=options["value_column"],
        min_value=options["minimum"] or 0.0,
    )
    kinds = {"heart", *options["kinds"]}

    def check_kind(kind: str) -> str:
        if kind not in kinds:
            raise InvalidInput(f"must be one of: {', '.join(sorted(kinds))}", pointer="/kind")
        return check_id(kind, "/kind")

    now_ms = SystemClock.wall_ms()
    is_jsonl = options["format_"] == "jsonl" or (
        options["format_"] is None and file.suffix in (".jsonl", ".ndjson")
    )
    if is_jsonl:
        return read_jsonl(source, columns, now_ms=now_ms, check_kind=check_kind)
    delimiter = options["delimiter"].replace("\\t", "\t")
    if len(delimiter) != 1:
        raise click.UsageError("--delimiter must be one character")
    return read_csv(
        _decoded(source),
        columns,
        now_ms=now_ms,
        delimiter=delimiter,
        has_header=options["header"],
        check_kind=check_kind,
    )


def _decoded(source: IO[bytes]) -> Iterator[str]:
    # Line by line, so that source.tell() says how far we are. What is not UTF-8 is
    # kept as lone surrogates, which no id may have: it spoils its own line only.
    for number, line in enumerate(source):
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text


def _report(summary: Summary, bad: list[BadLine], took_s: float, *, as_json: bool) -> None:
    per_s = round((summary.added + summary.already_there) / took_s)
    if as_json:
        fields = {**msgspec.to_builtins(summary), "seconds": round(took_s, 3), "hearts_per_s": per_s}
        fields["bad_lines"] = msgspec.to_builtins(
            [{"line": line.number, "reason": line.reason} for line in bad]
        )
        click.echo(msgspec.json.encode(fields))
        return
    for line in bad:
        click.echo(f"line {line.number}: {line.reason}", err=True)
    if summary.bad > len(bad):
        click.echo(f"… and {summary.bad - len(bad):,} more bad lines", err=True)
    click.echo(
        f"{summary.added:,} hearts added, {summary.already_there:,} were there already, "
        f"{summary.left_out:,} below the minimum, {summary.bad:,} bad lines; "
        f"{took_s:.1f} s, {per_s:,} hearts/s"
    )
