"""``heartcast hearts audit``: export and check the log of who did what."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click
import msgspec

from heartcast.hearts import audit as log
from heartcast.hearts.following import FILE_NAME

_folder = click.option(
    "--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default="heartcast-data"
)


@click.group()
def audit() -> None:
    """Export and check the log of who did what, also while the server runs."""


@audit.command()
@_folder
@click.option("--after", type=int, default=0, help="Only records with greater numbers.")
def export(data_dir: Path, after: int) -> None:
    """Print the log as JSON Lines.

    Each line has number, record, hash and user_id; the hash is SHA-256 of the hash before
    (32 zero bytes in front of the first) and the bytes of the record. user_id is null where
    a person was forgotten.
    """
    with closing(_opened(data_dir)) as connection:
        for entry in log.entries(connection, after):
            click.echo(msgspec.json.encode(entry))


@audit.command()
@_folder
@click.option("--expect", help="NUMBER:HASH of a record that was exported earlier and must still be there.")
def verify(data_dir: Path, expect: str | None) -> None:
    """Check that nothing was changed, dropped or inserted; ends with status 3 if something was."""
    with closing(_opened(data_dir)) as connection:
        verdict = log.verify(connection)
        if verdict.wrong is not None:
            click.echo(f"the log is wrong at record {verdict.wrong:,} of {verdict.records:,}", err=True)
            sys.exit(3)
        if expect is not None:
            number, _, digest = expect.partition(":")
            if not number.isdecimal():
                raise click.UsageError("--expect is like 120:9f86d0…")
            entry = next(log.entries(connection, int(number) - 1, 1), None)
            if entry is None or entry.number != int(number) or entry.hash != digest:
                click.echo(f"record {number} is not the one that was exported", err=True)
                sys.exit(3)
    click.echo(
        f"{verdict.records:,} records, nothing was changed; the last is {verdict.records}:{verdict.hash}"
    )


def _opened(data_dir: Path) -> sqlite3.Connection:
    path = (data_dir / FILE_NAME).absolute()
    if not path.exists():
        raise click.ClickException(f"there is no {path}; hearts.audit.is_on makes it")
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
