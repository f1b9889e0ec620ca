"""The command line, as a newcomer meets it: every mistake is one plain sentence."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def heartcast(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heartcast", *arguments], capture_output=True, text=True, cwd=cwd, timeout=30
    )


def test_help_lists_every_command_with_a_sentence() -> None:
    said = heartcast("--help").stdout

    for command in ("serve", "demo", "token", "doctor", "hearts"):
        assert f"  {command} " in said


@pytest.mark.parametrize("command", ["serve", "demo", "token", "doctor"])
def test_every_command_explains_its_flags(command: str) -> None:
    result = heartcast(command, "--help")

    assert result.returncode == 0
    assert "--data-dir" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--host", "0.0.0.0"], "http.host: 0.0.0.0 is reachable from outside"),
        (["serve", "--mode", "prod"], "auth: prod mode needs"),
        (["serve", "--in-memory", "--data-dir", "x"], "--in-memory keeps nothing"),
        (["serve", "--config", "missing.toml"], "cannot read missing.toml"),
        (["serve", "--tls-cert", "a.pem"], "http.tls_"),
        (["serve", "--in-memory", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "http.tls_cert: cannot read"),
        (["demo", "--mode", "prod"], "needs dev mode"),
        (["token", "--user", "a\nb", "--data-dir", "x"], "--user must not contain control characters"),
        (["token", "--user", "a", "--in-memory"], "makes its own key"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_1(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = heartcast(*arguments, cwd=tmp_path)

    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.startswith("heartcast: ")
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = heartcast("serve", "--in-memory", "--port", str(taken.getsockname()[1]))

    assert result.returncode == 1
    assert "already in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_data_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = heartcast("serve", "--data-dir", str(tmp_path / "file"))

    assert result.returncode == 1
    assert result.stderr.startswith("heartcast: data_dir: cannot use")


def test_a_corrupt_database_is_one_sentence_and_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "hearts.db").write_bytes(b"this is no database, whatever its name says" * 100)
    before = (tmp_path / "hearts.db").read_bytes()
    result = heartcast("serve", "--data-dir", str(tmp_path), "--port", "0")

    assert result.returncode == 1
    assert "hearts.db" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "hearts.db").read_bytes() == before


def test_doctor_says_what_it_found_for_people_and_for_programs(tmp_path: Path) -> None:
    table = heartcast("doctor", "--data-dir", str(tmp_path / "data"), "--port", "0")
    found = json.loads(heartcast("doctor", "--json", "--data-dir", str(tmp_path / "d"), "--port", "0").stdout)

    assert table.returncode == 0
    assert "open files" in table.stdout
    assert {check["name"] for check in found} >= {"heartcast", "mode", "port", "data", "files"}


def test_doctor_fails_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = heartcast("doctor", "--data-dir", str(tmp_path / "data"), "--port", port)

    assert result.returncode == 1
    assert "cannot listen" in result.stdout


def test_a_token_of_the_command_is_accepted_by_a_server_on_the_same_folder(tmp_path: Path) -> None:
    first = heartcast("token", "--user", "u456", "--data-dir", str(tmp_path)).stdout.strip()

    assert first.count(".") == 2
    assert (tmp_path / "dev-secret").exists()
