"""PostgreSQL: connections that answer in time or not at all, and migrations.

Errors become one of two: ``SettingsError`` when somebody has to change something, and
``StoreUnavailable`` when the same call may work later. Neither holds the password.

Migrations are numbered scripts per domain, applied in one transaction under a lock, so
that two operators may run ``heartcast migrate`` at once.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import asyncpg
import msgspec

from heartcast.core.errors import SettingsError, StoreUnavailable

Connection: TypeAlias = Any
"""An ``asyncpg.Connection``; the driver has no types."""
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ssl.SSLError)
"""What a driver call raises when the server does not do what it was asked."""

_LOCK = 0x68656172_74636173
"""Of all processes, one migrates at a time ("heartcas")."""


class Migrations(msgspec.Struct, frozen=True, kw_only=True):
    """How a domain's tables came to be."""

    domain: str
    scripts: Sequence[str]
    """The n-th makes version n, from 1. Never changed once released."""

    @property
    def version(self) -> int:
        return len(self.scripts)


async def connect(dsn: str, *, timeout_s: float) -> Connection:
    """A connection whose commits are on the server's disk before they are answered.

    Raises:
        SettingsError: the DSN is not one, or the server refuses user, password or database.
        StoreUnavailable: the server cannot be reached now.
    """
    try:
        return await asyncpg.connect(
            dsn,
            timeout=timeout_s,
            command_timeout=timeout_s,
            server_settings={"application_name": "heartcast", "synchronous_commit": "on"},
        )
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientPrivilegeError,
    ) as error:
        raise SettingsError(f"PostgreSQL at {place(dsn)} refuses: {said(error, dsn)}") from None
    except FAILURES as error:
        raise unavailable(error, dsn) from None
    except ValueError:
        # The parser's words would quote the DSN, and the password with it.
        raise SettingsError("must be like postgresql://user:password@host:5432/database") from None


def unavailable(error: BaseException, dsn: str) -> StoreUnavailable:
    """What callers are told when a running server fails; the same call may be repeated."""
    return StoreUnavailable(f"PostgreSQL cannot do this now: {said(error, dsn)}")


def said(error: BaseException, dsn: str) -> str:
    """What an error says, without the password."""
    text = str(error) or type(error).__name__
    password = urlsplit(dsn).password
    for secret in {password, unquote(password or "")} - {None, ""}:
        text = text.replace(str(secret), "[hidden]")
    return text


def place(dsn: str) -> str:
    """Where a DSN leads, for people: host and database, no user and no password."""
    split = urlsplit(dsn)
    return f"{split.hostname or 'the local socket'}{split.path}"


async def version(connection: Connection, domain: str) -> int:
    """The version of a domain's tables; 0: there are none."""
    if await connection.fetchval("SELECT to_regclass('heartcast_migration')") is None:
        return 0
    found: int | None = await connection.fetchval(
        "SELECT max(version) FROM heartcast_migration WHERE domain = $1", domain
    )
    return found or 0


async def migrate(connection: Connection, migrations: Migrations) -> tuple[int, int]:
    """Bring a domain's tables to the version this release knows.

    Returns:
        The version before and after; equal when there was nothing to do.

    Raises:
        SettingsError: the tables were made by a newer release.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS heartcast_migration ("
            " domain text NOT NULL, version integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),"
            " PRIMARY KEY (domain, version))"
        )
        before = await version(connection, migrations.domain)
        _check_not_newer(before, migrations)
        for number, script in enumerate(migrations.scripts[before:], before + 1):
            await connection.execute(script)
            await connection.execute(
                "INSERT INTO heartcast_migration (domain, version) VALUES ($1, $2)", migrations.domain, number
            )
    return before, migrations.version


async def check(connection: Connection, migrations: Migrations) -> None:
    """Refuse a database that this release cannot work with.

    Raises:
        SettingsError: its tables are missing, older or newer, or its encoding is not UTF-8.
    """
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise SettingsError(f"the database is encoded in {encoding}; make it with ENCODING 'UTF8'")
    found = await version(connection, migrations.domain)
    _check_not_newer(found, migrations)
    if found < migrations.version:
        state = f"has version {found}" if found else "is not there yet"
        raise SettingsError(f"the schema of {migrations.domain} {state}; run `heartcast migrate` first")


def _check_not_newer(found: int, migrations: Migrations) -> None:
    if found > migrations.version:
        raise SettingsError(
            f"the schema of {migrations.domain} is of a newer heartcast "
            f"(version {found}, this one knows {migrations.version})"
        )
