"""``heartcast push tail``: pushes as they end, one line each, until it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.text import Text

PAUSE_S = 0.5
_PAGE = 200
_REMEMBERED = 2_000
"""Ids of pushes that were shown."""
_COLOURS = {
    "delivered": "green", "suppressed": "yellow", "cancelled": "yellow",
    "expired": "red", "failed": "red", "dead": "bold red",
}  # fmt: skip

Ask = Callable[[str], dict[str, Any]]
"""``ask(path)``: the server's answer, or ``ClickException`` in one sentence."""


def follow(ask: Ask, *, last: int, wanted: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """The ``last`` pushes that ended, then each one that ends, once. What is missing is said."""
    page = ask(f"/api/v1/tail?limit={max(1, last)}")
    items = page["items"] if last else []
    seen: dict[str, None] = {}
    silent: list[str] = []
    while True:
        for push in items:
            # A node that took a shard over tells once more what ended there.
            if push["id"] not in seen and wanted(push):
                yield push
            seen[push["id"]] = None
        for push_id in list(seen)[:-_REMEMBERED]:
            del seen[push_id]
        if page["missed"]:
            _say(f"{page['missed']:,} more ended meanwhile than could be shown")
        if page["silent"] and page["silent"] != silent:
            _say(f"no answer from {', '.join(page['silent'])}: what ends there is not shown")
        silent = page["silent"]
        # A full page may not be all: look again at once, to stay close behind a busy server.
        if len(items) < _PAGE:
            time.sleep(PAUSE_S)
        page = ask(f"/api/v1/tail?limit={_PAGE}&after={quote(page['next'], safe='')}")
        items = page["items"]


def _say(text: str) -> None:
    # Beside the pushes, which a program may read.
    click.secho(text, fg="yellow", err=True)


def show(pushes: Iterator[dict[str, Any]], *, as_json: bool, count: int | None) -> None:
    """Print pushes, at most ``count``; colours where a person reads, JSON lines where a program does."""
    console = Console(highlight=False)
    try:
        for number, push in enumerate(pushes, 1):
            if as_json or not sys.stdout.isatty():
                click.echo(msgspec.json.encode(push))
            else:
                console.print(_line(push), soft_wrap=True)
            if number == count:
                return
    except KeyboardInterrupt:
        # Asked for: this is how one stops watching.
        return


def _line(push: dict[str, Any]) -> Text:
    status = str(push["status"])
    line = Text(f"{push['changed_at'][11:23]}  ", style="dim")
    line.append(f"{status:<10}", style=_COLOURS.get(status, ""))
    line.append(f"  {push['user_id']!s:<20}", style="bold")
    line.append(f"  {push['template']}@{push['version']}")
    if push["reason"]:
        line.append(f"  {push['reason']}", style="yellow")
    return line.append(f"  {push['id']}", style="dim")
