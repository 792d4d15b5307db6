"""Resource usage (getrusage(2), wait4(2))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

RUSAGE: Final = struct.Struct("<4q q3q2q q2q q2q 2q")
US: Final = 1000
SECOND_US: Final = 1_000_000


class Usage:
    """Times in ns, maxrss in KiB."""

    def __init__(self) -> None:
        self.utime: int = 0
        self.stime: int = 0
        self.maxrss: int = 0
        self.minflt: int = 0
        self.majflt: int = 0
        self.nvcsw: int = 0
        self.nivcsw: int = 0

    def pack(self) -> bytes:
        """struct rusage; what is not counted (block I/O, swaps, messages, signals) is 0, as on Linux mostly."""
        us, uf = divmod(self.utime // US, SECOND_US)
        ss, sf = divmod(self.stime // US, SECOND_US)
        return RUSAGE.pack(
            us, uf, ss, sf, self.maxrss, 0, 0, 0, self.minflt, self.majflt, 0, 0, 0, 0, 0, 0, self.nvcsw, self.nivcsw
        )

    def add_task(self, t: Task) -> None:
        utime, stime = t.cpu_ns()
        self.utime += utime
        self.stime += stime
        self.minflt += t.minflt
        self.majflt += t.majflt
        self.nvcsw += t.nvcsw
        self.nivcsw += t.nivcsw

    def add_group(self, tg: ThreadGroup) -> None:
        """The process itself: its ended threads and its living ones."""
        self.utime += tg.utime
        self.stime += tg.stime
        self.minflt += tg.minflt
        self.majflt += tg.majflt
        self.nvcsw += tg.nvcsw
        self.nivcsw += tg.nivcsw
        if tg.tasks:
            tg.maxrss = max(tg.maxrss, resident_kib(tg.tasks[0]))
        self.maxrss = max(self.maxrss, tg.maxrss)
        for t in tg.tasks:
            self.add_task(t)

    def add_children(self, tg: ThreadGroup) -> None:
        """Children that were waited for."""
        self.utime += tg.children_utime
        self.stime += tg.children_stime
        self.minflt += tg.children_minflt
        self.majflt += tg.children_majflt
        self.nvcsw += tg.children_nvcsw
        self.nivcsw += tg.children_nivcsw
        self.maxrss = max(self.maxrss, tg.children_maxrss)


def resident_kib(t: Task) -> int:
    """An upper bound: the private pages of the address space."""
    return t.mm.stats().anon >> 10 if t.alive else 0


def usage_of_group(tg: ThreadGroup) -> Usage:
    """What wait4(2) tells of a child: itself and its own children that it waited for."""
    u = Usage()
    u.add_group(tg)
    u.add_children(tg)
    return u
