"""What a newcomer is told when a database cannot be used, and what callers are told later."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heartcast.backends.sqlite import (
    FileLock,
    GroupThread,
    Schema,
    Tuning,
    open_reader,
    open_writer,
    unavailable,
)
from heartcast.core.errors import SettingsError, StoreUnavailable

SCHEMA = Schema(application_id=77, version=2, script="CREATE TABLE a (b); CREATE INDEX c ON a (b)")
QUICK = Tuning(busy_s=0.0)


def test_a_new_database_gets_its_tables_and_an_old_one_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_writer(path, SCHEMA, QUICK)
    connection.execute("INSERT INTO a VALUES (1)")
    connection.close()

    connection = open_writer(path, SCHEMA, Tuning())
    assert connection.execute("SELECT b FROM a").fetchall() == [(1,)]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_a_new_database_is_its_owners_alone_and_so_are_its_logs(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        connection = open_writer(tmp_path / "x.db", SCHEMA, QUICK)
        connection.execute("INSERT INTO a VALUES (1)")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        connection.close()
    finally:
        os.umask(before)

    assert modes == {"x.db": 0o600, "x.db-wal": 0o600, "x.db-shm": 0o600}
    (tmp_path / "x.db").chmod(0o640)
    open_writer(tmp_path / "x.db", SCHEMA, QUICK).close()
    assert (tmp_path / "x.db").stat().st_mode & 0o777 == 0o640


def test_normal_synchronous_is_a_choice(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "x.db", SCHEMA, Tuning(synchronous="normal"))
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    connection.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    open_writer(tmp_path / "x.db", SCHEMA, QUICK).close()
    reader = open_reader(tmp_path / "x.db", QUICK)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO a VALUES (1)")
    reader.close()


def _text(path: Path) -> None:
    path.write_text("hello, this is not a database at all\n" * 100)


def _truncated(path: Path) -> None:
    open_writer(path, SCHEMA, QUICK).close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)


def _newer(path: Path) -> None:
    open_writer(path, SCHEMA, QUICK).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (id)")
    connection.close()


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_text, "damaged or not a SQLite database"),
        (_truncated, "damaged or not a SQLite database"),
        (_newer, "written by a newer heartcast"),
        (_foreign, "of another program"),
        (_folder, "cannot be written"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_plain_sentence(
    tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    path = tmp_path / "x.db"
    spoil(path)
    with pytest.raises(SettingsError, match=sentence) as caught:
        open_writer(path, SCHEMA, QUICK)
    assert str(path) in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_database_that_another_program_holds_is_one_plain_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_writer(path, SCHEMA, QUICK).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SettingsError, match="locked by another program"):
        open_writer(path, SCHEMA, QUICK)
    other.close()


def test_a_second_process_is_kept_away_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "x.db"
    script = (
        "import sys, pathlib; from heartcast.backends.sqlite import FileLock;"
        "lock = FileLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match=rf"in use by another process \(pid {child.pid}\)"):
            FileLock(path)
        child.kill()
        child.communicate()
    FileLock(path).close()


def test_a_folder_that_cannot_be_made_is_one_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write to"):
        FileLock(tmp_path / "file" / "x.db")


def test_every_error_of_the_driver_becomes_one_of_ours() -> None:
    kinds = [
        kind for kind in vars(sqlite3).values() if isinstance(kind, type) and issubclass(kind, sqlite3.Error)
    ]
    assert len(kinds) > 5
    for kind in kinds:
        assert isinstance(unavailable(kind("no")), StoreUnavailable)


async def test_what_waits_is_handled_as_groups_in_order_and_stop_leaves_nothing_behind() -> None:
    seen: list[int] = []
    sizes: list[int] = []

    def handle(group: list[int]) -> Callable[[], None]:
        sizes.append(len(group))
        return lambda: seen.extend(group)

    thread = GroupThread("test", asyncio.get_running_loop(), handle, max_group=10)
    for number in range(1000):
        thread.submit(number)
    await thread.stop()

    assert seen == list(range(1000))
    assert max(sizes) <= 10
