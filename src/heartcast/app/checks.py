"""What ``heartcast doctor`` looks at. Each check looks, changes nothing, and says what to do."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import socket
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from heartcast import __version__
from heartcast.app import heart_stores
from heartcast.app.cluster import check_server, check_shared
from heartcast.app.settings import Settings
from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError

WANTED_FILES = 10_000
"""Every connection is an open file; below this the limit is met before the memory."""


@dataclass(frozen=True)
class Check:
    """What one look found."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    detail: str


def check_all(settings: Settings) -> list[Check]:
    """Every check, in the order a person would ask."""
    return [
        Check("heartcast", "ok", f"{__version__} on Python {platform.python_version()}"),
        _mode(settings),
        _port(settings),
        _tls(settings),
        _data(settings),
        _hearts(settings),
        *_cluster(settings),
        Check("sqlite", "ok", f"SQLite {sqlite3.sqlite_version}"),
        _files(),
    ]


def _cluster(settings: Settings) -> list[Check]:
    if not settings.cluster.redis_url:
        return []
    try:
        check_shared(settings)
        server = asyncio.run(check_server(settings))
    except HeartcastError as error:
        return [Check("cluster", "fail", error.detail)]
    return [Check("cluster", "ok", f"{server} keeps what it is given")]


def _mode(settings: Settings) -> Check:
    if settings.is_open:
        return Check("mode", "ok", "dev on loopback: callers need no credentials")
    keys = [name for name, there in _keys(settings) if there]
    return Check("mode", "ok", f"{settings.mode}: callers need credentials ({', '.join(keys)})")


def _keys(settings: Settings) -> list[tuple[str, bool]]:
    auth = settings.auth
    return [
        ("JWT by secret", bool(auth.jwt_secret)),
        (f"{len(auth.jwt_public_keys)} public keys", bool(auth.jwt_public_keys)),
        (f"keys of {urlsplit(auth.jwks_url).hostname}", bool(auth.jwks_url)),
        (f"{len(auth.api_keys)} API keys", bool(auth.api_keys)),
    ]


def _port(settings: Settings) -> Check:
    host, port = settings.http.host, settings.http.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return Check(
            "port", "fail", f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        )
    return Check("port", "ok", f"{host}:{port} is free")


def _tls(settings: Settings) -> Check:
    if not settings.http.tls_cert:
        plain = "none; fine on loopback" if settings.is_loopback else "none; put a TLS proxy in front"
        return Check("tls", "ok" if settings.is_loopback else "warn", plain)
    for path in (settings.http.tls_cert, settings.http.tls_key):
        if not os.access(path or "", os.R_OK):
            return Check("tls", "fail", f"cannot read {path}")
    return Check("tls", "ok", settings.http.tls_cert)


def _data(settings: Settings) -> Check:
    if settings.in_memory:
        return Check("data", "warn", "in memory: everything is gone after a restart")
    folder = Path(settings.data_dir).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check("data", "fail", f"cannot write to {existing}: {error.strerror}")
    stat = os.statvfs(existing)
    return Check("data", "ok", f"{folder} ({stat.f_bavail * stat.f_frsize / 1e9:.1f} GB free)")


def _hearts(settings: Settings) -> Check:
    url = heart_stores.url_of(settings)
    if not heart_stores.is_server(url):
        return Check("hearts", "ok", f"in {heart_stores.place(url)}")
    try:
        asyncio.run(_open_and_close(url, settings))
    except HeartcastError as error:
        return Check("hearts", "fail", f"{heart_stores.place(url)}: {error.detail}")
    return Check("hearts", "ok", heart_stores.place(url))


async def _open_and_close(url: str, settings: Settings) -> None:
    store = await heart_stores.open_store(url, settings.hearts, SystemClock())
    await store.close()


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files, so at most about {max(0, soft - 100)} connections"
    if soft >= WANTED_FILES:
        return Check("files", "ok", detail)
    return Check("files", "warn", f"{detail}; raise it with `ulimit -n {min(hard, 65_536)}`")
