"""Tells engines that the guest ran out of memory: they learn that only from an OOM kill in the container's cgroup.

The sentry holds the guest to its limit, which lies below the cgroup's, so the host's own OOM killer has nothing to do. When the guest
was ended for its memory, the container process lowers the cgroup's limit to what is in use and has a child of its own ask for more:
that is killed, and the cgroup's counters and events say so.
"""

from __future__ import annotations

import os
import signal
import time

from cordon.oci.cgroups import Groups

#: Bytes that the child may still get, and at most asks for.
ROOM = 8 << 20
MOST = 512 << 20
#: Seconds that engines get to see the event before the container ends.
NOTICE = 0.05


class Reporter:
    """Open files of the memory cgroup, for a time when there are no names any more. -1 without a cgroup."""

    def __init__(self, groups: Groups) -> None:
        v1, v2 = groups.where.get("memory"), groups.where.get("")
        self.limit, self.usage = -1, -1
        for directory, limit, usage in (
            (v1, "memory.limit_in_bytes", "memory.usage_in_bytes"),
            (v2, "memory.max", "memory.current"),
        ):
            if directory is None or self.limit >= 0:
                continue
            try:
                self.usage = os.open(f"{directory}/{usage}", os.O_RDONLY | os.O_CLOEXEC)
                self.limit = os.open(f"{directory}/{limit}", os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                continue

    def fds(self) -> list[int]:
        return [self.limit, self.usage]

    def report(self) -> None:
        """Makes the cgroup tell of an OOM kill. The sandbox has ended."""
        if self.limit < 0:
            return
        try:
            used = int(os.pread(self.usage, 64, 0))
            os.write(self.limit, str((used + ROOM) >> 12 << 12).encode())
        except (OSError, ValueError):
            return
        pid = os.fork()
        if pid == 0:
            hoard: list[bytearray] = []
            try:
                while len(hoard) < MOST >> 20:
                    block = bytearray(1 << 20)
                    block[::4096] = b"x" * 256
                    hoard.append(block)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            time.sleep(NOTICE)
