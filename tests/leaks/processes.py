"""Who is there: processes of a session, and what the host holds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path


def stat_fields(pid: str) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, ppid, pgrp, session."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def in_sessions(sessions: Iterable[int]) -> list[int]:
    """Processes (zombies too) of the sessions; everything below a front stays in its session unless it was exec'ed to leave it."""
    wanted = {str(s) for s in sessions}
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and (f := stat_fields(p)) and f[3] in wanted]


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    parents: dict[int, list[int]] = {}
    for p in os.listdir("/proc"):
        if p.isdigit() and (f := stat_fields(p)):
            parents.setdefault(int(f[1]), []).append(int(p))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


def wait_until_gone(sessions: Iterable[int], seconds: float = 10) -> list[int]:
    """What is left of the sessions after at most that time."""
    sessions = list(sessions)
    deadline = time.monotonic() + seconds
    while (left := in_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def host_state() -> dict[str, object]:
    """What a sandbox could leave behind besides processes."""
    state: dict[str, object] = {
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shm": sorted(os.listdir("/dev/shm")),
        "run": sorted(os.listdir("/run")),
    }
    with contextlib.suppress(OSError):
        state["sysv"] = Path("/proc/sysvipc/shm").read_text()
    return state
