"""The flags that every command with settings shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from heartcast.app.secret import with_secret
from heartcast.app.settings import Settings, load
from heartcast.core.errors import SettingsError

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_flags(command: Command) -> Command:
    """Add ``--config --mode --data-dir --in-memory --redis --postgres --host --port --tls-…``."""
    flags = [
        click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings."),
        click.option(
            "--mode", type=click.Choice(["dev", "prod"]), help="dev: no credentials needed on loopback."
        ),
        click.option("--data-dir", help="Folder to keep data in.  [default: heartcast-data]"),
        click.option("--in-memory", is_flag=True, default=None, help="Keep nothing on disk."),
        click.option(
            "--redis",
            metavar="URL",
            help="Be one of many equal nodes on this Redis or Valkey: redis://…  Hearts are kept there too, "
            "unless --postgres says where.",
        ),
        click.option("--postgres", metavar="DSN", help="Keep hearts in this PostgreSQL: postgresql://…"),
        click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
        click.option("--port", type=int, help="Port to listen on; 0: any free one.  [default: 8080]"),
        click.option("--tls-cert", help="PEM file with the certificate chain."),
        click.option("--tls-key", help="PEM file with the private key."),
        click.option(
            "--trusted-proxy",
            "trusted_proxies",
            multiple=True,
            help="Address of a proxy whose X-Forwarded-For is believed; may be repeated.",
        ),
    ]
    for flag in reversed(flags):
        command = flag(command)
    return command


def settings_of(
    config: Path | None, flags: dict[str, Any], chosen: Mapping[str, object] | None = None
) -> Settings:
    """The settings of a command that has ``settings_flags``.

    Args:
        chosen: What the command itself chooses, by dotted path.

    Raises:
        SettingsError: they are wrong or contradict each other.
    """
    if flags["in_memory"] and flags["data_dir"] is not None:
        raise SettingsError("--in-memory keeps nothing, so --data-dir has no meaning; leave one out")
    tree = {
        **(chosen or {}),
        "mode": flags["mode"],
        "data_dir": flags["data_dir"],
        "in_memory": flags["in_memory"],
        "hearts.store": "postgres" if flags["postgres"] else "redis" if flags["redis"] else None,
        "hearts.redis_url": flags["redis"],
        "cluster.redis_url": flags["redis"],
        "hearts.postgres_dsn": flags["postgres"],
        "http.host": flags["host"],
        "http.port": flags["port"],
        "http.tls_cert": flags["tls_cert"],
        "http.tls_key": flags["tls_key"],
        "http.trusted_proxies": list(flags["trusted_proxies"]) or None,
    }
    return with_secret(load(config=config, environ=os.environ, flags=tree))
