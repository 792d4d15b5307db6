"""Measures system calls and start-up, natively and in sandboxes, interleaved in one run (`cordon bench`, bench/).

The guest program is compiled from bench/guest of the source tree, or from the copy next to this file in an installation.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cordon.errors import CordonError

HERE = Path(__file__).resolve().parent
ROUNDS = 5


def source(name: str) -> Path:
    for folder in (HERE.parent / "bench" / "guest", HERE / "guest"):
        if (folder / name).exists():
            return folder / name
    raise CordonError(f"bench: {name} is not there")


def compiled(name: str, folder: str) -> str:
    """A guest program, static so that its start is its own."""
    target = f"{folder}/{name.removesuffix('.c')}"
    try:
        subprocess.run(["gcc", "-O2", "-static", "-w", "-o", target, str(source(name))], check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise CordonError(f"bench: cannot compile {name}: {e}") from None
    return target


def launcher() -> list[str]:
    """How this very cordon is started."""
    override = os.environ.get("CORDON_COMMAND")
    if override:
        return [override]
    boot = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from cordon.__main__ import main; sys.exit(main())"
    return [sys.executable, "-I", "-c", boot]


def lines(command: Sequence[str], cwd: str) -> dict[str, float]:
    """What a guest program printed: name -> ns."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CordonError(
            f"bench: {' '.join(command)[:200]}: status {done.returncode}: {done.stderr.strip()[:300]}"
        )
    return {name: float(ns) for name, ns in (line.split() for line in done.stdout.splitlines())}


def sysemu() -> float:
    """ns of a bare same-core PTRACE_SYSEMU round trip."""
    with tempfile.TemporaryDirectory() as folder:
        return lines([compiled("sysemu.c", folder)], folder)["sysemu"]


def calls(
    platforms: Sequence[str], names: Sequence[str] = (), rounds: int = ROUNDS
) -> dict[str, dict[str, float]]:
    """case -> {"native": ns, platform: ns, ...}: medians over interleaved rounds."""
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = compiled("calls.c", folder)
        for _ in range(rounds):
            for where in ("native", *platforms):
                prefix = [] if where == "native" else [*launcher(), "do", "--platform", where, "--"]
                for case, ns in lines([*prefix, program, *names], folder).items():
                    taken.setdefault(case, {}).setdefault(where, []).append(ns)
    return {case: {where: statistics.median(ns) for where, ns in by.items()} for case, by in taken.items()}


def start_up(platforms: Sequence[str], rounds: int = 15) -> dict[str, float]:
    """Milliseconds from the start of a command to its end for /bin/true: medians over interleaved rounds."""
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for where in ("native", *platforms):
            prefix = [] if where == "native" else [*launcher(), "do", "--platform", where, "--"]
            began = time.perf_counter()
            subprocess.run([*prefix, "/bin/true"], check=True)
            taken.setdefault(where, []).append((time.perf_counter() - began) * 1e3)
    return {where: statistics.median(ms) for where, ms in taken.items()}


def table(results: dict[str, dict[str, float]], platforms: Sequence[str]) -> str:
    """Text: a line a case, ns natively, ns and ratio on each platform."""
    head = f"{'case':16}{'native ns':>12}" + "".join(f"{p + ' ns':>14}{'ratio':>8}" for p in platforms)
    out = [head]
    for case, by in results.items():
        native = by["native"]
        cells = "".join(
            f"{by[p]:>14.0f}{by[p] / native:>8.1f}" if p in by else f"{'-':>14}{'-':>8}" for p in platforms
        )
        out.append(f"{case:16}{native:>12.0f}{cells}")
    return "\n".join(out)
