"""cordon bench: what system calls and programs cost natively, on the platforms that work here, and in peers."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cordon.errors import CordonError

if TYPE_CHECKING:
    from cordon.bench.cases import Case
    from cordon.bench.launchers import Launcher
    from cordon.bench.results import Results

EPILOG = """\
CASE is a name such as getpid, a pattern such as 'nr_*', or a group: table, more, scaling, classes, sandbox.
Rounds are interleaved in random order; medians and quartiles are of the rounds, ratios of the same rounds.
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="cordon bench",
        description="Measures system calls and programs natively and in sandboxes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument(
        "--platform", action="append", metavar="P", help="a platform to measure; default: all that work here"
    )
    p.add_argument(
        "--peers", action="store_true", help="measure runsc, crun, runc, bwrap, proot and qemu-user too, where installed"
    )
    p.add_argument("--quick", action="store_true", help="few rounds, short samples, no long cases")
    p.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds (default 7; quick 4)")
    p.add_argument("--limit", type=float, default=0.0, metavar="SECONDS", help="begin no new round after this time")
    p.add_argument("--wait", type=float, metavar="SECONDS",
                   help="wait so long for a quiet machine before each round (default 20; quick 2)")  # fmt: skip
    p.add_argument("--seed", type=int, metavar="N", help="of the order in the rounds")
    p.add_argument("--json", metavar="FILE", help="write the samples")
    p.add_argument("--html", metavar="FILE", help="write a page with plots")
    p.add_argument("--markdown", action="store_true", help="print Markdown")
    p.add_argument("--from", dest="source", metavar="FILE", help="measure nothing, show what --json has written")
    p.add_argument("--list", action="store_true", help="list the cases")
    p.add_argument("case", nargs="*", metavar="CASE", help="what to measure; default: all")
    return p


def main(argv: list[str]) -> int:
    from cordon.bench import runner, text

    a = parser().parse_args(argv)
    if a.rounds is not None and a.rounds < 1:
        raise CordonError(f"bench: {a.rounds} rounds: not a positive number", 2)
    cases = chosen(a.case, a.quick)
    if a.list:
        for case in cases:
            print(f"{case.name:28} {case.group:8} {case.title}")
        return 0
    if a.source:
        try:
            results = load(Path(a.source).read_text(encoding="utf-8"))
        except OSError as e:
            raise CordonError(f"bench: {a.source}: {e.strerror}") from None
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            results = measure(a, cases)
        except KeyboardInterrupt:
            runner.sweep()
            raise CordonError("bench: interrupted", 130) from None
    print(text.markdown(results) if a.markdown else text.table(results, sys.stdout.isatty()))
    if a.json:
        store(a.json, results.to_json())
    if a.html:
        from cordon.bench import page

        store(a.html, page.page(results))
    return 0


def load(content: str) -> Results:
    from cordon.bench.results import Results

    return Results.from_json(content)


def store(path: str, content: str) -> None:
    try:
        Path(path).write_text(content, encoding="utf-8")
    except OSError as e:
        raise CordonError(f"bench: {path}: {e.strerror}") from None


def chosen(names: list[str], quick: bool) -> list[Case]:
    from cordon.bench import cases

    try:
        return cases.select(names, quick)
    except KeyError as e:
        raise CordonError(f"bench: there is no case or group {e.args[0]!r} (--list names them)", 2) from None


def platforms_of(wanted: list[str] | None) -> list[str]:
    from platforms import detect

    if not wanted:
        return [name for name, reason in detect.report().items() if reason is None]
    for name in wanted:
        reason = detect.probe(name)
        if reason is not None:
            raise CordonError(f"bench: platform {name}: {reason}")
    return wanted


def launchers_of(wanted: list[str] | None, peers: bool) -> list[Launcher]:
    from cordon.bench import launchers

    found: list[Launcher] = [launchers.Launcher("native")]
    found += [launchers.Cordon(name) for name in platforms_of(wanted)]
    return found + (launchers.candidates() if peers else [])


def measure(a: argparse.Namespace, cases: list[Case]) -> Results:
    from cordon.bench import runner, text, whole

    whole.adopt_orphans()
    settings = runner.Settings(
        rounds=a.rounds or (4 if a.quick else 7),
        quick=a.quick,
        seed=a.seed if a.seed is not None else random.randrange(1 << 16),
        quiet_limit=a.wait if a.wait is not None else (2.0 if a.quick else 20.0),
        limit=a.limit,
    )
    found = launchers_of(a.platform, a.peers)
    with tempfile.TemporaryDirectory(prefix="cordon-bench-") as folder:
        work = f"{folder}/work"
        runner.prepare(work, runner.BIG)
        failed = []
        for launcher in list(found):
            reason = runner.works(launcher, work)
            if reason is not None:
                found.remove(launcher)
                failed.append(f"{launcher.name}: {reason}")
        if not found:
            raise CordonError(f"bench: nothing can be measured: {failed[0]}")
        progress = text.Progress(0)
        r = runner.Runner(found, cases, settings, work, progress.step)
        progress.total = r.steps()
        r.results.failures += failed
        try:
            return r.measure()
        finally:
            progress.clear()
