"""``heartcast migrate``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from heartcast.app import heart_stores
from heartcast.cli.flags import settings_flags, settings_of


@click.command()
@settings_flags
def migrate(config: Path | None, **flags: Any) -> None:
    """Bring the tables of the configured database to the version this release knows.

    Run it before the first start and after an upgrade; running it again changes nothing.
    Files of SQLite need no migration: the server makes and renews them itself.
    """
    settings = settings_of(config, flags)
    url = heart_stores.url_of(settings)
    if not heart_stores.is_migrated(url):
        click.echo(f"nothing to do: hearts are in {heart_stores.place(url)}")
        return
    before, after = asyncio.run(heart_stores.migrate(url, settings.hearts))
    change = "is there already" if before == after else f"made from version {before}"
    click.echo(f"{heart_stores.place(url)}: hearts version {after}, {change}")
