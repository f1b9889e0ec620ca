"""A copy of the hearts of a data folder, made while the server runs, and back again.

The copy is of one moment: a read transaction sees the database as it is when the copy
begins, whatever is written meanwhile, and the writer is not held up. It is a single
compact file.

A restored database has an older history than the one it replaces. Its events get a new
epoch, so that a consumer with a cursor from later is told so, instead of silently missing
what happens under numbers that it has already seen.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from heartcast.backends.sqlite import FileLock, Tuning, open_writer
from heartcast.core.errors import SettingsError
from heartcast.hearts.store.sqlite_rows import SCHEMA


def backup(path: Path, copy: Path) -> None:
    """Copy a database that may be in use.

    Args:
        copy: Made; appears under this name when it is complete.

    Raises:
        SettingsError: there is no database, or the copy exists or cannot be written.
    """
    if not path.exists():
        raise SettingsError(f"there is no {path}")
    if copy.exists():
        raise SettingsError(f"{copy} is there already; name another file")
    part = copy.with_name(copy.name + ".part")
    try:
        part.unlink(missing_ok=True)
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("VACUUM INTO ?", (str(part),))
        finally:
            connection.close()
        _sync(part)
        part.rename(copy)
        _sync(copy.parent)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"cannot copy {path} to {copy}: {error}") from error


def restore(copy: Path, path: Path) -> int:
    """Put a copy in the place of a database. What was there is kept beside it as ``….before``.

    Returns:
        Hearts in it.

    Raises:
        SettingsError: the copy is damaged or not one, or the database is in use.
    """
    lock = FileLock(path)
    part = path.with_name(path.name + ".part")
    try:
        shutil.copyfile(copy, part)
        hearts = _renewed(part)
        _sync(part)
        if path.exists():
            # Its log is folded in first: alone it would be a database without its last writes.
            open_writer(path, SCHEMA, Tuning()).close()
            path.rename(path.with_name(path.name + ".before"))
        part.rename(path)
        _sync(path.parent)
        return hearts
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"cannot restore {copy}: {error}") from error
    finally:
        for end in ("", "-wal", "-shm"):
            part.with_name(part.name + end).unlink(missing_ok=True)
        lock.close()


def _renewed(part: Path) -> int:
    connection = open_writer(part, SCHEMA, Tuning())
    try:
        [[verdict]] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if verdict != "ok":
            raise SettingsError(f"the copy is damaged: {verdict}")
        connection.execute("UPDATE outbox SET epoch = lower(hex(randomblob(8)))")
        [hearts] = connection.execute("SELECT count(*) FROM heart").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(hearts)
    finally:
        connection.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
