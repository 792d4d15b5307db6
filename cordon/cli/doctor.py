"""cordon doctor: which platforms work on this machine, and why the others do not."""

from __future__ import annotations

import argparse
import os
import platform as host


def main(argv: list[str]) -> int:
    """0 when some platform works, else 1."""
    parser = argparse.ArgumentParser(prog="cordon doctor", description="Tells which platforms work here.")
    parser.parse_args(argv)
    from platforms import detect

    print(f"host: Linux {host.release()} {host.machine()}, {os.cpu_count()} CPUs, user {os.geteuid()}")
    chosen = ""
    for name, why in detect.report().items():
        if why is None and not chosen:
            chosen = name
        print(f"{name:8} {'works' if why is None else 'does not work: ' + why}")
    print(f"auto is {chosen}" if chosen else "no platform works here")
    return 0 if chosen else 1
