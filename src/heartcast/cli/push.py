"""``heartcast push``: ask a running server about its pushes."""

from __future__ import annotations

import http.client
import sys
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec
from rich.console import Console
from rich.table import Table

from heartcast.cli.push_tail import follow, show

_TIMEOUT_S = 10.0


@click.group()
def push() -> None:
    """Ask a running server about its pushes."""


@push.command()
@click.argument("push_id", metavar="ID")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the server listens.")
@click.option("--api-key", help="A key of the server's auth.api_keys; dev mode needs none.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
def trace(push_id: str, url: str, api_key: str | None, as_json: bool) -> None:
    """Tell what happened to the push ID: every gate's verdict, reason and time."""
    status, body = _get(url, f"/api/v1/pushes/{quote(push_id, safe='')}", api_key)
    document = _decoded(url, body)
    if status != 200:
        raise click.ClickException(str(document.get("detail", f"the server answered {status}")))
    if as_json:
        click.echo(body)
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    reason = f" ({document['reason']})" if document["reason"] else ""
    console.print(
        f"{document['id']} to {document['user_id']}, {document['template']}@{document['version']}: "
        f"[bold]{document['status']}[/bold]{reason}",
        highlight=False,
    )
    console.print(_table(document["trace"]))


@push.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the server listens.")
@click.option("--api-key", help="A key of the server's auth.api_keys; dev mode needs none.")
@click.option("--user", help="Only pushes to this user.")
@click.option("--status", help="Only pushes that ended so, like suppressed.")
@click.option(
    "-n",
    "--last",
    default=10,
    show_default=True,
    type=click.IntRange(0, 200),
    help="Begin with so many that ended before.",
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many; without it, at Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document a line, as when it is not a terminal."
)
def tail(
    url: str,
    api_key: str | None,
    user: str | None,
    status: str | None,
    last: int,
    count: int | None,
    as_json: bool,
) -> None:
    """Show pushes as they end, each with its reason."""

    def ask(path: str) -> dict[str, Any]:
        answered, body = _get(url, path, api_key)
        document = _decoded(url, body)
        if answered != 200:
            raise click.ClickException(str(document.get("detail", f"the server answered {answered}")))
        return document

    def wanted(one: dict[str, Any]) -> bool:
        return (user is None or str(one["user_id"]) == user) and (status is None or one["status"] == status)

    show(follow(ask, last=last, wanted=wanted), as_json=as_json, count=count)


def _table(steps: list[dict[str, Any]]) -> Table:
    table = Table("at", "step", "verdict", "why", box=None)
    for step in steps:
        why = [str(step[name]) for name in ("reason", "until", "push") if name in step]
        if step.get("count", 1) > 1:
            why.append(f"{step['count']} times")
        table.add_row(step["at"], step["step"], step["verdict"], " ".join(why))
    return table


def _get(url: str, path: str, api_key: str | None) -> tuple[int, bytes]:
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise click.UsageError(f"--url must be like http://127.0.0.1:8080, got {url!r}")
    make = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = make(where.hostname, where.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"X-API-Key": api_key} if api_key else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"no server answers at {url}: {error}") from error
    finally:
        connection.close()


def _decoded(url: str, body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"what answers at {url} is no heartcast") from error
