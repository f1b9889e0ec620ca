"""``heartcast ranking``: how good are the recommendations?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from heartcast.cli.ranking_import import import_feedback
from heartcast.core.errors import HeartcastError

if TYPE_CHECKING:
    from heartcast.ranking.evaluate.lineup import Line
    from heartcast.ranking.evaluate.movielens import PublishedSplit
    from heartcast.ranking.evaluate.serving import Mixed
    from heartcast.ranking.evaluate.splits import Split
    from heartcast.ranking.interactions import Interactions

_LOOKED_FOR = "../shared/data"
_LEAST_WIDTH = 120
_SHOWN = 10


@click.group()
def ranking() -> None:
    """Import what people did, and evaluate rankings offline."""


ranking.add_command(import_feedback)


@ranking.command("eval")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder that holds ranking/ml-100k. Default: $HEARTCAST_DATA, then {_LOOKED_FOR}.",
)
@click.option(
    "--events",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Evaluate on your own events instead: a table of user, item and, if known, rating and time.",
)
@click.option("--choose", is_flag=True, help="Choose our settings again on validation data; takes minutes.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw nDCG@10 as SVG or PNG."
)
def evaluate(data: Path | None, events: Path | None, choose: bool, plot: Path | None) -> None:
    """Compare recommenders on MovieLens-100K: a published split, and splits by time."""
    _need_numpy()
    if events is not None:
        _compare_own(_console(), events)
        return
    from heartcast.ranking.evaluate import movielens

    folder = _folder(data) / "ranking"
    try:
        ratings = movielens.read_ratings(folder / "ml-100k" / "u.data")
        published = movielens.read_published(ratings, folder / "ml-100k-published-split")
    except (OSError, ValueError, KeyError) as error:
        raise HeartcastError(
            f"cannot read the ratings in {folder}: {error}", code="data_unreadable"
        ) from error
    console = _console()
    if choose:
        _show_choices(console, published.known, movielens.everything(ratings))
    lines = _compare_published(console, published)
    _compare_by_time(console, movielens.everything(ratings))
    if plot is not None:
        _draw(lines, plot)
        console.print(f"wrote {plot}")


def _console() -> Console:
    console = Console()
    if console.width < _LEAST_WIDTH and not console.is_terminal:
        # A pipe has no width of its own; narrower than this every cell would be folded.
        return Console(width=_LEAST_WIDTH)
    return console


def _compare_own(console: Console, path: Path) -> None:
    from heartcast.ranking.evaluate import events_file, lineup, splits

    try:
        events, has_times = events_file.read(path)
    except (OSError, ValueError) as error:
        raise HeartcastError(f"cannot read the events in {path}: {error}", code="data_unreadable") from error
    asked = (
        {
            "each user's newest event asked for": splits.leave_last_out(events),
            "the last fifth by time asked for": splits.global_time(events, 0.8),
        }
        if has_times
        else {"a fifth, drawn by lot, asked for": splits.ratio(events, 0.2, 1)}
    )
    if not has_times:
        console.print("There are no times: nobody knows what came last, and what is served lives by that.")
    console.print(
        f"{len(events):,} events of {events.n_users:,} users and {events.n_items:,} items", highlight=False
    )
    for words, split in asked.items():
        if not len(split.held_out):
            console.print(f"{words}: nobody to ask about, there are too few events")
            continue
        with console.status("evaluating") as status:
            lines = lineup.compare(lineup.own_entries(events, has_times), split, "popularity", status.update)
        table = _table(f"{words}: {len(lines[0].report.per_user['nDCG@10']):,} users", "popularity")
        for line in lines:
            _add(table, line)
        console.print(table)


def _need_numpy() -> None:
    try:
        import numpy  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise HeartcastError(
            "this needs numpy and scipy: pip install 'heartcast[ranking]'", code="extra_missing"
        ) from error


def _folder(data: Path | None) -> Path:
    named = data or Path(os.environ.get("HEARTCAST_DATA", _LOOKED_FOR))
    if not (named / "ranking" / "ml-100k").is_dir():
        raise HeartcastError(
            f"there is no ranking/ml-100k in {named.resolve()}; say where it is by --data or HEARTCAST_DATA",
            code="data_missing",
        )
    return named


def _compare_published(console: Console, published: PublishedSplit) -> list[Line]:
    from heartcast.ranking.evaluate import lineup

    with console.status("evaluating") as status:
        lines = lineup.compare(lineup.PUBLISHED, published.test, "ItemKNN (227, 5), by column", status.update)
    table = _table("ML-100K, published leave-one-out split: 943 users, 1,349 items, full ranking", "ItemKNN")
    for line in lines:
        _add(table, line)
        if line.entry.published:
            table.add_row("  published", *(f"{value:.4f}" for value in line.entry.published), "", style="dim")
    for name, values in lineup.BEST_PUBLISHED.items():
        table.add_row(name, *(f"{value:.4f}" for value in values), "", style="dim")
    console.print(table)
    console.print(
        "Leaving one out hides a user's last event but shows everybody else's future, and rewards\n"
        "guessing the next item of the same sitting. The splits by time below do neither.\n",
        style="dim",
    )
    return lines


def _compare_by_time(console: Console, events: Interactions) -> None:
    from heartcast.ranking.evaluate import lineup, splits

    for quantile in (0.8, 0.9):
        split = splits.global_time(events, quantile)
        with console.status("evaluating") as status:
            lines = lineup.compare(
                lineup.global_entries(events, quantile), split, "popularity", status.update
            )
        users = len(lines[0].report.per_user["nDCG@10"])
        table = _table(
            f"ML-100K, everything before {quantile:.0%} known: {users} users asked about", "popularity"
        )
        for line in lines:
            _add(table, line)
        console.print(table)


def _table(title: str, base: str) -> Table:
    from heartcast.ranking.evaluate import lineup

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in lineup.METRICS:
        table.add_column(name, justify="right")
    table.add_column(f"above {base}, 95 %", justify="right")
    return table


def _add(table: Table, line: Line) -> None:
    from heartcast.ranking.evaluate import lineup

    values = {name: f"{line.report.overall[name]:.4f}" for name in lineup.METRICS}
    half = (line.interval.high - line.interval.low) / 2
    values["nDCG@10"] += f" ±{half:.3f}"
    gain = "" if line.gain is None else f"{line.gain.mean:+.4f} [{line.gain.low:+.4f}, {line.gain.high:+.4f}]"
    is_ours = line.entry.name.startswith("ours")
    table.add_row(line.entry.name, *values.values(), gain, style="bold" if is_ours else None)


def _show_choices(console: Console, known: Interactions, events: Interactions) -> None:
    from heartcast.ranking.evaluate import lineup
    from heartcast.ranking.evaluate.splits import global_time

    table = Table(title="Choices by validation: mean nDCG@10 over five origins", title_justify="left")
    table.add_column("nDCG@10", justify="right")
    table.add_column("settings", overflow="fold")
    best = []
    for choose in (lineup.choose_nearby, lineup.choose_item, lineup.choose_ease, lineup.choose_user):
        with console.status(choose.__doc__ or ""):
            judged = choose(known)
        best.append(judged[0].recommender)
        for score, recommender in judged[:3]:
            table.add_row(f"{score:.4f}", str(recommender))
        table.add_section()
    with console.status("blend"):
        blends = lineup.choose_blend(known, best)
    for score, shares in blends[:3]:
        words = ", ".join(
            f"{share:g} {type(part).__name__}" for share, part in zip(shares, best, strict=True) if share
        )
        table.add_row(f"{score:.4f}", f"Blend({words})")
    table.add_section()
    console.print(table)
    _show_served(console, known, global_time(events, 0.8))


def _show_served(console: Console, known: Interactions, by_time: Split) -> None:
    from heartcast.ranking.evaluate import serving

    with console.status("what is served"):
        chosen = serving.choose_served(serving.questions(known, float(by_time.train.times_s.max()), 2))
    table = Table(title="What is served: newest asks for two origins, latest by time", title_justify="left")
    for name in ("newest", "latest", "geometric mean"):
        table.add_column(name, justify="right")
    table.add_column("settings", overflow="fold")

    def add(mixed: Mixed, words: str) -> None:
        table.add_row(f"{mixed.newest:.4f}", f"{mixed.latest:.4f}", f"{mixed.score:.4f}", words)

    for mixed, recommender in chosen.sources.values():
        add(mixed, str(recommender))
    table.add_section()
    for mixed in chosen.mixed[:_SHOWN]:
        shares = zip(mixed.shares, chosen.sources, strict=True)
        add(mixed, f"{mixed.join}: " + ", ".join(f"{share:g} {name}" for share, name in shares if share))
    console.print(table)


def _draw(lines: list[Line], path: Path) -> None:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise HeartcastError(
            "--plot needs matplotlib: pip install matplotlib", code="extra_missing"
        ) from error
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(lines) + 1), layout="constrained")
    names = [line.entry.name for line in lines][::-1]
    means = [line.interval.mean for line in lines][::-1]
    spans = [
        [line.interval.mean - line.interval.low, line.interval.high - line.interval.mean] for line in lines
    ]
    axes.errorbar(
        means, names, xerr=list(zip(*spans[::-1], strict=True)), fmt="o", color="#d6336c", capsize=3
    )
    axes.set_xlabel("nDCG@10, 95 % interval over users")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path)
    pyplot.close(figure)
