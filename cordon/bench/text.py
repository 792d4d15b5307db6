"""Results as text: for a terminal, and as Markdown for docs/performance.md."""

from __future__ import annotations

import math
import sys
import time
from statistics import median

from cordon.bench.cases import GROUPS, TABLE, Case
from cordon.bench.results import NATIVE, SIGNIFICANT, TESTABLE, Results

REFERENCE = "gVisor newest, systrap, same kind of machine (busy / quiet; from issue 3's table, not measured here)"


def amount(value: float, unit: str = "ns") -> str:
    """For people: three digits and a unit."""
    if math.isnan(value):
        return "-"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "times":
        return f"{value:.2f} x"
    if unit == "bytes":
        scale: tuple[tuple[float, str], ...] = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
    else:
        scale = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1, "ns"))
    for size, name in scale:
        if value >= size or size == 1:
            v = value / size
            return f"{v:.0f} {name}" if v >= 99.5 else f"{v:.3g} {name}"
    return "-"


def times(ratio: float) -> str:
    if math.isnan(ratio):
        return "-"
    return f"{ratio:.0f}" if ratio >= 99.5 else f"{ratio:.1f}" if ratio >= 9.95 else f"{ratio:.2f}"


def target(case: Case) -> str:
    if case.target_ns:
        return f"{amount(case.target_ns)}"
    return f"{case.target:g} x" if case.target is not None else ""


def reference(case: Case) -> str:
    return f"{case.gvisor[0]:g} / {case.gvisor[1]:g}" if case.gvisor else ""


def spread(low: float, high: float, median: float) -> str:
    """Half the interquartile range in percent of the median."""
    return f"±{(high - low) / 2 / median:.0%}" if median > 0 else ""


def cell(results: Results, case: Case, launcher: str) -> tuple[str, str, str]:
    """Median, spread and ratio with its mark: = is no significant difference from native."""
    s = results.summary(case.name, launcher)
    if s is None:
        return "-", "", ""
    ratio = ""
    if launcher != NATIVE and not math.isnan(s.ratio) and case.unit == "ns":
        mark = "=" if s.taken >= TESTABLE and s.p >= SIGNIFICANT else ""
        met = results.meets(case, launcher)
        ratio = f"{times(s.ratio)}{mark}{'' if met is None else ' ✓' if met else ' ✗'}"
    return amount(s.median, case.unit), spread(s.low, s.high, s.median), ratio


def rows(results: Results, group: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one group; the table has targets and gVisor's figures too."""
    head = ["case"]
    for name in results.launchers:
        head += [name, "±"] if name == NATIVE else [name, "±", "x native"]
    if group == TABLE:
        head += ["target", "gVisor*"]
    body = []
    for case in results.cases():
        if case.group != group:
            continue
        line = [case.title]
        for name in results.launchers:
            value, width, ratio = cell(results, case, name)
            line += [value, width] if name == NATIVE else [value, width, ratio]
        if group == TABLE:
            line += [target(case), reference(case)]
        body.append(line)
    return head, body


def table(results: Results, colour: bool = False) -> str:
    """Everything, in columns."""
    out: list[str] = []
    for group, title in GROUPS.items():
        head, body = rows(results, group)
        if not body:
            continue
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        out.append(bold(title, colour))
        for n, line in enumerate([head, *body]):
            cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            text = "  ".join(cells).rstrip()
            if colour:
                text = text.replace("✓", "\033[32m✓\033[0m").replace("✗", "\033[31m✗\033[0m")
            out.append(bold(text, colour) if n == 0 else text)
        out.append("")
    return "\n".join(out + remarks(results))


def bold(text: str, colour: bool) -> str:
    return f"\033[1m{text}\033[0m" if colour else text


def machine_line(results: Results) -> str:
    m = results.machine
    kvm = "with" if m.get("kvm") else "without"
    return (
        f"{m.get('cpu')}, {m.get('cores')} cores, {amount(float(m.get('memory', 0)), 'bytes')}, Linux {m.get('kernel')}, "
        f"{m.get('system')}, {kvm} /dev/kvm; {m.get('when')}"
    )


def remarks(results: Results) -> list[str]:
    """How to read the figures."""
    out = [
        machine_line(results),
        f"{results.rounds} interleaved rounds{' (quick)' if results.quick else ''}, seed {results.seed}. {results.quiet()}",
        "Medians; ± half the interquartile range; x native: median of the ratios of the same rounds, = where a rank test "
        f"(Mann-Whitney) sees no difference at p < {SIGNIFICANT}; ✓ ✗ target reached or not.",
    ]
    if any(c.group == TABLE for c in results.cases()):
        out.append(f"* {REFERENCE}.")
    getpid = results.summary("getpid", "cordon ptrace")
    if results.sysemu and getpid:
        bare = median(results.sysemu)
        out.append(
            f"A bare PTRACE_SYSEMU round trip on one core, with registers read and written: {amount(bare)}; "
            f"getpid on ptrace is {times(getpid.median / bare)} x that (target 1.25)."
        )
    peers = [f"{name}: {version}" for name, version in results.launchers.items() if version]
    if peers:
        out.append("Peers: " + "; ".join(peers) + ".")
    return out + [f"Not measured: {f}" for f in results.failures]


def markdown(results: Results) -> str:
    """The same for docs/performance.md."""
    out: list[str] = []
    for group, title in GROUPS.items():
        head, body = rows(results, group)
        if not body:
            continue
        out += [f"### {title}", "", line_of(head), line_of(["---"] + ["--:"] * (len(head) - 1))]
        out += [line_of(line) for line in body]
        out.append("")
    return "\n".join([*out, *(f"- {r}" for r in remarks(results))]) + "\n"


def line_of(cells: list[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


class Progress:
    """A bar on stderr when that is a terminal, else nothing."""

    WIDTH = 30

    def __init__(self, total: int) -> None:
        self.total = max(1, total)
        self.done = 0
        self.began = time.monotonic()
        self.on = sys.stderr.isatty()

    def step(self, what: str) -> None:
        """A new piece of work begins."""
        if self.on:
            share = min(1.0, self.done / self.total)
            full = round(share * self.WIDTH)
            left = (time.monotonic() - self.began) / share * (1 - share) if share > 0.02 else 0
            eta = f", {left / 60:.0f}:{left % 60:02.0f} left" if left else ""
            bar = "█" * full + "░" * (self.WIDTH - full)
            sys.stderr.write(f"\r\033[K{bar} {share:4.0%}{eta}  {what[:60]}")
            sys.stderr.flush()
        self.done += 1

    def clear(self) -> None:
        if self.on:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
