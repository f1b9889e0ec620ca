"""Plots as inline SVG, drawn with the page's own colours, so that they follow light and dark.

Pure functions from numbers to text. Colours are classes (``s0`` to ``s3``) that the page's
style sheet fills in; nothing is loaded from anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 30


@dataclass(frozen=True, slots=True)
class Line:
    """A named series; None leaves a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


def nice_ticks(top: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to at least ``top``, about ``count`` steps of 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]


def number(value: float) -> str:
    """Short: 0.25, 12, 1.5k, 2.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def lines(title: str, series: Sequence[Line], *, unit: str, x_unit: str = "s", marked: bool = False) -> str:
    """A line chart from 0 upwards.

    Args:
        marked: Draw points without joining them.
    """
    present = [line for line in series if any(y is not None for _, y in line.points)]
    if not present:
        return ""
    xs = [x for line in present for x, _ in line.points]
    top = max(y for line in present for _, y in line.points if y is not None)
    ticks = nice_ticks(top)
    low, high = 0.0 if marked else min(xs), max(xs)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (high - low) if high > low else 0.0
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - y / ticks[-1] * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_grid(ticks, unit), _x_axis(low, high, x_unit)]
    for index, line in enumerate(present):
        if not marked:
            parts += [f'<path class="line s{index % 4}" d="{d}"/>' for d in _paths(line, at)]
        parts += _dots(line, at, index, unit, x_unit, is_seen=marked)
    return _figure(title, parts, [line.name for line in present])


def _paths(line: Line, at: Callable[[float, float], tuple[float, float]]) -> list[str]:
    paths, current = [], ""
    for x, y in line.points:
        if y is None:
            if current:
                paths.append(current)
            current = ""
            continue
        px, py = at(x, y)
        current += f"{'L' if current else 'M'}{px:.1f} {py:.1f}"
    return [*paths, current] if current else paths


def _dots(
    line: Line,
    at: Callable[[float, float], tuple[float, float]],
    index: int,
    unit: str,
    x_unit: str,
    *,
    is_seen: bool,
) -> list[str]:
    dots = []
    for x, y in line.points:
        if y is None:
            continue
        px, py = at(x, y)
        said = escape(f"{line.name}: {number(y)} {unit} at {number(x)} {x_unit}")
        kind = f"dot s{index % 4}" if is_seen else "hover"
        dots.append(
            f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="4"><title>{said}</title></circle>'
        )
    return dots


def _grid(ticks: Sequence[float], unit: str) -> str:
    parts = []
    for tick in ticks:
        y = HEIGHT - _BOTTOM - tick / ticks[-1] * (HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    return "".join(parts) + f'<text x="{_LEFT}" y="10">{escape(unit)}</text>'


def _x_axis(low: float, high: float, unit: str) -> str:
    parts = []
    for tick in nice_ticks(high - low, 6):
        x = low + tick
        if high == low and tick:
            break
        if x > high + (high - low) * 0.02:
            continue
        px = _LEFT + tick / (high - low) * (WIDTH - _LEFT - _RIGHT) if high > low else _LEFT
        said = f"{number(x)} s" if unit == "s" else number(x)
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{said}</text>')
    if unit != "s":
        middle = (WIDTH + _LEFT - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT + 4}" text-anchor="middle">{escape(unit)}</text>')
    return "".join(parts)


def histogram(title: str, buckets: Sequence[tuple[int, int]]) -> str:
    """How many messages took how long, on a logarithmic axis.

    Args:
        buckets: (top in µs, count), smallest first, as a ``Histogram`` gives them.
    """
    if not buckets:
        return ""
    bars: dict[int, int] = {}
    for top_us, count in buckets:
        # Sixteen bars per decade.
        bar = math.floor(math.log10(max(1, top_us)) * 16)
        bars[bar] = bars.get(bar, 0) + count
    low, high = min(bars), max(bars) + 1
    ticks = nice_ticks(max(bars.values()))
    wide = (WIDTH - _LEFT - _RIGHT) / (high - low)
    parts = [_grid(ticks, "messages")]
    for bar, count in sorted(bars.items()):
        tall = count / ticks[-1] * (HEIGHT - _TOP - _BOTTOM)
        x = _LEFT + (bar - low) * wide
        said = escape(
            f"{count:,} took {number(10 ** (bar / 16) / 1000)} to {number(10 ** ((bar + 1) / 16) / 1000)} ms"
        )
        parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{HEIGHT - _BOTTOM - tall:.1f}" '
            f'width="{max(1.0, wide - 1):.1f}" height="{tall:.1f}"><title>{said}</title></rect>'
        )
    parts += [
        f'<text x="{min(WIDTH - 20, _LEFT + (exponent * 16 - low) * wide):.1f}" y="{HEIGHT - 12}" '
        f'text-anchor="middle">'
        f"{number(10.0**exponent / 1000)} ms</text>"
        for exponent in range(math.ceil(low / 16), math.floor(high / 16) + 1)
    ]
    return _figure(title, parts, [])


def _figure(title: str, parts: Sequence[str], names: Sequence[str]) -> str:
    legend = "".join(
        f'<span><i class="s{index % 4}"></i>{escape(name)}</span>' for index, name in enumerate(names)
    )
    return (
        f"<figure><figcaption>{escape(title)}<small>{legend}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )
