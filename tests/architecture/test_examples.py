"""The examples in README and docs do what the text beside them says.

Every ``sh`` block that calls curl is run against a real server, in the order of the
page. Where a ``json`` block follows, the answer must look like it: the same keys, and
the same values but for ids and times.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heartcast.app.settings import load
from heartcast.loadtest.scenario import from_file
from heartcast.testing import running

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CHANGING = {"id", "timestamp"}


def _blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text())


def _pages(language: str, word: str) -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        str(page.relative_to(ROOT))
        for page in pages
        if any(kind == language and word in text for kind, text in _blocks(page))
    ]


def _run(command: str, url: str) -> Any:
    command = command.replace("http://localhost:8080", url).replace(
        "curl ", "curl --silent --fail-with-body ", 1
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return json.loads(result.stdout)


def _without_changing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: "…" if key in _CHANGING else value for key, value in document.items()}


@pytest.mark.parametrize("page", _pages("sh", "curl "))
def test_every_curl_line_works_as_written(page: str) -> None:
    blocks = _blocks(ROOT / page)
    following = [*blocks[1:], ("", "")]
    with running("--in-memory", environ={"HEARTCAST_RANKING__RECOMMENDATIONS": "on"}) as server:
        for (kind, text), (next_kind, next_text) in zip(blocks, following, strict=True):
            if kind != "sh" or not text.startswith("curl "):
                continue
            answer = _run(text, server.url)
            if next_kind == "json":
                assert _without_changing(answer) == _without_changing(json.loads(next_text))


@pytest.mark.parametrize("page", _pages("toml", ""))
def test_every_settings_file_is_accepted(page: str, tmp_path: Path) -> None:
    for kind, text in _blocks(ROOT / page):
        if kind == "toml":
            (tmp_path / "example.toml").write_text(text)
            if text.startswith("scenario"):
                from_file(tmp_path / "example.toml")
            else:
                load(config=tmp_path / "example.toml")
