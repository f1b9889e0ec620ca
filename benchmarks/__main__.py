"""``make bench``: run every benchmark, keep what it found, and renew the figures in the docs.

python -m benchmarks              run all but the last two, and renew README and docs
python -m benchmarks ingest push  run some
python -m benchmarks heart_sizes  fill SQLite with ten million hearts: 20 minutes, 1.5 GB of disk
python -m benchmarks peers        run others beside heartcast: `make bench-peers`
python -m benchmarks --docs       renew the docs from the JSON that is there, run nothing
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path

from benchmarks import book
from benchmarks.machine import describe

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        choices=[[], *book.NAMES],
        help="which to run; by default all but heart_sizes and peers",
    )
    parser.add_argument("--docs", action="store_true", help="only renew the docs")
    arguments = parser.parse_args()
    for name in [] if arguments.docs else arguments.names or book.OURS:
        print(f"{name} …", flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").run()
        # `chrt -f 50 python -m …` keeps other programs of a shared machine out of the figures.
        prefix = "chrt -f 50 " if os.sched_getscheduler(0) == os.SCHED_FIFO else ""
        result = {
            "command": f"{prefix}python -m benchmarks {name}",
            "machine": describe(),
            "figures": figures,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(figures, indent=2), flush=True)
    book.renew()


if __name__ == "__main__":
    main()
