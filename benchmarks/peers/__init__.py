"""heartcast beside what people use or write instead, in one run on one machine.

    make bench-peers
    python -m benchmarks peers

Fan-out: one process of subscribers, one publisher that never waits, each message counted
from the moment it was due; a lively channel and a quiet one. Ingest: closed-loop POSTs of
the same push. Servers come one after another; the processor time of a server's whole
process tree is what compares, since subscribers and publisher run beside it. A peer that
is not installed is skipped, with its reason in the result.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import debian, node, ours, python
from benchmarks.peers.fanout import LIVELY, QUIET, measure_fanout
from benchmarks.peers.ingest import measure_ingest
from benchmarks.peers.peer import Peer

PEERS = (ours.HEARTCAST, *debian.PEERS, *python.PEERS, *node.PEERS)


def run() -> dict[str, Any]:
    servers: dict[str, Any] = {}
    for peer in PEERS:
        print(f"  {peer.name}", flush=True)
        if reason := peer.missing():
            servers[peer.name] = {"skipped": reason}
            continue
        try:
            servers[peer.name] = _measure(peer)
        except (RuntimeError, OSError) as error:
            servers[peer.name] = {"skipped": f"did not get through: {error}"}
    return {"lively": LIVELY._asdict(), "quiet": QUIET._asdict(), "servers": servers}


def _measure(peer: Peer) -> dict[str, Any]:
    row: dict[str, Any] = {"version": peer.version()}
    row["lively"] = measure_fanout(peer, LIVELY)
    row["quiet"] = measure_fanout(peer, QUIET)
    if peer.push_path:
        row["ingest"] = measure_ingest(peer)
    return row
