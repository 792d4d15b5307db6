"""Results as one HTML page: tables and plots (inline SVG), light and dark, nothing loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from cordon.bench import text
from cordon.bench.cases import GROUPS, SCALING, Case
from cordon.bench.results import NATIVE, Results

COLOURS = 9
ROW = 17
LABELS = 290
PLOT = 560
TICKS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)

STYLE = """
:root { color-scheme: light dark; --fg: #1c2430; --bg: #fff; --soft: #5d6878; --line: #dde2e9; --card: #f6f8fa;
  --good: #11713b; --bad: #b3261e;
  --c0: #6b7686; --c1: #2563c9; --c2: #c2410c; --c3: #0f766e; --c4: #7c3aed; --c5: #a16207; --c6: #be185d; --c7: #4d7c0f; --c8: #0e7490; }
@media (prefers-color-scheme: dark) { :root { --fg: #e4e8ee; --bg: #14181e; --soft: #98a4b5; --line: #2d3541; --card: #1b2129;
  --good: #5fd08d; --bad: #ff8a80;
  --c0: #9aa5b5; --c1: #6ea3ff; --c2: #ff9a5c; --c3: #4fd1c0; --c4: #b79bff; --c5: #e5b94d; --c6: #ff7fb2; --c7: #a4d25a; --c8: #5cc8e8; } }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--fg); background: var(--bg); margin: 2rem auto;
  max-width: 1240px; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, li { color: var(--soft); max-width: 90ch; margin: .3rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--card); } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--bg); }
th:first-child { background: var(--card); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: 13px; margin: .6rem 0 0; }
.soft { color: var(--soft); } .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
svg { display: block; max-width: 100%; height: auto; margin: .6rem 0; }
svg text { fill: var(--fg); font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); } svg .one { stroke: var(--soft); stroke-dasharray: 4 3; }
""" + "".join(f"svg .f{i} {{ fill: var(--c{i}); }} svg .s{i} {{ stroke: var(--c{i}); fill: none; }}\n" for i in range(COLOURS))


def page(results: Results) -> str:
    """The whole document."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>cordon bench</title><style>{STYLE}</style></head><body><h1>cordon bench</h1>",
        *(f"<p>{escape(r)}</p>" for r in text.remarks(results)),
    ]
    for group, title in GROUPS.items():
        cases = [c for c in results.cases() if c.group == group]
        if not cases:
            continue
        parts.append(f"<h2>{escape(title)}</h2>")
        parts.append(curves(results) if group == SCALING else dots(results, cases))
        parts.append(grid(results, group))
    return "\n".join([*parts, "</body></html>", ""])


def grid(results: Results, group: str) -> str:
    """The group's table."""
    head, body = text.rows(results, group)
    lines = ["<div class=wide><table><thead><tr>", *(f"<th>{escape(h)}</th>" for h in head), "</tr></thead><tbody>"]
    for row in body:
        lines.append("<tr>" + "".join(table_cell(c) for c in row) + "</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def table_cell(content: str) -> str:
    kind = "good" if content.endswith("✓") else "bad" if content.endswith("✗") else "soft" if content.startswith("±") else ""
    return f"<td class={kind}>{escape(content)}</td>" if kind else f"<td>{escape(content)}</td>"


def legend(names: Iterable[tuple[int, str]], extra: str = "") -> str:
    """Which colour is whose; it wraps, so it is not in the picture."""
    keys = [f"<span><b style='color:var(--c{i % COLOURS})'>●</b> {escape(name)}</span>" for i, name in names]
    return f"<div class=key>{''.join(keys)}{f'<span class=soft>{escape(extra)}</span>' if extra else ''}</div>"


def dots(results: Results, cases: list[Case]) -> str:
    """A line a case, ratios to native on a logarithmic axis, a dot a launcher; the target is a tick, gVisor's span a band."""
    rows = []
    for case in cases:
        ratios = {}
        for i, name in enumerate(results.launchers):
            s = results.summary(case.name, name)
            if name != NATIVE and s is not None and not math.isnan(s.ratio) and s.ratio > 0 and case.unit == "ns":
                ratios[i] = s.ratio
        if ratios:
            rows.append((case, ratios))
    if not rows:
        return ""
    values = [v for case, r in rows for v in (*r.values(), *(case.gvisor or ()), case.target or 1.0)]
    low, high = math.log(min(0.5, *values) * 0.85), math.log(max(2.0, *values) * 1.15)

    def x(ratio: float) -> float:
        return round(LABELS + (math.log(ratio) - low) / (high - low) * PLOT, 1)

    height = 30 + ROW * len(rows)
    extra = "| target    ▬ gVisor, from the issue's table (not measured here)" if any(c.gvisor for c, _ in rows) else ""
    out = [legend([(i, n) for i, n in enumerate(results.launchers) if n != NATIVE], extra)]
    out.append(f"<svg viewBox='0 0 {LABELS + PLOT + 20} {height}' role=img aria-label='ratios to native'>")
    for tick in TICKS:
        if low < math.log(tick) < high:
            kind = "one" if tick == 1 else "grid"
            out.append(f"<line x1={x(tick)} x2={x(tick)} y1=6 y2={height - 18} class={kind} />")
            out.append(f"<text x={x(tick)} y={height - 4} text-anchor=middle class=soft>{tick:g} x</text>")
    for n, (case, ratios) in enumerate(rows):
        y = 16 + ROW * n
        out.append(f"<text x={LABELS - 12} y={y + 4} text-anchor=end>{escape(case.title[:44])}</text>")
        if case.gvisor:
            a, b = sorted(map(x, case.gvisor))
            out.append(f"<rect x={a} y={y - 3} width={max(2.0, b - a):.1f} height=6 rx=3 class=f0 opacity=.35 />")
        if case.target is not None:
            out.append(f"<rect x={x(case.target) - 1:.1f} y={y - 7} width=2 height=14 class=f0 />")
        for i, ratio in ratios.items():
            label = f"{list(results.launchers)[i]}: {text.times(ratio)} x native"
            out.append(f"<circle cx={x(ratio)} cy={y} r=4.5 class=f{i % COLOURS}><title>{escape(label)}</title></circle>")
    return "".join([*out, "</svg>"])


def curves(results: Results) -> str:
    """Calls a second over the number of threads and of processes."""
    out = []
    for kind in ("threads", "processes"):
        lines: dict[int, list[tuple[int, float]]] = {}
        for i, name in enumerate(results.launchers):
            for n in (1, 2, 4, 8, 16):
                s = results.summary(f"{kind}_{n}", name)
                if s is not None and s.median > 0:
                    lines.setdefault(i, []).append((n, 1e9 / s.median))
        if lines:
            out.append(curve(results, kind, lines))
    return "".join(out)


def curve(results: Results, kind: str, lines: dict[int, list[tuple[int, float]]]) -> str:
    values = [v for points in lines.values() for _, v in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(n: int) -> float:
        return LABELS + math.log2(n) / 4 * (PLOT - 40)

    def y(v: float) -> float:
        return round(200 - (math.log10(v) - low) / (high - low) * 165, 1)

    out = [legend((i, list(results.launchers)[i]) for i in lines)]
    out.append(f"<svg viewBox='0 20 {LABELS + PLOT + 20} 220' role=img aria-label='calls a second by {kind}'>")
    out.append(f"<text x=10 y=110 class=soft>calls a second, {kind}</text>")
    for power in range(low, high + 1):
        v = 10.0**power
        out.append(f"<line x1={LABELS} x2={LABELS + PLOT - 40} y1={y(v)} y2={y(v)} class=grid />")
        out.append(f"<text x={LABELS - 8} y={y(v) + 4} text-anchor=end class=soft>{count(v)}</text>")
    for n in (1, 2, 4, 8, 16):
        out.append(f"<text x={x(n):.0f} y=222 text-anchor=middle class=soft>{n}</text>")
    for i, points in lines.items():
        path = " ".join(f"{x(n):.1f},{y(v)}" for n, v in points)
        out.append(f"<polyline points='{path}' class=s{i % COLOURS} stroke-width=2 />")
        out += [f"<circle cx={x(n):.1f} cy={y(v)} r=3.5 class=f{i % COLOURS}><title>{v:,.0f}</title></circle>" for n, v in points]
    return "".join([*out, "</svg>"])


def count(v: float) -> str:
    return f"{v / 1e6:g} M" if v >= 1e6 else f"{v / 1e3:g} k" if v >= 1e3 else f"{v:g}"
