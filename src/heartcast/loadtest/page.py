"""A report, or two beside each other, as one HTML file that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from heartcast.core.errors import SettingsError
from heartcast.loadtest.meter import Quantiles
from heartcast.loadtest.plots import Line, histogram, lines
from heartcast.loadtest.report import Report
from heartcast.loadtest.run import Second

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2128;--dim:#667;--rule:#e3e6ea;--card:#f7f8fa;
--c0:#d6336c;--c1:#1c7ed6;--c2:#2f9e44;--c3:#e8590c;--good:#2b8a3e;--bad:#c92a2a}
@media(prefers-color-scheme:dark){:root{--bg:#14171c;--fg:#e6e8eb;--dim:#9aa3ad;--rule:#2b3038;--card:#1c2027;
--c0:#f783ac;--c1:#74c0fc;--c2:#8ce99a;--c3:#ffa94d;--good:#69db7c;--bad:#ff8787}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1120px;padding:28px 20px 60px;background:var(--bg);
color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:34px 0 10px}p{margin:4px 0}.dim,small{color:var(--dim)}
.badge{display:inline-block;padding:2px 12px;border-radius:6px;color:#fff;font-weight:600;font-size:15px;
vertical-align:3px;margin-left:10px}.passed{background:#2b8a3e}.failed{background:#c92a2a}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:22px 0}
.card{background:var(--card);border-radius:10px;padding:12px 16px}.card b{display:block;font-size:25px;
line-height:1.25;font-variant-numeric:tabular-nums}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:16px}
figure{margin:0;background:var(--card);border-radius:10px;padding:12px}figcaption{font-weight:600;display:flex;
flex-wrap:wrap;justify-content:space-between;gap:4px 14px}figcaption span{margin-left:12px;font-weight:400}
figcaption i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px}
svg{display:block;width:100%;height:auto;margin-top:6px}svg text{font-size:11px;fill:var(--dim)}
.grid{stroke:var(--rule);fill:none}.line{fill:none;stroke-width:2;stroke-linejoin:round}.hover{fill:transparent}
.bar{fill:var(--c1)}.line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}
.line.s3{stroke:var(--c3)}.dot.s0{fill:var(--c0)}.dot.s1{fill:var(--c1)}.dot.s2{fill:var(--c2)}
.dot.s3{fill:var(--c3)}
i.s0{background:var(--c0)}i.s1{background:var(--c1)}i.s2{background:var(--c2)}i.s3{background:var(--c3)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule)}
th{color:var(--dim);font-weight:500}
th:first-child,td:first-child{text-align:left}
ul{list-style:none;padding:0;margin:0}li.met::before{content:"\\2713  ";color:var(--good)}
li.not::before{content:"\\2717  ";color:var(--bad)}li.not{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto}details{margin-top:26px}pre{background:var(--card);padding:12px;border-radius:10px;overflow:auto}
.flame{width:100%;background:#fff;border-radius:10px}
"""

_KINDS = ("lost", "duplicate", "reordered", "damaged", "unacknowledged", "late", "told")


def page(report: Report, flame: str = "") -> str:
    """One run.

    Args:
        flame: An SVG flame graph of the server; "" for none.
    """
    badge = _badge(report)
    parts = [
        f"<h1>heartcast bench {escape(report.scenario)}{badge}</h1>",
        f'<p class="dim">{escape(report.url)} · {escape(report.began_at)} · {report.took_s:g} s · '
        f"heartcast {escape(report.heartcast)}<br>{escape(report.machine)}</p>",
        f"<p>{escape(report.ended_by)}</p>" if report.ended_by else "",
        _cards(report),
        "<h2>Verdict</h2>",
        _checks(report),
        '<h2>Over time</h2><div class="plots">',
        *_plots(report),
        "</div>",
        "<h2>Latencies in ms, from the intended moment</h2>",
        _quantiles(report),
        _examples(report),
        "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in _notes(report)) + "</ul>",
        _flame(flame),
        f"<details><summary>Scenario</summary><pre>{escape(_options(report.options))}</pre></details>",
    ]
    return _document(f"heartcast bench {report.scenario}", parts)


def _flame(svg: str) -> str:
    if not svg:
        return ""
    # As a document of its own: its script and its ids then meet none of ours.
    data = b64encode(svg.encode()).decode()
    return (
        "<h2>Where the server spent its time</h2>"
        f'<object class="flame" type="image/svg+xml" data="data:image/svg+xml;base64,{data}"></object>'
    )


def _document(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def _badge(report: Report) -> str:
    outcome = "passed" if report.is_passed else "failed"
    said = "incomplete" if report.ended_by is not None else outcome
    return f'<span class="badge {outcome}">{said}</span>'


def _cards(report: Report) -> str:
    main = report.deliveries if report.deliveries.count else report.requests
    wrong = sum(report.counts[kind] for kind in _KINDS[:5])
    cards = [
        (f"{report.delivered:,}", f"of {report.owed:,} delivered"),
        (f"{wrong:,}", "lost, doubled, reordered, damaged or kept"),
        (_ms(main.p50_ms), "median latency"),
        (_ms(main.p99_ms), "p99 latency"),
        (f"{report.delivered_per_s or report.answered_per_s:,.0f}", "per second"),
    ]
    if report.server_cpu_mean is not None:
        cards.append((f"{report.server_cpu_mean:.0%}", "of a core, the server"))
    if report.server_rss_last_bytes:
        cards.append((f"{report.server_rss_last_bytes / 1e6:,.0f} MB", "the server's memory"))
    inner = "".join(
        f'<div class="card"><b>{escape(big)}</b><small>{small}</small></div>' for big, small in cards
    )
    return f'<div class="cards">{inner}</div>'


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _checks(report: Report) -> str:
    items = "".join(
        f'<li class="{"met" if check.is_met else "not"}">{escape(check.sentence)}</li>'
        for check in report.checks
    )
    return f"<ul>{items}</ul>"


def _line(name: str, seconds: Sequence[Second], read: Callable[[Second], float | None]) -> Line:
    return Line(name, [(second.at_s, read(second)) for second in seconds])


def _plots(report: Report) -> list[str]:
    seconds = report.seconds
    main: Callable[[Second], Quantiles] = (
        (lambda s: s.deliveries) if report.deliveries.count else (lambda s: s.requests)
    )
    shown = "Delivery" if report.deliveries.count else "Request"
    return [
        lines(
            f"{shown} latency",
            [
                _line("p50", seconds, lambda s: main(s).p50_ms),
                _line("p90", seconds, lambda s: main(s).p90_ms),
                _line("p99", seconds, lambda s: main(s).p99_ms),
            ],
            unit="ms",
        ),
        lines(
            "Throughput",
            [
                _line("offered", seconds, lambda s: s.offered),
                _line("answered", seconds, lambda s: s.answered),
                _line("delivered", seconds, lambda s: s.delivered),
            ],
            unit="per second",
        ),
        lines(
            "Processor",
            [
                _line("server", seconds, lambda s: None if s.server_cpu is None else s.server_cpu * 100),
                _line("tester", seconds, lambda s: s.tester_cpu * 100),
            ],
            unit="% of a core",
        ),
        lines(
            "Memory of the server",
            [_line("resident", seconds, lambda s: s.server_rss_bytes and s.server_rss_bytes / 1e6)],
            unit="MB",
        ),
        histogram(f"{shown} latency of the whole run", report.histogram),
        _knee(report),
    ]


def _knee(report: Report) -> str:
    """Latency against throughput, where the load changed."""
    load = report.options.get("load")
    if not isinstance(load, dict) or load.get("shape") == "steady":
        return ""
    points = sorted((float(s.answered), s.requests.p99_ms) for s in report.seconds if s.answered)
    return lines(
        "The knee", [Line("request p99", points)], unit="ms", x_unit="answers per second", marked=True
    )


def _quantiles(report: Report) -> str:
    rows = [
        ("requests", report.requests),
        ("deliveries", report.deliveries),
        ("connecting", report.openings),
    ]
    body = "".join(
        f"<tr><td>{name}</td><td>{q.count:,}</td>"
        + "".join(f"<td>{_plain(v)}</td>" for v in _values(q))
        + "</tr>"
        for name, q in rows
        if q.count
    )
    head = _row("th", ["", "count", "mean", "p50", "p90", "p99", "p99.9", "max"])
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def _row(cell: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{text}</{cell}>" for text in texts) + "</tr>"


def _values(q: Quantiles) -> tuple[float | None, ...]:
    return (q.mean_ms, q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _examples(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{kind}</td><td>{escape(e.stream)}</td><td>{'' if e.sequence is None else e.sequence}</td>"
        f"<td>{e.session}</td><td>{e.at_s:.2f} s</td><td>{escape(e.detail)}</td></tr>"
        for kind in _KINDS
        for e in report.examples[kind]
    )
    if not rows:
        return ""
    head = _row("th", ["what", "stream", "number", "session", "when", ""])
    return f'<h2>Examples</h2><div class="scroll"><table>{head}{rows}</table></div>'


def _notes(report: Report) -> list[str]:
    tester = report.tester
    lag = f", sent at most {tester.lag_p99_ms:.1f} ms late (p99)" if tester.lag_p99_ms is not None else ""
    own = f"The tester used {tester.cpu_mean:.0%} of a core{lag}."
    counts = ", ".join(
        f"{report.counts[kind]:,} {kind}" for kind in ("recovered", "redelivered") if report.counts[kind]
    )
    closes = [f"{n:,} connections closed by the server: {why}." for why, n in report.closes.items()]
    failures = [
        f"{n:,} attempts to connect or subscribe failed: {why}." for why, n in report.failures.items()
    ]
    return [*report.notes, *([f"Among the deliveries: {counts}."] if counts else []), *closes, *failures, own]


def _options(options: dict[str, object]) -> str:
    plain = [f"{name} = {value!r}" for name, value in options.items() if not isinstance(value, dict)]
    for table, fields in options.items():
        if isinstance(fields, dict):
            plain += ["", f"[{table}]", *(f"{name} = {value!r}" for name, value in fields.items())]
    return "\n".join(plain)


def compared(first: Report, second: Report) -> list[tuple[str, float | None, float | None]]:
    """What two runs have in common, as (name with unit, first, second)."""

    def both(name: str, read: Callable[[Report], float | None]) -> tuple[str, float | None, float | None]:
        return (name, read(first), read(second))

    rows = [
        both("offered per s", lambda r: r.offered_per_s),
        both("answered per s", lambda r: r.answered_per_s),
        both("delivered per s", lambda r: r.delivered_per_s),
        both("request p50 ms", lambda r: r.requests.p50_ms),
        both("request p99 ms", lambda r: r.requests.p99_ms),
        both("delivery p50 ms", lambda r: r.deliveries.p50_ms),
        both("delivery p99 ms", lambda r: r.deliveries.p99_ms),
        both("delivery p99.9 ms", lambda r: r.deliveries.p999_ms),
        both("connecting p99 ms", lambda r: r.openings.p99_ms),
        both("server CPU %", lambda r: None if r.server_cpu_mean is None else r.server_cpu_mean * 100),
        both("server CPU µs per message", lambda r: r.server_cpu_per_message_us),
        both("server memory MB", lambda r: r.server_rss_last_bytes and r.server_rss_last_bytes / 1e6),
        both("tester CPU %", lambda r: r.tester.cpu_mean * 100),
        *[both(kind, lambda r, kind=kind: r.counts[kind]) for kind in _KINDS],  # type: ignore[misc]
    ]
    return [row for row in rows if row[1] is not None or row[2] is not None]


def change(first: float | None, second: float | None) -> str:
    """By how much the second differs, such as ``+12 %``; "" where nothing can be said."""
    if first is None or second is None or first == second:
        return ""
    if not first:
        return f"+{second:,.0f}"
    return f"{(second - first) / first:+.0%}"


def comparison(first: Report, second: Report) -> str:
    """Two runs side by side."""
    rows = "".join(
        f"<tr><td>{name}</td><td>{_plain(a)}</td><td>{_plain(b)}</td><td>{change(a, b)}</td></tr>"
        for name, a, b in compared(first, second)
    )
    names = [f"{n}: {r.scenario}, {r.began_at}" for n, r in (("first", first), ("second", second))]

    def overlay(title: str, unit: str, read: Callable[[Second], float | None]) -> str:
        return lines(
            title, [_line(n, r.seconds, read) for n, r in (("first", first), ("second", second))], unit=unit
        )

    parts = [
        "<h1>heartcast bench: two runs</h1>",
        "".join(f'<p>{escape(name)}{_badge(r)} <span class="dim">{escape(r.machine)}</span></p>'
                for name, r in zip(names, (first, second), strict=True)),
        '<h2>Side by side</h2><div class="scroll"><table>',
        _row("th", ["", "first", "second", "change"]),
        rows,
        '</table></div><h2>Over time</h2><div class="plots">',
        overlay("Delivery p99", "ms", lambda s: s.deliveries.p99_ms),
        overlay("Request p99", "ms", lambda s: s.requests.p99_ms),
        overlay("Answered", "per second", lambda s: s.answered),
        overlay("Processor of the server", "% of a core", lambda s: s.server_cpu and s.server_cpu * 100),
        "</div>",
    ]  # fmt: skip
    return _document("heartcast bench: two runs", parts)


def write(html: str, path: Path) -> None:
    """Write a page.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
