"""Every inbox, against the one contract."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.push.inbox import Inbox
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.inbox.sqlite import SqliteInbox, open_inbox
from heartcast.push.templates import RenderingFailed, Templates, load
from heartcast.testing.contracts.inbox import MAX_PUSHES, InboxContract, append, ids, kept, pushes_for
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.redis_shards import acquire, piped, shard_of_folder

_epochs = count()


def new_epoch() -> str:
    return f"epoch-{next(_epochs)}"


def open_sqlite(folder: Path, templates: Templates | None = None) -> SqliteInbox:
    return open_inbox(
        folder / "inbox.db",
        templates=templates or load(),
        new_epoch=new_epoch,
        max_pushes=MAX_PUSHES,
        loop=asyncio.get_running_loop(),
    )


class TestMemoryInbox(InboxContract):
    async def open(self, folder: Path) -> Inbox:
        return MemoryInbox(new_epoch, MAX_PUSHES)


class TestSqliteInbox(InboxContract):
    async def open(self, folder: Path) -> Inbox:
        return open_sqlite(folder)


class TestRedisInbox(InboxContract):
    @pytest.fixture
    async def inbox(self, tmp_path: Path, valkey: RedisServer) -> AsyncIterator[Inbox]:  # type: ignore[override]
        async with piped(valkey.url) as self.pipe:
            yield await self.open(tmp_path)

    async def open(self, folder: Path) -> Inbox:
        return (await acquire(self.pipe, shard_of_folder(folder), max_pushes=MAX_PUSHES)).inbox


async def test_a_push_whose_template_is_gone_waits_for_it_and_fails_only_when_rendered(
    tmp_path: Path,
) -> None:
    inbox = open_sqlite(tmp_path)
    await append(inbox, pushes_for("ann", "a1"))
    await inbox.close()

    inbox = open_sqlite(tmp_path, Templates([]))
    [push] = inbox.kept()
    with pytest.raises(RenderingFailed, match="news_v2@1: the template is no longer there"):
        push.template.render(push.id, push.payload, 0)
    await inbox.close()

    inbox = open_sqlite(tmp_path)
    [push] = inbox.kept()
    assert b'"title":"x"' in push.template.render(push.id, push.payload, 0)
    await inbox.close()


async def test_a_group_that_cannot_be_written_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    inbox = open_sqlite(tmp_path)
    [first] = pushes_for("ann", "a1")
    await append(inbox, [first])
    intruder = sqlite3.connect(tmp_path / "inbox.db")
    intruder.execute("CREATE TRIGGER full BEFORE INSERT ON push BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    intruder.commit()

    with pytest.raises(StoreUnavailable, match="disk full"):
        await append(inbox, pushes_for("ann", "a2"))
    inbox.settle([first], is_lost=False, now_ms=2_000)
    with pytest.raises(StoreUnavailable):
        await append(inbox, pushes_for("ann", "a2"))
    assert inbox.failures == 2
    intruder.execute("DROP TRIGGER full")
    intruder.commit()
    intruder.close()

    await append(inbox, pushes_for("ann", "a2"))
    assert [(push.id, push.offset) for push in (await kept(inbox, "ann")).pushes] == [("a2", 2)]
    await inbox.close()
    inbox = open_sqlite(tmp_path)
    assert [push.id for push in inbox.kept()] == ["a2"]
    await inbox.close()


async def test_rows_of_settled_pushes_do_not_pile_up(tmp_path: Path) -> None:
    inbox = open_sqlite(tmp_path)
    for n in range(50):
        [push] = pushes_for("ann", f"a{n:02}")
        await append(inbox, [push])
        inbox.settle([push], is_lost=bool(n % 2), now_ms=2_000)
    await inbox.close()

    rows = sqlite3.connect(tmp_path / "inbox.db")
    assert rows.execute("SELECT id, offset, state = 2, lost FROM push").fetchall() == [("a49", 50, 1, 50)]
    rows.close()


async def test_a_newest_push_lost_while_a_newer_one_is_on_its_way_to_the_disk_stays_lost(
    tmp_path: Path,
) -> None:
    inbox = open_sqlite(tmp_path)
    [first] = pushes_for("ann", "a1")
    await append(inbox, [first])
    newer = asyncio.ensure_future(append(inbox, pushes_for("ann", "a2")))
    await asyncio.sleep(0)
    inbox.settle([first], is_lost=True, now_ms=2_000)
    await newer
    await inbox.close()

    rows = sqlite3.connect(tmp_path / "inbox.db")
    assert rows.execute("SELECT id, offset, state = 2, lost FROM push").fetchall() == [("a2", 2, 0, 1)]
    rows.close()


async def test_a_file_in_use_damaged_or_foreign_is_refused_in_one_sentence(tmp_path: Path) -> None:
    inbox = open_sqlite(tmp_path)
    with pytest.raises(SettingsError, match="in use by another process"):
        open_sqlite(tmp_path)
    await inbox.close()

    (tmp_path / "inbox.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SettingsError, match="damaged or not a SQLite database"):
        open_sqlite(tmp_path)


_WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from heartcast.push.inbox.sqlite import open_inbox
from heartcast.push.templates import load
from heartcast.testing.contracts.inbox import append, pushes_for

async def main():
    inbox = open_inbox(
        Path(sys.argv[1]), templates=load(), new_epoch=lambda: "first", max_pushes=10**6,
        loop=asyncio.get_running_loop(),
    )
    async def one(n):
        await append(inbox, pushes_for(f"u{n % 7}", f"{n:08}"))
        print(n, flush=True)
    for n in itertools.count(0, 20):
        async with asyncio.TaskGroup() as group:
            for k in range(20):
                group.create_task(one(n + k))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 37, 400])
async def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path, lines: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "inbox.db")], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    answered = [int(writer.stdout.readline()) for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    # What was printed but not yet read had been answered as well.
    answered += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    writer.stdout.close()
    writer.wait()

    inbox = open_sqlite(tmp_path)
    found = {push.id for push in inbox.kept()}
    assert {f"{number:08}" for number in answered} <= found
    for user in {push.user for push in inbox.kept()}:
        mailbox = await kept(inbox, user, limit=10**6)
        assert [push.offset for push in mailbox.pushes] == list(range(1, mailbox.top.offset + 1))
        assert ids(mailbox) == sorted(ids(mailbox))
    await inbox.close()
