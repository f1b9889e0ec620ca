"""``heartcast ranking import``: feedback from a file into the log of a data folder."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from heartcast.api.body import decoder
from heartcast.api.feedback import FeedbackEvent, checked
from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError, InvalidInput, StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.ranking.feedback import Feedback
from heartcast.ranking.store import MAX_EVENTS, RankingStore
from heartcast.ranking.store.sqlite import FILE_NAME, SqliteRankingStore

_SHOWN = 20
_NUMBERS = {"at_ms": int, "value": float, "propensity": float}


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), default="heartcast-data")
@click.option("--format", "format_", type=click.Choice(["csv", "jsonl"]), help="Default: by the file's name.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_feedback(file: Path, data_dir: Path, format_: str | None, *, as_json: bool) -> None:
    """Import feedback from FILE: CSV with a header line, or JSON Lines.

    Fields as in POST /api/v1/feedback: type, user_id, item_id, and at_ms, value, propensity, id where
    there are any. Bad lines are reported with their number and the rest is imported. Importing again
    changes nothing where events have at_ms or id. The server must not be running on the same folder.
    """
    is_jsonl = format_ == "jsonl" or (format_ is None and file.suffix in (".jsonl", ".ndjson"))
    bad: list[tuple[int, str]] = []
    try:
        taken, repeated = asyncio.run(_run(file, data_dir, bad, is_jsonl=is_jsonl))
    except HeartcastError as error:
        raise click.ClickException(error.detail) from error
    if as_json:
        print(json.dumps({"taken": taken, "repeated": repeated, "bad": len(bad)}))
    else:
        for number, reason in bad[:_SHOWN]:
            click.echo(f"line {number}: {reason}", err=True)
        click.echo(f"{taken:,} events taken, {repeated:,} were there already, {len(bad):,} bad lines")
    if bad:
        raise SystemExit(2)


async def _run(file: Path, folder: Path, bad: list[tuple[int, str]], *, is_jsonl: bool) -> tuple[int, int]:
    store = SqliteRankingStore(folder / FILE_NAME, asyncio.get_running_loop())
    try:
        with (
            file.open(encoding="utf-8-sig", newline="") as source,
            Progress(console=Console(stderr=True)) as progress,
        ):
            task = progress.add_task("Importing", total=None)
            events = _events(_jsonl(source) if is_jsonl else _csv(source), bad)
            taken = repeated = 0
            while batch := list(islice(events, MAX_EVENTS)):
                new = sum(await _append(store, batch))
                taken, repeated = taken + new, repeated + len(batch) - new
                progress.update(task, advance=len(batch))
            return taken, repeated
    finally:
        await store.close()


async def _append(store: RankingStore, batch: list[Feedback]) -> list[bool]:
    answer: asyncio.Future[list[bool] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    store.append(batch, answer.set_result)
    are_new = await answer
    if isinstance(are_new, StoreUnavailable):
        raise are_new
    return are_new


def _events(lines: Iterator[tuple[int, bytes]], bad: list[tuple[int, str]]) -> Iterator[Feedback]:
    read, now_ms, new_id = decoder(FeedbackEvent), SystemClock.wall_ms(), IdSource(SystemClock()).next
    for number, line in lines:
        try:
            yield checked(read(line), now_ms, new_id)
        except InvalidInput as error:
            bad.append((number, f"{error.pointer} {error.detail}".strip()))


def _jsonl(source: IO[str]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(source, 1):
        if line.strip():
            yield number, line.encode()


def _csv(source: IO[str]) -> Iterator[tuple[int, bytes]]:
    reader = csv.DictReader(source)
    for row in reader:
        yield reader.line_num, msgspec.json.encode(_typed(row))


def _typed(row: dict[str | None, Any]) -> dict[str, Any]:
    """A line's fields without the empty ones, numbers as numbers."""
    fields: dict[str, Any] = {}
    for name, text in row.items():
        if text:
            # Too many fields stand under None: the decoder says that this is none of ours.
            fields[str(name)] = _number(text, _NUMBERS[name]) if name in _NUMBERS else text
    return fields


def _number(text: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text
