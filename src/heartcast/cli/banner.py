"""What start-up says: where it listens, where it keeps data, which page to open."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heartcast import __version__
from heartcast.app.lifespan import Listening


def announce(listening: Listening) -> None:
    """Tell a person at a terminal; a program reads the ``started`` line of the log instead."""
    if not sys.stdout.isatty():
        # Plain lines, flushed, so that `heartcast serve | head` and scripts see them at once.
        print(f"heartcast {__version__} listening on {listening.url}", flush=True)
        print(f"data: {listening.data}", flush=True)
        print(f"open: {listening.page}", flush=True)
        return
    rows = Table.grid(padding=(0, 2))
    for label, value in (
        ("open", listening.page),
        ("API", f"{listening.url}/docs"),
        ("realtime", f"{listening.url.replace('http', 'ws', 1)}/connection/websocket"),
        ("data", listening.data),
    ):
        rows.add_row(Text(f"  {label}", style="dim"), Text(value, style="bold" if label == "open" else ""))
    console = Console()
    console.print()
    console.print(
        Text.assemble(
            ("  ♥ ", "bold red"), ("heartcast ", "bold"), (f"{__version__} · {listening.mode}", "dim")
        )
    )
    console.print()
    console.print(rows)
    console.print()
    console.print(Text("  Ctrl-C stops; what was accepted is answered first.", style="dim"))
    console.print()
