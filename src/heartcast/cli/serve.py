"""``heartcast serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heartcast.app import lifespan
from heartcast.cli.banner import announce
from heartcast.cli.flags import settings_flags, settings_of


@click.command()
@settings_flags
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server until Ctrl-C or SIGTERM; then answer what was accepted, and exit 0."""
    lifespan.run(settings_of(config, flags), on_ready=announce)
