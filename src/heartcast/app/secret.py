"""The signing key of dev mode: made once and kept in the data folder.

It lets ``heartcast token`` sign what a running ``heartcast serve`` accepts without
any configuration. Prod mode never uses it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from heartcast.app.settings import Settings
from heartcast.core.errors import SettingsError

FILE_NAME = "dev-secret"


def with_secret(settings: Settings) -> Settings:
    """The settings, with a signing key where dev mode lacks one.

    Raises:
        SettingsError: the data folder cannot be written.
    """
    if settings.auth.jwt_secret or settings.mode == "prod":
        return settings
    secret = secrets.token_hex(32) if settings.in_memory else _kept(Path(settings.data_dir))
    auth = msgspec.structs.replace(settings.auth, jwt_secret=secret)
    return msgspec.structs.replace(settings, auth=auth)


def _kept(data_dir: Path) -> str:
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return path.read_text().strip() or _make(path)
    except FileNotFoundError:
        return _make(path)
    except OSError as error:
        raise SettingsError(f"cannot use {data_dir}: {error.strerror}", path="data_dir") from error


def _make(path: Path) -> str:
    secret = secrets.token_hex(32)
    try:
        # 0600 from the first moment: a key that others could read once is no key.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}", path="data_dir") from error
    return secret
