"""Real processes on a real Valkey: killed, paused, cut off, and no shard ever worked by two."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis as driver

from heartcast.testing.redis_server import RedisServer

MEMBER = Path(__file__).with_name("member.py")
QUICK = {"lease_s": 1.5, "renew_s": 0.4, "margin_s": 0.3}


class Member:
    """A started ``member.py``, and all it ever wrote."""

    def __init__(self, url: str, name: str, options: dict[str, float]) -> None:
        self.name = name
        self.lines: list[dict[str, object]] = []
        self.process = subprocess.Popen(
            [sys.executable, MEMBER, url, name, json.dumps(options)], stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.lines.append(json.loads(line))

    @property
    def held(self) -> dict[str, int]:
        """Shards it said last that it may work, with their epochs."""
        return self.lines[-1]["held"] if self.lines else {}  # type: ignore[return-value]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Cluster:
    """Members on one server."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.members: list[Member] = []

    def start(self, names: str, options: dict[str, float]) -> list[Member]:
        started = [Member(self.server.url, name, options) for name in names]
        self.members += started
        return started

    def is_shared_by(self, *members: Member) -> bool:
        """Whether these have all shards among them, floor or ceil each."""
        counts = [len(member.held) for member in members]
        return sum(counts) == 64 and max(counts) - min(counts) <= 1

    def check_no_shard_was_worked_by_two(self) -> int:
        """Compare when each shard was worked under which epoch; the number of handings-over."""
        worked: dict[str, dict[int, tuple[float, float, str]]] = {}
        for member in self.members:
            for line in member.lines:
                for shard, epoch in line["held"].items():  # type: ignore[attr-defined]
                    first, _, by = worked.setdefault(shard, {}).get(epoch, (line["t"], 0, member.name))
                    assert by == member.name, f"epoch {epoch} of shard {shard} was given twice"
                    worked[shard][epoch] = first, line["t"], by  # type: ignore[assignment]
        assert len(worked) == 64
        handed_over = 0
        for shard, epochs in worked.items():
            periods = [epochs[epoch] for epoch in sorted(epochs)]
            for (_, until, one), (since, _, other) in pairwise(periods):
                assert until < since, f"shard {shard}: {one} until {until}, {other} since {since}"
                handed_over += 1
        return handed_over


def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> float:
    """Wait for a condition on real processes, and say how long it took."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < timeout_s
        time.sleep(0.02)
    return time.monotonic() - began_s


def pass_time(seconds: float) -> None:
    """Let a fault last."""
    began_s = time.monotonic()
    until(lambda: time.monotonic() - began_s >= seconds)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}) as server:
        cluster = Cluster(server)
        yield cluster
        for member in cluster.members:
            member.end()


def test_the_shards_of_a_node_that_is_killed_are_worked_elsewhere_within_six_seconds(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.start("abc", {})  # as it is set for everybody
    until(lambda: cluster.is_shared_by(first, second, third))
    second.end()
    assert until(lambda: cluster.is_shared_by(first, third)) <= 6.0
    assert cluster.check_no_shard_was_worked_by_two() >= 21


def test_a_node_that_is_stopped_and_continued_works_nothing_it_lost_and_gets_a_new_share(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.start("abc", QUICK)
    until(lambda: cluster.is_shared_by(first, second, third))
    epochs = dict(second.held)
    second.signal(signal.SIGSTOP)
    until(lambda: cluster.is_shared_by(first, third))
    pass_time(QUICK["lease_s"])
    before = len(second.lines)
    second.signal(signal.SIGCONT)
    until(lambda: len(second.lines) > before + 1)
    assert second.lines[before + 1]["held"] == {}, "the first it says after it woke"
    until(lambda: cluster.is_shared_by(first, second, third))
    assert all(epoch != epochs.get(shard) for shard, epoch in second.held.items())
    cluster.check_no_shard_was_worked_by_two()


def test_whatever_happens_to_the_server_no_shard_is_worked_by_two_and_all_are_again(cluster: Cluster) -> None:
    members = cluster.start("abc", QUICK)
    until(lambda: cluster.is_shared_by(*members))
    server = cluster.server

    # Paused beyond every lease: nobody may work, then everybody does again.
    server.pause()
    until(lambda: not any(member.held for member in members))
    server.resume()
    until(lambda: cluster.is_shared_by(*members))

    # Its connections cut, again and again, and its scripts lost.
    with driver.Redis.from_url(server.url) as link:
        for _ in range(5):
            link.script_flush()
            link.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            pass_time(0.2)
    until(lambda: cluster.is_shared_by(*members))

    # Killed and started again, with what its file kept.
    server.restart()
    until(lambda: cluster.is_shared_by(*members))

    # Its clock forward: every lease ends before its time.
    with driver.Redis.from_url(server.url) as link:
        for shard in range(64):
            link.pexpire(f"{{hc:{shard}}}:owner", 1)
        for node in link.zrange("{hc}:leases", 0, -1):
            link.zadd("{hc}:leases", {node: 1})
    pass_time(2.0)
    until(lambda: cluster.is_shared_by(*members))

    # Its clock back: the leases of a dead node would run for ever.
    with driver.Redis.from_url(server.url) as link:
        members[1].end()
        for shard in range(64):
            link.pexpire(f"{{hc:{shard}}}:owner", 3_600_000)
        for node in link.zrange("{hc}:leases", 0, -1):
            link.zincrby("{hc}:leases", 3_600_000, node)
    until(lambda: cluster.is_shared_by(members[0], members[2]))

    # Emptied, as a server without a file comes back.
    with driver.Redis.from_url(server.url) as link:
        link.flushall()
    pass_time(0.5)
    until(lambda: cluster.is_shared_by(members[0], members[2]))
    assert cluster.check_no_shard_was_worked_by_two() > 0
