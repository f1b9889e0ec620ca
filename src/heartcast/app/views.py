"""Where hearts meet the hot boards: the two domains do not know each other.

``HotView`` follows the bus of hearts and feeds the boards. When events were lost, and
at start, it rebuilds them from the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from heartcast.hearts.model import KIND, Heart, HeartChanged
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.live import LiveHot


class HotView:
    """A view of the bus (``core.bus.Subscriber``) that keeps the hot boards.

    Args:
        scan: Every heart there is, in batches (``HeartStore.scan``).
        flush: Hands over what waits on the bus (``Bus.flush``).
        wanted: Called when a rebuild is due; whoever owns tasks then runs ``rebuild``.
    """

    def __init__(
        self,
        boards: HotBoards,
        live: LiveHot,
        scan: Callable[[Callable[[], None]], AsyncIterator[list[Heart]]],
        flush: Callable[[], None],
        wanted: Callable[[], None],
    ) -> None:
        self._boards = boards
        self._live = live
        self._scan = scan
        self._flush = flush
        self._wanted = wanted

    def apply(self, events: list[HeartChanged]) -> None:
        self._live.apply(
            [
                (event.key.target_id, float(event.delta), event.created_ms)
                for event in events
                if event.key.kind == KIND
            ]
        )

    def mark_stale(self) -> None:
        self._boards.mark_stale()
        self._wanted()

    async def rebuild(self) -> None:
        """Fill the boards anew from the store, while the old ones stay in use.

        Raises:
            StoreUnavailable: the store could not be read to its end; the boards are as before.
        """
        is_done = False
        while not is_done:
            async for hearts in self._scan(self._begin):
                self._boards.feed(
                    [(heart.key.target_id, heart.created_ms) for heart in hearts if heart.key.kind == KIND]
                )
            # False: events were lost again meanwhile, and the boards must start over.
            is_done = self._boards.finish_rebuild()

    def _begin(self) -> None:
        # What is scanned was announced, but may still wait on the bus: on the fresh boards
        # it would count a second time.
        self._flush()
        self._boards.begin_rebuild()
