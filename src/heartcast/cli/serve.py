"""``heartcast serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heartcast.app import lifespan
from heartcast.app import workers as processes
from heartcast.cli.banner import announce
from heartcast.cli.flags import settings_flags, settings_of


@click.command()
@settings_flags
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Processes on this port, each a node of the cluster; needs cluster.redis_url.",
)
def serve(config: Path | None, workers: int | None, **flags: Any) -> None:
    """Run the server until Ctrl-C or SIGTERM; then answer what was accepted, and exit 0."""
    settings = settings_of(config, flags)
    if workers is None:
        lifespan.run(settings, on_ready=announce)
    else:
        processes.run(settings, workers, on_ready=announce)
