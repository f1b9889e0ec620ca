"""``heartcast bench`` as a person meets it: one plain sentence when something is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from heartcast.core.errors import InvalidInput
from heartcast.loadtest.bench import enough_sources
from heartcast.loadtest.target import Target
from heartcast.testing.server import running

KEY, SECRET = "a-key-of-16-chars", "a-secret-of-at-least-32-characters!"
SHORT = ("--seconds", "2", "--warmup", "0.5", "--late-ms", "5000")


def heartcast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heartcast", *arguments], capture_output=True, text=True, timeout=55
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on standard error."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """Something that answers every request with these bytes, or never when there are none."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peer.recv(65_536)
                kept.append(peer)
                if answer:
                    peer.sendall(answer)

        kept: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for peer in kept:
            peer.close()


def test_push_passes_reports_and_writes_its_files(server, tmp_path) -> None:
    files = tmp_path / "r.json", tmp_path / "r.html"
    done = heartcast(
        "bench", "push", "--url", server.url, "--users", "20", "--rate", "50", *SHORT,
        "--json", str(files[0]), "--html", str(files[1]),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert json.loads(files[0].read_text())["is_passed"] is True
    assert files[1].read_text().startswith("<!doctype html>")
    again = heartcast("bench", "compare", str(files[0]), str(files[0]))
    assert again.returncode == 0
    assert "delivery p99 ms" in again.stdout


def test_a_failed_bound_ends_with_status_1_and_a_report(server) -> None:
    done = heartcast("bench", "hearts", "--url", server.url, "--rate", "50", *SHORT, "--p99-ms", "0.001")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert done.stderr == ""


def test_a_scenario_file_is_run(server, tmp_path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'scenario = "fanout"\nsubscribers = 4\nchannels = 2\n'
        "[load]\nrate_per_s = 40\nseconds = 1.5\nwarmup_s = 0.5\n[bounds]\nlate_ms = 5000\n"
    )
    done = heartcast("bench", "run", str(file), "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_server_that_is_not_there_is_said_to_be_missing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sentence = said(heartcast("bench", "push", "--url", f"http://127.0.0.1:{port}"))
    assert "no server answers at" in sentence
    assert "heartcast serve" in sentence


def test_another_server_is_said_to_be_no_heartcast() -> None:
    with listener(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as url:
        assert said(heartcast("bench", "push", "--url", url)).endswith("answers, but is not heartcast")


def test_a_server_that_never_answers_is_not_waited_for_long() -> None:
    with listener(b"") as url:
        assert "takes connections and does not answer" in said(heartcast("bench", "push", "--url", url))


@pytest.mark.parametrize("url", ["ftp://here", "http://", "http://127.0.0.1:99999", "http://h/path"])
def test_an_address_that_is_none_is_refused(url) -> None:
    assert "is not the address of a server" in said(heartcast("bench", "push", "--url", url))


@pytest.fixture(scope="module")
def prod():
    environ = {"HEARTCAST_AUTH__API_KEYS": f'["{KEY}"]', "HEARTCAST_AUTH__JWT_SECRET": SECRET}
    with running("--in-memory", "--mode", "prod", environ=environ) as server:
        yield server


def test_a_server_in_prod_mode_wants_a_key(prod) -> None:
    assert "runs in prod mode: give --api-key" in said(heartcast("bench", "push", "--url", prod.url))


def test_a_wrong_key_is_said_to_be_wrong(prod) -> None:
    sentence = said(heartcast("bench", "push", "--url", prod.url, "--api-key", "another-key-of-16"))
    assert "does not know this API key" in sentence


def test_without_the_secret_there_are_no_tokens_of_users(prod) -> None:
    assert "give --secret" in said(heartcast("bench", "push", "--url", prod.url, "--api-key", KEY))


def test_with_key_and_secret_prod_mode_is_tested_as_well(prod) -> None:
    done = heartcast(
        "bench", "push", "--url", prod.url, "--api-key", KEY, "--secret", SECRET,
        "--users", "10", "--rate", "30", *SHORT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_scenario_that_contradicts_itself_is_refused() -> None:
    sentence = said(heartcast("bench", "push", "--peak", "5"))
    assert 'load.peak_per_s: has no meaning with shape = "steady"' in sentence


def test_too_few_files_are_said_before_anything_is_tried() -> None:
    assert "open files and this machine allows" in said(
        heartcast("bench", "fanout", "--subscribers", "9000000")
    )


def test_too_few_ports_are_said_before_anything_is_tried() -> None:
    with pytest.raises(InvalidInput, match="give several addresses of this machine with --source"):
        enough_sources(Target.parse("http://192.0.2.1"), 60_000)
    assert enough_sources(Target.parse("http://127.0.0.1:1"), 60_000) == (
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4",
    )
    assert enough_sources(Target.parse("http://192.0.2.1"), 10_000) == ()


def test_a_server_that_dies_mid_run_leaves_a_partial_report(serve, tmp_path) -> None:
    server = serve("--in-memory")
    file = tmp_path / "r.json"
    timer = threading.Timer(4.0, server.kill)
    timer.start()
    done = heartcast(
        "bench", "push", "--url", server.url, "--users", "20", "--rate", "100", "--seconds", "20",
        "--warmup", "0.5", "--json", str(file),
    )  # fmt: skip
    timer.join()
    assert done.returncode == 1
    assert done.stderr == ""
    assert "INCOMPLETE" in done.stdout
    assert "the server stopped answering" in " ".join(done.stdout.split())
    kept = json.loads(file.read_text())
    assert kept["delivered"] > 50
    assert kept["ended_by"]
