"""``heartcast token``: a signed token for a user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heartcast.api.auth import Authenticator
from heartcast.cli.flags import settings_flags, settings_of
from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, SettingsError
from heartcast.core.names import user_text


@click.command()
@settings_flags
@click.option("--user", required=True, help="The user's id.")
@click.option(
    "--ttl", "ttl_s", type=click.FloatRange(min=1), default=3600.0, show_default=True, help="Seconds."
)
@click.option("--channel", help="Make a subscription token, good for this channel only.")
def token(config: Path | None, user: str, ttl_s: float, channel: str | None, **flags: Any) -> None:
    """Print a token that the server with the same settings accepts."""
    settings = settings_of(config, flags)
    if settings.in_memory:
        raise SettingsError(
            "a server in memory makes its own key; give both the same auth.jwt_secret or data_dir"
        )
    if not settings.auth.jwt_secret:
        raise SettingsError("there is no key to sign with; set it first", path="auth.jwt_secret")
    try:
        user = user_text(user)
    except InvalidInput as error:
        raise SettingsError(f"--user {error.detail}") from None
    authenticator = Authenticator(settings.auth, SystemClock(), is_open=False)
    click.echo(authenticator.issue(user, ttl_s=ttl_s, channel=channel))
