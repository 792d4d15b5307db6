"""What the confined host-side processes (gofer, broker) do alike when they start and end."""

from __future__ import annotations

import os
from typing import Final, NoReturn

CAP_SYS_ADMIN: Final = 21  # capability.h


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
