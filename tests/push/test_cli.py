"""``heartcast push`` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from urllib.request import Request, urlopen

import pytest

from heartcast.cli.push_tail import follow
from heartcast.testing.server import RunningServer


def heartcast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "heartcast", *arguments], capture_output=True, text=True)


def call(server: RunningServer, method: str, path: str, body: Any) -> Any:
    request = Request(
        server.url + path, json.dumps(body).encode(), {"content-type": "application/json"}, method=method
    )
    with urlopen(request) as answer:
        return json.load(answer)


def test_trace_tells_why_somebody_did_not_get_it(server: RunningServer) -> None:
    call(server, "PUT", "/api/v1/users/u456/preferences", {"categories": {"marketing": False}})
    body = {"user_id": "u456", "template": "news_v2", "payload": {"title": "x"}, "category": "marketing"}
    push_id = call(server, "POST", "/push", body)["id"]

    told = heartcast("push", "trace", push_id, "--url", server.url)
    assert told.returncode == 0, told.stderr
    assert f"{push_id} to u456, news_v2@1: suppressed (category_off)" in told.stdout
    assert "preference" in told.stdout
    told = heartcast("push", "trace", push_id, "--url", server.url, "--json")
    assert json.loads(told.stdout)["trace"][-1]["reason"] == "category_off"


def test_what_cannot_be_told_is_one_sentence(server: RunningServer) -> None:
    unknown = heartcast("push", "trace", "01HF0000000000000000000000", "--url", server.url)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "no push has this id" in unknown.stderr
    nobody = heartcast("push", "trace", "x", "--url", "http://127.0.0.1:1")
    assert (nobody.returncode, "no server answers" in nobody.stderr) == (1, True)
    wrong = heartcast("push", "trace", "x", "--url", "127.0.0.1")
    assert (wrong.returncode, "--url must be like" in wrong.stderr) == (2, True)


def test_tail_shows_what_ends_one_line_each(server: RunningServer) -> None:
    call(server, "PUT", "/api/v1/users/tess/preferences", {"categories": {"ads": False}})
    body = {"user_id": "tess", "template": "news_v2", "payload": {"title": "x"}, "category": "ads"}
    ids = [call(server, "POST", "/push", body)["id"] for _ in range(3)]
    shown = heartcast("push", "tail", "--user", "tess", "--count", "3", "--url", server.url)
    assert shown.returncode == 0, shown.stderr
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(line["id"], line["reason"]) for line in lines] == [(push_id, "category_off") for push_id in ids]
    nobody = heartcast("push", "tail", "--url", "http://127.0.0.1:1")
    assert (nobody.returncode, "no server answers" in nobody.stderr) == (1, True)


def test_tail_shows_each_push_once_and_says_what_it_could_not_show(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = iter([
        {"items": [{"id": "a"}], "next": "ann.1~bob.1", "missed": 0, "silent": []},
        {"items": [{"id": "a"}, {"id": "b"}], "next": "ann.2~bob.1", "missed": 7, "silent": ["bob"]},
        {"items": [{"id": "c"}], "next": "ann.3~bob.1", "missed": 0, "silent": ["bob"]},
    ])  # fmt: skip
    asked: list[str] = []

    def ask(path: str) -> Any:
        asked.append(path)
        return next(pages)

    shown = follow(ask, last=10, wanted=lambda push: True)
    assert [next(shown)["id"] for _ in range(3)] == ["a", "b", "c"]
    assert asked[1] == "/api/v1/tail?limit=200&after=ann.1~bob.1"
    said = capsys.readouterr().err
    assert "7 more ended meanwhile than could be shown" in said
    assert said.count("no answer from bob") == 1
