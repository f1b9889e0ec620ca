"""The comparison as a picture: what a decision costs, what a guarded call costs, what a burst gets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heartcast.resilience.compare.report import Report

_OURS, _THEIRS, _INK = "#d6336c", "#ced4da", "#495057"


def plot(report: Report, path: Path) -> None:
    """Draw it; the ending of ``path`` says as what, such as ``.png`` or ``.svg``.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]

    mpl.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    heights = (len(report.limiters_ns), len(report.breakers_ns), len(report.algorithms))
    figure, rows = pyplot.subplots(3, 1, figsize=(9, 10), height_ratios=heights)
    figure.suptitle(
        f"Limits and breakers, {report.python}, {report.machine}", x=0.02, ha="left", weight="bold"
    )
    _costs(rows[0], "An admitted decision, µs (shorter is better)", report.limiters_ns)
    _costs(rows[1], "A good call through a closed breaker, µs (shorter is better)", report.breakers_ns)
    burst = report.algorithms[0].burst_offered
    _bars(
        rows[2],
        f"Admitted of {burst} requests in a burst of 500 ms, at a limit of 1000/s",
        [(row.algorithm, row.burst_admitted, f"{row.burst_admitted}", _OURS) for row in report.algorithms],
    )
    rows[2].axvline(500, color=_INK, linestyle="--", linewidth=1)
    rows[2].text(510, len(report.algorithms) - 0.5, "the rate itself", color=_INK, va="top", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _costs(axes: Any, title: str, costs_ns: dict[str, float]) -> None:
    _bars(
        axes,
        title,
        [
            (name, ns / 1000, f"{ns / 1000:.2f}", _OURS if name.startswith("heartcast") else _THEIRS)
            for name, ns in sorted(costs_ns.items(), key=lambda item: item[1])
        ],
    )


def _bars(axes: Any, title: str, bars: Iterable[tuple[str, float, str, str]]) -> None:
    """Horizontal bars, the first on top, each with its value at its end instead of an axis."""
    names, values, labels, colours = zip(*bars, strict=True)
    drawn = axes.barh(names, values, color=colours, height=0.7)
    axes.bar_label(drawn, labels, padding=4, color=_INK, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.1)
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.tick_params(left=False, colors=_INK, labelsize=9)
    axes.xaxis.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
