"""Logs: one format, one place, no secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from heartcast.observability import logs

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1NDU2In0.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield io.StringIO()
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


def test_away_from_a_terminal_a_line_is_one_json_object(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.get("push").info("started", shards=64)
    line = json.loads(stream.getvalue())
    assert line.pop("at").endswith("Z")
    assert line == {"event": "started", "level": "info", "part": "push", "shards": 64}


def test_in_a_terminal_a_line_is_key_value_for_people(stream: io.StringIO) -> None:
    logs.configure(stream=stream, is_terminal=True)
    logs.get("push").info("started", shards=64)
    assert "started" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    assert "shards" in stream.getvalue()


def test_libraries_lines_have_the_same_format(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logging.getLogger("uvicorn.error").warning("port %d is slow", 8080)
    assert json.loads(stream.getvalue())["event"] == "port 8080 is slow"


def test_no_line_is_written_per_request(stream: io.StringIO) -> None:
    logs.configure(stream=stream, level="debug")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert stream.getvalue() == ""


def test_lines_below_the_level_are_not_made(stream: io.StringIO) -> None:
    logs.configure(stream=stream, level="warning")
    logs.get("push").info("started")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_secrets_never_reach_a_line(stream: io.StringIO, is_terminal: bool) -> None:
    logs.configure(stream=stream, is_terminal=is_terminal)
    log = logs.get("api")
    log.info("configured", jwt_secret="hush-hush", options={"api_keys": ["hush-hush"], "port": 8080})
    log.info("counted", tokens=4711)
    log.info(f"refused Bearer hush-hush and {TOKEN}", header=f"Bearer {TOKEN}")
    try:
        {}[f"RuntimeError reading {TOKEN}"]
    except KeyError:
        log.exception("failed")
    assert "hush-hush" not in stream.getvalue()
    assert TOKEN not in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()
    assert "4711" in stream.getvalue()
    assert "8080" in stream.getvalue()


def test_an_error_of_a_library_keeps_its_traceback_on_one_json_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    try:
        int("boom")
    except ValueError:
        logging.getLogger("asyncio").exception("callback failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        logs.configure(level="loud")
