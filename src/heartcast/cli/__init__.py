"""The ``heartcast`` command. Each command parses its flags and calls the package that does the work."""

from __future__ import annotations

import sys

import click

from heartcast import __version__
from heartcast.core.errors import HeartcastError

# Imported when they are asked for: ``--help`` and ``token`` need no server.
_COMMANDS = {
    "serve": ("heartcast.cli.serve", "serve", "Run the server."),
    "demo": ("heartcast.cli.demo", "demo", "Run the server with its demo page, and say where to look."),
    "token": ("heartcast.cli.token", "token", "Make a token for a user."),
    "doctor": ("heartcast.cli.doctor", "doctor", "Say what is configured, reachable and writable."),
    "migrate": ("heartcast.cli.migrate", "migrate", "Bring the tables of a database to this release."),
    "push": ("heartcast.cli.push", "push", "Ask a running server about its pushes."),
    "hearts": ("heartcast.cli.hearts", "hearts", "Import, verify, back up and restore hearts."),
    "ranking": ("heartcast.cli.ranking", "ranking", "Import what people did, and evaluate rankings offline."),
    "bench": ("heartcast.cli.bench", "bench", "Put load on a server and prove what arrived."),
    "capacity": ("heartcast.cli.capacity", "capacity", "Say how many nodes carry a load."),
}


class _Lazy(click.Group):
    """Knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        __import__(module)
        command: click.Command = getattr(sys.modules[module], attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heartcast")
def _heartcast() -> None:
    """Hearts come in, content gets ranked, pushes go out.

    Start with: heartcast demo
    """


def main() -> None:
    """Run a command; an error that we foresaw ends it with one plain sentence and status 1."""
    try:
        _heartcast(prog_name="heartcast")
    except HeartcastError as error:
        click.echo(f"heartcast: {error.detail}", err=True)
        sys.exit(1)
