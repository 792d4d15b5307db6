"""cordon bench: what system calls cost natively and on the platforms that work here."""

from __future__ import annotations

import argparse


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cordon bench", description="Measures system calls natively and in sandboxes."
    )
    parser.add_argument(
        "--platform", action="append", metavar="P", help="a platform to measure; default: all that work"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (default 3)")
    parser.add_argument("case", nargs="*", help="cases to measure, such as getpid; default: all")
    a = parser.parse_args(argv)
    from cordon import measure
    from platforms import detect

    platforms = a.platform or [name for name, why in detect.report().items() if why is None]
    print(measure.table(measure.calls(platforms, a.case, max(1, a.rounds)), platforms))
    print(f"\nbare PTRACE_SYSEMU round trip on one core: {measure.sysemu():.0f} ns")
    start = measure.start_up(platforms)
    print("start to end of /bin/true: " + ", ".join(f"{where} {ms:.1f} ms" for where, ms in start.items()))
    return 0
