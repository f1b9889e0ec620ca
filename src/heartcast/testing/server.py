"""A real server in a process of its own, for tests that speak to it from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_LISTENING = re.compile(r"listening on (https?)://([^:/]+|\[[^\]]+\]):(\d+)")


@dataclass
class RunningServer:
    """A started ``heartcast serve``."""

    process: subprocess.Popen[str]
    url: str
    """Like ``http://127.0.0.1:43210``, without a slash at the end."""
    host: str
    port: int
    log: Path
    """Its standard error: the structured log."""

    @property
    def websocket_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/connection/websocket"

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask it to drain and wait for it.

        Returns:
            Its exit status; 0 when it stopped as it should.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """``kill -9``: nothing is drained, as when the machine loses power."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(*flags: str, port: int = 0, environ: dict[str, str] | None = None) -> Iterator[RunningServer]:
    """Start ``heartcast serve`` and stop it at the end, whatever happened.

    Args:
        flags: As on the command line, such as ``"--in-memory"``.
        port: Port to listen on; 0: any free one.
        environ: Variables beside those of this process.

    Raises:
        RuntimeError: it ended before it listened; the message is what it said.
    """
    with TemporaryDirectory(prefix="heartcast-test-") as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "heartcast", "serve", "--port", str(port), *flags],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **(environ or {})},
            )
        try:
            yield _listening(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _listening(process: subprocess.Popen[str], log: Path) -> RunningServer:
    assert process.stdout is not None
    for line in process.stdout:
        if match := _LISTENING.search(line):
            scheme, host, port = match.groups()
            return RunningServer(process, f"{scheme}://{host}:{port}", host, int(port), log)
    process.wait()
    raise RuntimeError(f"heartcast ended with status {process.returncode}: {log.read_text().strip()}")
