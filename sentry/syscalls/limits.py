"""Resource limits and use."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.errors import Errno
from sentry.kernel import clock, rusage
from sentry.kernel.limits import COUNT

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

RLIMIT: Final = struct.Struct("<QQ")
NR_OPEN: Final = 1 << 20
TICKS: Final = 100  # per second, sysconf(_SC_CLK_TCK)
TICK_NS: Final = 1_000_000_000 // TICKS


def read_limit(t: Task, addr: int) -> tuple[int, int]:
    soft: int
    hard: int
    soft, hard = RLIMIT.unpack(t.mm.read(addr, 16))
    return soft, hard


def change(t: Task, tg: ThreadGroup, resource: int, soft: int, hard: int) -> None:
    """The rules of setrlimit(2)."""
    if soft > hard:
        raise Errno(E.EINVAL)
    if hard > tg.limits.hard(resource) and not t.creds.has(C.CAP_SYS_RESOURCE):
        raise Errno(E.EPERM)
    if resource == R.RLIMIT_NOFILE and hard > NR_OPEN:
        raise Errno(E.EPERM)
    tg.limits.set(resource, soft, hard)
    if resource == R.RLIMIT_FSIZE:
        for task in tg.tasks:
            task.native.fsize = soft
    if resource == R.RLIMIT_NOFILE:
        for task in tg.tasks:
            task.native.nofile = soft
    if resource == R.RLIMIT_SIGPENDING:
        for task in tg.tasks:
            task.signals.limit = soft
    if tg.tasks and resource in (R.RLIMIT_AS, R.RLIMIT_DATA, R.RLIMIT_STACK, R.RLIMIT_MEMLOCK):
        tg.tasks[0].mm.set_limits(tg.limits)
    if resource == R.RLIMIT_CPU:
        tg.timers.watch_cpu()


def getrlimit(t: Task, resource: int, addr: int) -> int:
    """getrlimit(2)."""
    return prlimit64(t, 0, resource, 0, addr)


def setrlimit(t: Task, resource: int, addr: int) -> int:
    """setrlimit(2)."""
    if resource >= COUNT:
        raise Errno(E.EINVAL)
    soft, hard = read_limit(t, addr)
    change(t, t.tg, resource, soft, hard)
    return 0


def prlimit64(t: Task, pid: int, resource: int, new: int, old: int) -> int:
    """prlimit(2)."""
    if resource >= COUNT:
        raise Errno(E.EINVAL)
    other = t if pid == 0 else t.pidns.tasks.get(pid)
    if other is None:
        raise Errno(E.ESRCH)
    if other.tg is not t.tg:
        a, b = t.creds, other.creds
        same = a.ruid == b.euid == b.suid == b.ruid and a.rgid == b.egid == b.sgid == b.rgid
        if not same and not a.has(C.CAP_SYS_RESOURCE):
            raise Errno(E.EPERM)
    value = read_limit(t, new) if new else (0, 0)
    before = RLIMIT.pack(other.tg.limits.soft(resource), other.tg.limits.hard(resource))
    if new:
        change(t, other.tg, resource, value[0], value[1])
    if old:
        t.mm.write(old, before)
    return 0


def getrusage(t: Task, who: int, addr: int) -> int:
    """getrusage(2)."""
    if who == R.RUSAGE_SELF:
        use = rusage.usage_of_self(t.tg)
    elif who == R.RUSAGE_CHILDREN:
        use = rusage.usage_of_children(t.tg)
    elif who == R.RUSAGE_THREAD:
        use = rusage.usage_of_task(t)
    else:
        raise Errno(E.EINVAL)
    t.mm.write(addr, use.pack())
    return 0


def times(t: Task, addr: int) -> int:
    """times(2)."""
    if addr:
        utime, stime = t.tg.cpu_ns()
        children = (t.tg.children_utime, t.tg.children_stime)
        t.mm.write(addr, struct.pack("<4q", *(ns // TICK_NS for ns in (utime, stime, *children))))
    return clock.monotonic() // TICK_NS
