"""A flame graph of a local server during the steady part of a run, by py-spy.

py-spy looks from outside: the server is neither restarted nor slowed much. It is no
dependency of ours; where it is missing, or may not look, that is said before the load.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from heartcast.core.errors import InvalidInput
from heartcast.loadtest.run import Run, Second

_RATE_PER_S = 97
"""Samples per second; a prime, so as not to beat with timers."""


_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')
"""py-spy writes its own command line there, with paths that are nobody's business."""


class Profile:
    """One recording. ``second`` starts it after the warm-up; ``flame`` waits for it.

    Args:
        run: Whose server is looked at, and whose steady part.

    Raises:
        InvalidInput: py-spy is not there.
    """

    def __init__(self, run: Run) -> None:
        self._program = _found()
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="heartcast-profile-")
        self._file = Path(self._folder.name) / "flame.svg"

    def second(self, second: Second) -> None:
        """A second of the run is over."""
        load, pid = self._run.scenario.load, self._run.server_pid
        if self._process is not None or pid is None or second.at_s + 1 < load.warmup_s:
            return
        left_s = max(1, int(load.seconds - second.at_s - 1))
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [
                self._program, "record", "--pid", str(pid), "--duration", str(left_s),
                "--rate", str(_RATE_PER_S), "--nonblocking", "--output", str(self._file),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def flame(self) -> str:
        """The flame graph as SVG; "" when there is none, and then the run has a note that says why."""
        try:
            return self._finished()
        finally:
            self._folder.cleanup()

    def _finished(self) -> str:
        if self._process is None:
            self._run.notes.append(
                "There is no profile: the server is not a process of this machine that we may see."
            )
            return ""
        try:
            _, said = self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, said = self._process.communicate()
        if not self._file.exists():
            why = said.decode("utf-8", "replace").strip().splitlines() or ["it wrote nothing"]
            self._run.notes.append(f"There is no profile: {why[-1]}.")
            return ""
        text = self._file.read_text(encoding="utf-8")
        return _TITLE.sub(r"\1heartcast serve", text[text.find("<svg") :], count=1)


def _found() -> str:
    beside = Path(sys.executable).parent / "py-spy"
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise InvalidInput("--profile needs py-spy: pip install py-spy")
    return program
