"""One of the processes of ``--workers``: ``python -m heartcast.app.worker``, started by ``app.workers``.

It reads its settings as one line of JSON from standard input, where no other user of the machine
sees them, and says on standard output, a line of JSON each, that it listens or why it cannot. When
the other end of its input goes away, its parent is dead, and it stops in order.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import msgspec

from heartcast.app import lifespan
from heartcast.app.lifespan import Listening
from heartcast.app.settings import Settings
from heartcast.core.errors import HeartcastError


class Said(msgspec.Struct, omit_defaults=True):
    """What a worker tells its parent."""

    listening: Listening | None = None
    refused: str | None = None
    """Why it cannot start, in one sentence."""


def main() -> None:
    """Run until SIGTERM, or until the parent is gone."""
    settings = msgspec.json.decode(_line(), type=Settings)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        lifespan.run(settings, on_ready=lambda listening: _say(Said(listening)))
    except HeartcastError as error:
        _say(Said(refused=error.detail))
        sys.exit(1)


def _line() -> bytes:
    # Past Python's buffer, whose lock the thread below would hold for ever, at the exit too.
    read = b""
    while not read.endswith(b"\n"):
        if not (more := os.read(0, 65_536)):
            sys.exit("heartcast.app.worker is started by `heartcast serve --workers`, not by hand")
        read += more
    return read


def _stop_with_parent() -> None:
    # The parent writes nothing more: the read ends when it has died, however it did.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
