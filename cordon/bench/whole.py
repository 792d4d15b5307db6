"""Whole sandboxes: memory, many at once, and the CPU that idle and busy ones use."""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cordon.bench.launchers import Launcher

if TYPE_CHECKING:
    from cordon.bench.runner import Settings

PR_SET_CHILD_SUBREAPER = 36
#: Seconds until a sandbox that was started counts as failed.
PATIENCE = 120.0


def adopt_orphans() -> None:
    """What sandboxes leave behind becomes this process's child, so that it is found (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Processes below `root`, itself included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read(f"/proc/{name}/stat")
            if stat:
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def read(path: str) -> str:
    """"" when the process has gone or has no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def resident(pids: list[int]) -> float:
    """Bytes: the sum of their proportional set sizes, so that what they share counts once."""
    total = 0
    for pid in pids:
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) << 10
    return float(total)


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        stat = read(f"/proc/{pid}/stat")
        if stat:
            fields = stat.rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def await_ready(child: subprocess.Popen[str]) -> None:
    """Until `guest hold` in it has said that it runs."""
    from cordon.bench.runner import Failure

    assert child.stdout is not None
    if not select.select([child.stdout], [], [], PATIENCE)[0]:
        raise Failure(f"not running after {PATIENCE:.0f} s")
    if child.stdout.readline() != "ready\n":
        said = child.stderr.read().strip().splitlines() if child.stderr else []
        raise Failure(said[-1][:200] if said else "ended at once")


@contextmanager
def held(launcher: Launcher, work: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """So many sandboxes at once, in each a program that waits; all run when this yields."""
    from cordon.bench import runner

    children: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            children.append(runner.start(launcher, work, ["{work}/guest", "hold"], stdin=subprocess.PIPE))
        for child in children:
            await_ready(child)
        yield children
    finally:
        for child in children:
            if child.stdin is not None:
                child.stdin.close()
        for child in children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                runner.end(child)
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()


def burn_seconds(launcher: Launcher, work: str, count: int) -> float:
    """Wall seconds until `count` sandboxes, started together, have done the work that each has; starting does not count."""
    from cordon.bench import runner

    children = [runner.start(launcher, work, ["{work}/guest", "burn", "2"]) for _ in range(count)]
    longest = 0.0
    try:
        for child in children:
            out, _ = child.communicate(timeout=PATIENCE)
            took = runner.parse(out).get("burn")
            if child.returncode or took is None:
                raise runner.Failure(f"burn ended with status {child.returncode}")
            longest = max(longest, took / 1e9)
    except subprocess.TimeoutExpired:
        raise runner.Failure(f"burn not done after {PATIENCE:.0f} s") from None
    finally:
        for child in children:
            runner.end(child)
    return longest


def measure(name: str, launcher: Launcher, work: str, settings: Settings) -> Iterator[float]:
    """Samples of one of the cases.WHOLE."""
    repeats = 1 if settings.quick else 3
    if name.startswith("at_once_"):
        count = int(name.removeprefix("at_once_"))
        for _ in range(repeats):
            began = time.perf_counter()
            with held(launcher, work, count):
                took = time.perf_counter() - began
            yield took * 1e9
    elif name == "two_busy":
        for _ in range(repeats):
            alone = burn_seconds(launcher, work, 1) + burn_seconds(launcher, work, 1)
            yield burn_seconds(launcher, work, 2) / alone
    else:
        for _ in range(repeats):
            with held(launcher, work, 1) as children:
                time.sleep(1)
                pids = descendants(children[0].pid)
                if name == "footprint":
                    yield resident(pids)
                else:
                    seconds = 1.0 if settings.quick else 4.0
                    before = cpu_seconds(pids)
                    time.sleep(seconds)
                    yield (cpu_seconds(pids) - before) / seconds
