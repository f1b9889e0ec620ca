"""``heartcast demo``: the server, and where to look first."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import click

from heartcast.app import lifespan
from heartcast.app.lifespan import Listening
from heartcast.cli.banner import announce
from heartcast.cli.flags import settings_flags, settings_of
from heartcast.core.errors import SettingsError


@click.command()
@settings_flags
@click.option("--open/--no-open", "opens", default=False, help="Open the page in a browser.")
def demo(config: Path | None, opens: bool, **flags: Any) -> None:
    """Run the server in dev mode and say which page to open.

    Open it in two windows: each is another reader. Heart something in one and watch
    the other.
    """
    if flags["mode"] == "prod":
        raise SettingsError("the demo page needs dev mode; run `heartcast serve --mode prod` instead")
    # The page shows what is for you, and a demonstration has the time to learn it.
    settings = settings_of(config, flags, {"ranking.recommendations": "auto"})
    if not settings.is_open:
        raise SettingsError(
            "the demo page hands out tokens to whoever asks, so it listens on loopback only", path="http.host"
        )

    def on_ready(listening: Listening) -> None:
        announce(listening)
        if opens:
            webbrowser.open(listening.page)

    lifespan.run(settings, on_ready=on_ready)
