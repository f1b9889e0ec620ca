"""The tail of pushes over all nodes: every node is asked for what ended at it since its last look.

A place in it is a place at each node, ``<node>.<ms>`` joined by ``~``, so that neither clocks
that differ nor an answer that comes late hides anything. What a node took over is told by it
once more, if it ended since: whoever watches knows pushes by their ids.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from heartcast.api.push_tail import PushTail, asked_of, look, position_of, told
from heartcast.api.route import Call
from heartcast.app.shard_hosts import ShardHosts
from heartcast.core.errors import InvalidInput

ASK = "push.tail"
_PATIENCE_S = 1.0
_MOST_NODES = 256
_pack = msgspec.msgpack.Encoder().encode
_asked_in = msgspec.msgpack.Decoder(tuple[dict[str, int], int]).decode
_tail_in = msgspec.msgpack.Decoder(PushTail).decode
Places = dict[str, int]


class NodesTail:
    """Answers ``GET /api/v1/tail`` at any node."""

    def __init__(self, hosts: ShardHosts) -> None:
        self._hosts = hosts
        hosts.post.on(ASK, self._on_ask)

    def get(self, call: Call) -> None:
        """One look.

        Raises:
            Forbidden: it is not for who asks.
            InvalidInput: it begins nowhere.
        """
        after, limit = asked_of(call)
        places = places_of(after)
        me = self._hosts.membership.node
        names = {node.id: node.name for node in self._hosts.membership.nodes() if node.id != me}

        def answered(answers: dict[str, bytes]) -> None:
            tails = {node: _tail_in(answer) for node, answer in answers.items()}
            tails[me] = self._look(me, places, limit)
            silent = [name for node, name in names.items() if node not in answers]
            kept = {node: places[node] for node in names if node not in answers and node in places}
            call.respond(told(_joined(tails, kept, limit, silent, is_first=not places)))

        self._hosts.post.call_each(names, ASK, _pack((places, limit)), answered, timeout_s=_PATIENCE_S)

    def _on_ask(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        places, limit = _asked_in(body)
        answer(_pack(self._look(self._hosts.membership.node, places, limit)))

    def _look(self, node: str, places: Places, limit: int) -> PushTail:
        # One that came while somebody watched begins where the others were.
        after_ms = places.get(node, min(places.values(), default=None))
        return look(self._hosts.services(), after_ms, limit, self._hosts.parts.clock.wall_ms())


def places_of(after: str) -> Places:
    """Where each node's last look ended; empty: there was none.

    Raises:
        InvalidInput: it is none of ours.
    """
    if not after:
        return {}
    parts = [part.rpartition(".") for part in after.split("~")]
    if len(parts) > _MOST_NODES or any(not node for node, _, _ in parts):
        raise InvalidInput(f"after is none of ours: {after[:20]!r}")
    return {node: position_of(place) for node, _, place in parts}


def _joined(
    tails: dict[str, PushTail], kept: Places, limit: int, silent: list[str], *, is_first: bool
) -> PushTail:
    items = sorted((item for tail in tails.values() for item in tail.items), key=lambda item: item.changed_at)
    places = {node: int(tail.next) for node, tail in tails.items()} | kept
    over = max(0, len(items) - limit)
    missed = 0 if is_first else over + sum(tail.missed for tail in tails.values())
    place = "~".join(f"{node}.{place}" for node, place in sorted(places.items()))
    return PushTail(items[over:], place, missed, silent)
