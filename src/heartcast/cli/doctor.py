"""``heartcast doctor``: what is configured, reachable and writable, before the first request."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from heartcast.app.checks import Check, check_all
from heartcast.cli.flags import settings_flags, settings_of
from heartcast.core.errors import SettingsError

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@click.command()
@settings_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Check the settings and the machine; exit 1 when something would keep the server from running."""
    try:
        checks = check_all(settings_of(config, flags))
    except SettingsError as error:
        checks = [Check("settings", "fail", error.detail)]
    if as_json:
        click.echo(json.dumps([check.__dict__ for check in checks], indent=2))
    else:
        _print(checks)
    sys.exit(any(check.verdict == "fail" for check in checks))


def _print(checks: list[Check]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for check in checks:
        table.add_row(_MARKS[check.verdict], check.name, check.detail)
    Console().print(table)
