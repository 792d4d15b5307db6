"""What the confined host-side processes (gofer, broker) do alike when they start and end."""

from __future__ import annotations

import fcntl
import os
import resource
from typing import Final, NoReturn

CAP_SYS_ADMIN: Final = 21  # capability.h
#: So many descriptors cost a process 33 KiB of the kernel's memory.
ROOM: Final = 4096


def room_for_descriptors() -> None:
    """As many descriptors as are allowed, and the kernel's table of them is grown at once. To be called with one thread.

    The table doubles at 64, 128, 256 ...; once threads share it each step waits for an RCU grace period, 10 to 20 ms
    (expand_fdtable in Linux's fs/file.c), in the middle of whatever call of the guest needs one descriptor more.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    last = min(hard, ROOM) - 1
    fd = os.eventfd(0)
    os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, last))
    os.close(fd)


def has_admin() -> bool:
    """CAP_SYS_ADMIN in the effective set?"""
    with open("/proc/self/status", "rb") as f:
        for line in f:
            if line.startswith(b"CapEff:"):
                return bool(int(line[7:], 16) >> CAP_SYS_ADMIN & 1)
    return False


def tell(fd: int, line: str) -> int:
    """One line to whoever waits for the start, on a descriptor that is closed then; nothing for -1. Returns -1."""
    if fd >= 0:
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape") + b"\n")
            os.close(fd)
        except OSError:
            pass
    return -1


def end_like(status: int) -> NoReturn:
    """Exits with the status of a child that waitpid reported."""
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
