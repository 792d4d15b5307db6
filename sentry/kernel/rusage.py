"""Use of resources (getrusage(2))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.mm.address_space import AddressSpace

RUSAGE: Final = struct.Struct("<18q")  # struct rusage


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
        """struct rusage."""
        ns = 1_000_000_000
        times = (self.utime // ns, self.utime % ns // 1000, self.stime // ns, self.stime % ns // 1000)
        none = 0  # ixrss, idrss, isrss, nswap, inblock, oublock, msgsnd, msgrcv, nsignals are not kept by Linux, or not here
        return RUSAGE.pack(
            *times, self.maxrss, none, none, none, self.minflt, self.majflt, none, none, none, none, none, none,
            self.nvcsw, self.nivcsw,
        )  # fmt: skip


def usage_of_task(t: Task) -> Usage:
    """RUSAGE_THREAD."""
    u = Usage()
    u.utime, u.stime = t.cpu_ns()
    u.minflt, u.majflt, u.nvcsw, u.nivcsw = t.minflt, t.majflt, t.nvcsw, t.nivcsw
    u.maxrss = resident_kib(t)
    return u


def usage_of_self(tg: ThreadGroup) -> Usage:
    """RUSAGE_SELF: all threads, living and dead."""
    u = Usage()
    u.utime, u.stime = tg.cpu_ns()
    u.minflt, u.majflt, u.nvcsw, u.nivcsw = tg.minflt, tg.majflt, tg.nvcsw, tg.nivcsw
    for t in tg.tasks:
        u.minflt += t.minflt
        u.majflt += t.majflt
        u.nvcsw += t.nvcsw
        u.nivcsw += t.nivcsw
    if tg.tasks:
        tg.maxrss = max(tg.maxrss, resident_kib(tg.tasks[0]))
    u.maxrss = tg.maxrss
    return u


def usage_of_children(tg: ThreadGroup) -> Usage:
    """RUSAGE_CHILDREN: those that were waited for, with theirs."""
    u = Usage()
    u.utime, u.stime = tg.children_utime, tg.children_stime
    u.minflt, u.majflt = tg.children_minflt, tg.children_majflt
    u.nvcsw, u.nivcsw = tg.children_nvcsw, tg.children_nivcsw
    u.maxrss = tg.children_maxrss
    return u


def usage_of_group(tg: ThreadGroup) -> Usage:
    """What wait4(2) tells of a child: its own use and that of the children it waited for."""
    u = usage_of_self(tg)
    u.utime += tg.children_utime
    u.stime += tg.children_stime
    u.minflt += tg.children_minflt
    u.majflt += tg.children_majflt
    u.nvcsw += tg.children_nvcsw
    u.nivcsw += tg.children_nivcsw
    u.maxrss = max(u.maxrss, tg.children_maxrss)
    return u


def resident_kib(t: Task) -> int:
    """Resident private memory of the task's process."""
    return memory_kib(t.mm) if t.alive else 0


def memory_kib(mm: AddressSpace) -> int:
    """See resident_kib."""
    return mm.private_resident() >> 10
