"""One shard in Redis: fences, takeovers, order, and what a kill leaves behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import count

import pytest

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError, Overloaded, StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.push.acceptor import Acceptor
from heartcast.push.journal import Change, Note
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions
from heartcast.push.templates import load
from heartcast.testing.contracts.inbox import append, pushes_for
from heartcast.testing.contracts.journal import HORIZON_MS, NOW_MS, a_push, write
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.redis_shards import acquire, piped

_shards = count(1_000_000)


@pytest.fixture
def shard() -> int:
    return next(_shards)


@pytest.fixture
async def pipe(valkey: RedisServer) -> AsyncIterator[RedisPipe]:
    async with piped(valkey.url) as pipe:
        yield pipe


def acceptor(pipe: RedisPipe, max_waiting: int = 1_000) -> Acceptor:
    ids = IdSource(SystemClock())
    options = PushOptions(max_queued_per_shard=max_waiting, max_kept=max_waiting)
    return Acceptor(
        pipe, options, clock=SystemClock(), ids=ids, templates=load(), accepted=lambda shard: None
    )


async def accept(acceptor: Acceptor, shard: int, *names: str) -> list[HeartcastError | None]:
    """Accept pushes with these ids in one turn; returns what each was answered."""
    answers: list[HeartcastError | None] = []
    all_answered = asyncio.Event()

    def answered(error: HeartcastError | None) -> None:
        answers.append(error)
        if len(answers) == len(names):
            all_answered.set()

    for name in names:
        acceptor.accept(shard, a_push(name), answered)
    await all_answered.wait()
    return answers


async def test_what_was_accepted_before_there_was_an_owner_is_taken_over_in_order(
    pipe: RedisPipe, shard: int
) -> None:
    names = [f"p{n}" for n in range(10)]
    assert await accept(acceptor(pipe), shard, *names[:5]) == [None] * 5
    await accept(acceptor(pipe), shard, *names[5:])

    taken = await acquire(pipe, shard)
    assert [push.id for push in taken.journal.replay(HORIZON_MS).pushes] == names
    await taken.store.close()


async def test_a_new_owner_takes_what_an_earlier_one_had_read_before_what_nobody_has(
    pipe: RedisPipe, shard: int
) -> None:
    await accept(acceptor(pipe), shard, "p1", "p2")
    first = await acquire(pipe, shard)
    await accept(acceptor(pipe), shard, "p3", "p4")

    second = await acquire(pipe, shard)
    assert [push.id for push in second.journal.replay(HORIZON_MS).pushes] == ["p1", "p2", "p3", "p4"]
    consumers = await pipe.ask("XINFO", "CONSUMERS", second.store.key("push"), "owner")
    assert len(consumers) == 1
    first.store.abandon()
    await second.store.close()


async def test_an_owner_that_lost_its_shard_changes_nothing_any_more(pipe: RedisPipe, shard: int) -> None:
    waiting, sent = a_push("waiting"), a_push("sent")
    first = await acquire(pipe, shard)
    await write(first.journal, Change(accepted=[waiting, sent]))
    await append(first.inbox, [sent])
    second = await acquire(pipe, shard)
    fenced: list[bool] = []
    first.store.on_fenced = lambda: fenced.append(True)

    waiting.state = sent.state = State.CANCELLED
    first.inbox.settle([sent], is_lost=True, now_ms=NOW_MS)
    with pytest.raises(StoreUnavailable, match="another owner"):
        await write(
            first.journal, Change(accepted=[a_push("late")], ended=[waiting], notes=[Note("d:k", b"v")])
        )
    assert fenced == [True]
    with pytest.raises(StoreUnavailable):
        await append(first.inbox, pushes_for("ann", "later"))
    await second.store.close()

    third = await acquire(pipe, shard)
    assert [push.id for push in third.journal.replay(HORIZON_MS).pushes] == ["waiting"]
    assert [push.id for push in third.inbox.kept()] == ["sent"]
    assert third.journal.notes("d:", NOW_MS) == []
    assert third.ended == []
    await third.store.close()


async def test_what_others_accept_comes_in_the_order_of_the_stream_also_between_our_own(
    pipe: RedisPipe, shard: int
) -> None:
    taken = await acquire(pipe, shard)
    entered: list[str] = []
    taken.store.on_arrival = lambda push: entered.append(push.id)
    await accept(acceptor(pipe), shard, "other1", "other2")
    taken.journal.write(Change(accepted=[a_push("own")]), lambda error: entered.append("own"))
    await taken.store.written()
    await accept(acceptor(pipe), shard, "other3")
    taken.store.poll()
    await taken.store.written()

    assert entered == ["other1", "other2", "own", "other3"]
    await taken.store.close()


async def test_a_full_shard_takes_what_it_has_room_for_and_refuses_the_rest(
    pipe: RedisPipe, shard: int
) -> None:
    small = acceptor(pipe, max_waiting=3)
    first = await accept(small, shard, "p1", "p2")
    second = await accept(small, shard, "p3", "p4")

    assert [*first, second[0]] == [None] * 3
    assert isinstance(second[1], Overloaded)
    assert (small.accepted, small.refused) == (3, 1)


async def test_a_changed_push_keeps_its_place_and_a_deferred_one_leaves_the_stream(
    pipe: RedisPipe, shard: int
) -> None:
    first = await acquire(pipe, shard)
    pushes = [a_push(f"p{n}") for n in range(3)]
    await write(first.journal, Change(accepted=pushes))
    pushes[0].payload = b'{"title":"new"}'
    pushes[1].made_special().due_ms = HORIZON_MS + 5
    pushes[1].state = State.DEFERRED
    await write(first.journal, Change(changed=pushes[:2]))
    assert await pipe.ask("XLEN", first.store.key("push")) == 2
    # Deferred no longer: it waits outside of the stream, and is due at once.
    pushes[1].made_special().due_ms = 0
    pushes[1].state = State.QUEUED
    await write(first.journal, Change(changed=[pushes[1]]))
    await first.store.close()

    second = await acquire(pipe, shard)
    found = second.journal.replay(HORIZON_MS).pushes
    assert sorted(push.id for push in found) == ["p0", "p1", "p2"]
    assert [push.id for push in found if push.id != "p1"] == ["p0", "p2"]
    assert [push.payload for push in found if push.id == "p0"] == [b'{"title":"new"}']
    await second.store.close()


async def test_how_a_push_ended_is_known_to_the_next_owner_until_newer_ends_push_it_out(
    pipe: RedisPipe, shard: int
) -> None:
    first = await acquire(pipe, shard, max_ended=3)
    pushes = [a_push(f"p{n}") for n in range(5)]
    await write(first.journal, Change(accepted=pushes))
    await append(first.inbox, pushes[:1])
    for push in pushes:
        push.state, push.reason, push.payload = State.EXPIRED, "ttl", b""
    first.inbox.settle(pushes[:1], is_lost=True, now_ms=NOW_MS)
    for push in pushes[1:]:
        await write(first.journal, Change(ended=[push]))
    await first.store.close()

    second = await acquire(pipe, shard, max_ended=3)
    assert [(push.id, push.state, push.reason) for push in second.ended] == [
        (f"p{n}", State.EXPIRED, "ttl") for n in (2, 3, 4)
    ]
    assert await pipe.ask("XLEN", first.store.key("push")) == 0
    await write(second.journal, Change(forgotten=["p3"]))
    await second.store.close()
    third = await acquire(pipe, shard)
    assert [push.id for push in third.ended] == ["p2", "p4"]
    await third.store.close()


async def test_a_server_that_lost_its_scripts_gets_them_again_and_nobody_notices(
    pipe: RedisPipe, shard: int
) -> None:
    taken = await acquire(pipe, shard)
    await pipe.ask("SCRIPT", "FLUSH")
    await write(taken.journal, Change(accepted=[a_push("p1")]))
    await pipe.ask("SCRIPT", "FLUSH")
    assert await accept(acceptor(pipe), shard, "p2") == [None]
    await taken.store.close()

    again = await acquire(pipe, shard)
    assert [push.id for push in again.journal.replay(HORIZON_MS).pushes] == ["p1", "p2"]
    await again.store.close()


async def test_what_ended_while_the_server_was_away_is_written_when_it_is_back(shard: int) -> None:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}) as server:
        async with piped(server.url, timeout_s=1.0) as pipe:
            taken = await acquire(pipe, shard)
            first, second = a_push("p1"), a_push("p2")
            await write(taken.journal, Change(accepted=[first, second]))
            await append(taken.inbox, [second])
            server.kill()
            first.state = second.state = State.DELIVERED
            taken.journal.write(Change(ended=[first], notes=[Note("d:k", b"v")]), None)
            taken.inbox.settle([second], is_lost=False, now_ms=NOW_MS)
            with pytest.raises(StoreUnavailable):
                await write(taken.journal, Change(accepted=[a_push("refused")]))
            server.start()
            async with asyncio.timeout(10):
                while taken.store.groups < 4:
                    taken.store.poll()
                    await taken.store.written()
                    await asyncio.sleep(0.05)
            await taken.store.close()

            again = await acquire(pipe, shard)
            assert again.journal.replay(HORIZON_MS).pushes == []
            assert list(again.inbox.kept()) == []
            assert {push.id for push in again.ended} == {"p1", "p2"}
            assert [note.key for note in again.journal.notes("d:", NOW_MS)] == ["d:k"]
            await again.store.close()


_WRITER = """
import asyncio, itertools, sys
from heartcast.push.journal import Change
from heartcast.testing.contracts.inbox import append
from heartcast.testing.contracts.journal import a_push, write
from heartcast.testing.redis_shards import acquire, piped

async def main():
    async with piped(sys.argv[1]) as pipe:
        taken = await acquire(pipe, int(sys.argv[2]))
        async def one(n):
            push = a_push(f"{n:08}", f"u{n % 7}")
            await write(taken.journal, Change(accepted=[push]))
            print(n, flush=True)
            if n % 3:
                await append(taken.inbox, [push])
        for n in itertools.count(0, 20):
            async with asyncio.TaskGroup() as group:
                for k in range(20):
                    group.create_task(one(n + k))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 37, 400])
async def test_kill_9_loses_nothing_that_was_answered_and_leaves_it_in_one_place(
    valkey: RedisServer, pipe: RedisPipe, shard: int, lines: int
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, valkey.url, str(shard)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    answered = [int(writer.stdout.readline()) for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    # What was printed but not yet read had been answered as well.
    answered += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    writer.stdout.close()
    writer.wait()

    taken = await acquire(pipe, shard)
    waiting: list[Push] = taken.journal.replay(HORIZON_MS).pushes
    sent = list(taken.inbox.kept())
    found = [push.id for push in (*waiting, *sent)]
    assert len(found) == len(set(found))
    assert {f"{number:08}" for number in answered} <= set(found)
    assert [push.id for push in waiting] == sorted(push.id for push in waiting)
    offsets: dict[str, list[int]] = {}
    for push in sorted(sent, key=lambda push: (push.user, push.offset)):
        offsets.setdefault(push.user, []).append(push.offset)
    assert all(found == list(range(1, len(found) + 1)) for found in offsets.values())
    await taken.store.close()
