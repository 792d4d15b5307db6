"""Limits of a sandbox that was given none, so that no guest exhausts the host: taken from the machine when it starts."""

from __future__ import annotations

import contextlib
import os

PIDS_MAX = 4096
PIDS_MIN = 64
#: Bytes of the machine's memory for each process or thread that may be alive.
MEMORY_A_TASK = 4 << 20
#: A guest's thread takes two of the host: the sentry's and the stub's.
HOST_TASKS = ("/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max")
MEMORY_MIN = 64 << 20


def pids() -> int:
    """Processes and threads: up to 4096, at most half of what the machine can have, fewer on one with little memory."""
    limit = min(PIDS_MAX, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_A_TASK)
    for path in HOST_TASKS:
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as f:
            limit = min(limit, int(f.read()) // 4)
    return max(PIDS_MIN, limit)


def memory() -> int:
    """Bytes of guest memory: three quarters of what is available on the host now; 0 (none) when it doesn't tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as f:
        available = int(f.read().split(b"MemAvailable:")[1].split()[0]) << 10
        return max(MEMORY_MIN, available * 3 // 4 & ~0xFFFFF)
    return 0
