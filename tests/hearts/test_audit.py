import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from heartcast.cli.hearts import hearts
from heartcast.core.ids import IdSource
from heartcast.hearts.audit import Audit
from heartcast.hearts.following import FILE_NAME, EffectsFile, FileTaker, Follower
from heartcast.hearts.model import Cause, HeartKey
from heartcast.hearts.options import OutboxOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.testing.clock import ManualClock


class Log:
    """A store and the audit log that follows it."""

    def __init__(self, folder: Path) -> None:
        clock = ManualClock()
        self.path = folder / FILE_NAME
        self.store = MemoryHeartStore(IdSource(clock), MemoryEvents(clock))
        self.file = EffectsFile(self.path)
        self.audit = Audit(self.file)
        taker = FileTaker("audit", self.file, self.audit.take)
        self.follower = Follower("audit", Feed(self.store, OutboxOptions(), clock), taker)
        self.cursor = ""

    async def add(self, *keys: HeartKey) -> None:
        await Awaiting(self.store).add(keys, 1)
        self.cursor = await self.follower.step(self.cursor, 0)

    async def remove(self, *keys: HeartKey, cause: Cause = "user") -> None:
        await Awaiting(self.store).remove(keys, 1, cause)
        self.cursor = await self.follower.step(self.cursor, 0)

    async def users(self) -> list[str | None]:
        return [entry.user_id for entry in await self.audit.page(0, 1_000)]

    def bytes(self) -> bytes:
        files = [self.path, self.path.with_name(FILE_NAME + "-wal")]
        return b"".join(file.read_bytes() for file in files if file.exists())

    async def close(self) -> None:
        await self.file.close()
        await self.store.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    log = Log(tmp_path)
    yield log
    await log.close()


async def test_every_change_has_one_record_that_says_who_and_what(log: Log) -> None:
    key = HeartKey("post", "sandra@example.com")
    await log.add(key, HeartKey("post", "u2"))
    await log.remove(key)
    for _ in range(2):
        await log.follower.step("", 0)

    found = await log.audit.page(0, 10)
    records = [json.loads(entry.record) for entry in found]
    assert [entry.number for entry in found] == [1, 2, 3]
    assert await log.users() == [key.user_id, "u2", key.user_id]
    assert [(r["delta"], r["cause"], r["target_id"]) for r in records] == [
        (1, "user", "post"), (1, "user", "post"), (-1, "user", "post"),
    ]  # fmt: skip
    assert [entry.number for entry in await log.audit.page(0, 10, key.user_id)] == [1, 3]
    assert await log.audit.page(0, 10, "nobody") == []


async def test_the_chain_can_be_checked_by_anyone_with_the_export(log: Log) -> None:
    await log.add(*[HeartKey("post", f"u{user}") for user in range(20)])
    head = bytes(32)
    for entry in await log.audit.page(0, 100):
        head = hashlib.sha256(head + entry.record.encode()).digest()
        assert entry.hash == head.hex()
    verdict = await log.audit.verify()
    assert (verdict.records, verdict.hash, verdict.wrong) == (20, head.hex(), None)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("UPDATE audit SET record = replace(record, 'post', 'past') WHERE number = 7", 7),
        ("UPDATE audit SET record = 'no JSON' WHERE number = 7", 7),
        ("DELETE FROM audit WHERE number = 7", 7),
        ("UPDATE audit SET number = -1 WHERE number = 7; UPDATE audit SET number = 7 WHERE number = 8;"
         " UPDATE audit SET number = 8 WHERE number = -1", 7),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 20", 20),
        ("DELETE FROM audit WHERE number = 1", 1),
    ],
)  # fmt: skip
async def test_what_is_changed_behind_its_back_is_found(log: Log, change: str, wrong: int) -> None:
    await log.add(*[HeartKey("post", f"u{user}") for user in range(20)])
    with sqlite3.connect(log.path) as connection:
        for statement in change.split(";"):
            connection.execute(statement)
    connection.close()

    assert (await log.audit.verify()).wrong == wrong
    assert len(await log.audit.page(0, 100)) >= 19


async def test_a_person_who_is_erased_is_in_no_record_and_the_chain_verifies_as_before(log: Log) -> None:
    mine = [HeartKey(f"t{at}", "sandra@example.com") for at in range(4)]
    await log.add(*mine, HeartKey("t0", "u2"))
    key = await log.file.ask(
        lambda db: db.execute("SELECT key FROM person WHERE user LIKE 'sandra%'").fetchone()
    )
    before = [(entry.record, entry.hash) for entry in await log.audit.page(0, 100)]
    # In two turns, as an erasure of many hearts is.
    await log.remove(*mine[:2], cause="erase")
    await log.remove(*mine[2:], cause="erase")

    assert await log.users() == [None, None, None, None, "u2", None, None, None, None]
    assert [(entry.record, entry.hash) for entry in await log.audit.page(0, 5)] == before
    assert (await log.audit.verify()).wrong is None
    assert b"sandra@example.com" not in log.bytes()
    assert key[0] not in log.bytes()


async def test_a_person_can_be_forgotten_without_hearts(log: Log) -> None:
    await log.add(HeartKey("post", "u1"))
    await log.remove(HeartKey("post", "u1"))

    assert await log.audit.forget("u1")
    assert not await log.audit.forget("u1")
    assert await log.users() == [None, None]
    assert (await log.audit.verify()).wrong is None
    await log.add(HeartKey("post", "u1"))
    assert await log.users() == [None, None, "u1"]


async def test_the_commands_export_and_check_while_the_file_is_in_use(log: Log, tmp_path: Path) -> None:
    await log.add(*[HeartKey("post", f"u{user}") for user in range(5)])

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(hearts, ["audit", *arguments, "--data-dir", str(tmp_path)])
        return result.exit_code, result.output

    status, said = run("export", "--after", "2")
    lines = [json.loads(line) for line in said.splitlines()]
    assert (status, [line["user_id"] for line in lines]) == (0, ["u2", "u3", "u4"])
    assert run("verify")[0] == run("verify", "--expect", f"4:{lines[1]['hash']}")[0] == 0
    assert run("verify", "--expect", f"3:{lines[1]['hash']}")[0] == 3
    with sqlite3.connect(log.path) as connection:
        connection.execute("DELETE FROM audit WHERE number > 3")
    connection.close()
    # A chain that ends early is a chain: only who kept a later record can tell.
    assert run("verify")[0] == 0
    assert run("verify", "--expect", f"4:{lines[1]['hash']}")[0] == 3
