"""Recommendations: the model, the view that feeds it, and its routes, where numpy is there.

Nothing else in the product needs numpy, so it is an extra, and nothing that imports it
may be imported before this module has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from heartcast.api.route import Route
from heartcast.app.views import TasteView
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.options import RankingOptions

if TYPE_CHECKING:
    from heartcast.ranking.for_you import ForYou


@dataclass(frozen=True)
class Personal:
    """The parts of recommending."""

    for_you: ForYou
    view: TasteView
    routes: list[Route]


def personal(
    options: RankingOptions,
    boards: HotBoards,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    rebuild_wanted: Callable[[], None],
) -> Personal | None:
    """Make them, or None where recommendations are off.

    Args:
        boards: What is hot, for the part that is.
        rebuild_wanted: Called when the view missed events.

    Raises:
        SettingsError: they were asked for and the extra is missing.
    """
    if not _is_on(options):
        return None
    from heartcast.api import recommend
    from heartcast.ranking.for_you import ForYou
    from heartcast.ranking.strategy import ARTICLE, BALANCED
    from heartcast.ranking.taste import Taste

    def fresh() -> Taste:
        return Taste(options.taste)

    for_you = ForYou(fresh(), boards, options.for_you, loop.call_later)
    strategies = {"balanced": BALANCED, "article": ARTICLE}
    return Personal(
        for_you,
        TasteView(for_you, fresh, rebuild_wanted),
        recommend.routes(for_you, strategies, clock.wall_ms),
    )


def _is_on(options: RankingOptions) -> bool:
    if options.recommendations == "off":
        return False
    try:
        for library in ("numpy", "scipy.sparse"):
            import_module(library)
    except ImportError as error:
        if options.recommendations == "auto":
            return False
        raise SettingsError(
            f"recommendations need the extra: pip install 'heartcast[ranking]' ({error})",
            path="ranking.recommendations",
        ) from error
    return True
