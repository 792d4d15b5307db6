"""Scheduling: affinity, policies, priorities. The host schedules; what the guest sets is kept and answered as it was set."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.abi import sched as S
from sentry.errors import Errno
from sentry.exec import vdso

if TYPE_CHECKING:
    from sentry.kernel.task import Task

REALTIME: Final = (S.SCHED_FIFO, S.SCHED_RR)
NORMAL: Final = (S.SCHED_OTHER, S.SCHED_BATCH, S.SCHED_IDLE)
MASK_BYTES: Final = 8
CPUS: Final = os.cpu_count() or 1
RESET_ON_FORK: Final = S.SCHED_RESET_ON_FORK


def find(t: Task, pid: int) -> Task:
    if pid < 0:
        raise Errno(E.EINVAL)
    other = t if pid == 0 else t.pidns.tasks.get(pid)
    if other is None:
        raise Errno(E.ESRCH)
    return other


def find_any(t: Task, pid: int) -> Task:
    """For the affinity calls, to which a negative number is only one that no task has."""
    if pid < 0:
        raise Errno(E.ESRCH)
    return find(t, pid)


def may_change(t: Task, other: Task) -> None:
    """EPERM unless the caller is the other's user or may."""
    if t.creds.euid not in (other.creds.ruid, other.creds.euid) and not t.creds.has(C.CAP_SYS_NICE):
        raise Errno(E.EPERM)


def sched_yield(t: Task) -> int:
    """sched_yield(2)."""
    os.sched_yield()
    return 0


def online() -> int:
    return (1 << CPUS) - 1


def sched_getaffinity(t: Task, pid: int, length: int, addr: int) -> int:
    """sched_getaffinity(2): bytes written."""
    if length * 8 < CPUS or length % 8:
        raise Errno(E.EINVAL)
    mask = find_any(t, pid).affinity or online()
    size = min(length, MASK_BYTES)
    t.mm.write(addr, mask.to_bytes(size, "little"))
    return size


def sched_setaffinity(t: Task, pid: int, length: int, addr: int) -> int:
    """sched_setaffinity(2): kept and told; where threads really run is the platform's choice."""
    other = find_any(t, pid)
    mask = int.from_bytes(t.mm.read(addr, min(length, 1024)), "little") & online()
    may_change(t, other)
    if mask == 0:
        raise Errno(E.EINVAL)
    other.affinity = mask
    if mask != online():
        vdso.ask_for_cpu()
    return 0


def check_policy(t: Task, other: Task, policy: int, priority: int) -> None:
    base = policy & ~RESET_ON_FORK
    if base in REALTIME:
        if not 1 <= priority <= 99:
            raise Errno(E.EINVAL)
        limit = other.tg.limits.soft(R.RLIMIT_RTPRIO)
        if priority > limit and not t.creds.has(C.CAP_SYS_NICE):
            raise Errno(E.EPERM)
    elif base not in NORMAL or priority != 0:
        raise Errno(E.EINVAL)
    may_change(t, other)


def check_deadline(t: Task, other: Task, priority: int, runtime: int, deadline: int, period: int) -> None:
    """sched(7): a microsecond <= runtime <= deadline <= period; the period is the deadline when it is 0."""
    if priority or not 1024 <= runtime <= deadline <= (period or deadline) < 1 << 63:
        raise Errno(E.EINVAL)
    may_change(t, other)
    if not t.creds.has(C.CAP_SYS_NICE):
        raise Errno(E.EPERM)


def sched_setscheduler(t: Task, pid: int, policy: int, param: int) -> int:
    """sched_setscheduler(2)."""
    if param == 0:
        raise Errno(E.EINVAL)
    if policy < 0:
        raise Errno(E.EINVAL)
    priority = t.mm.read_i32(param)
    other = find(t, pid)
    check_policy(t, other, policy, priority)
    other.policy = policy
    other.rt_priority = priority
    other.sched_deadline = (0, 0, 0)
    return 0


def sched_getscheduler(t: Task, pid: int) -> int:
    """sched_getscheduler(2)."""
    return find(t, pid).policy


def sched_setparam(t: Task, pid: int, param: int) -> int:
    """sched_setparam(2)."""
    if param == 0:
        raise Errno(E.EINVAL)
    other = find(t, pid)
    priority = t.mm.read_i32(param)
    check_policy(t, other, other.policy, priority)
    other.rt_priority = priority
    return 0


def sched_getparam(t: Task, pid: int, param: int) -> int:
    """sched_getparam(2)."""
    if param == 0:
        raise Errno(E.EINVAL)
    t.mm.write_u32(param, find(t, pid).rt_priority)
    return 0


def sched_get_priority_max(t: Task, policy: int) -> int:
    """sched_get_priority_max(2)."""
    if policy in REALTIME:
        return 99
    if policy in NORMAL or policy == S.SCHED_DEADLINE:
        return 0
    raise Errno(E.EINVAL)


def sched_get_priority_min(t: Task, policy: int) -> int:
    """sched_get_priority_min(2)."""
    return 1 if sched_get_priority_max(t, policy) else 0


def sched_rr_get_interval(t: Task, pid: int, addr: int) -> int:
    """sched_rr_get_interval(2)."""
    other = find(t, pid)
    t.mm.write(addr, struct.pack("<qq", 0, 100_000_000 if other.policy & ~RESET_ON_FORK == S.SCHED_RR else 0))
    return 0


ATTR: Final = struct.Struct("<IIQiIQQQ")  # struct sched_attr, first version


def sched_getattr(t: Task, pid: int, addr: int, size: int, flags: int) -> int:
    """sched_getattr(2)."""
    if addr == 0:
        raise Errno(E.EINVAL)
    if flags or size < ATTR.size or size > 4096:
        raise Errno(E.EINVAL)
    other = find(t, pid)
    reset = 1 if other.policy & RESET_ON_FORK else 0
    policy = other.policy & ~RESET_ON_FORK
    t.mm.write(addr, ATTR.pack(ATTR.size, policy, reset, other.nice, other.rt_priority, *other.sched_deadline))
    return 0


def sched_setattr(t: Task, pid: int, addr: int, flags: int) -> int:
    """sched_setattr(2): kept and told, as all policies are; the host schedules."""
    if addr == 0:
        raise Errno(E.EINVAL)
    size = t.mm.read_u32(addr)
    if flags or (size and size < ATTR.size):
        raise Errno(E.EINVAL)
    _, policy, bits, nice, priority, runtime, deadline, period = ATTR.unpack(t.mm.read(addr, ATTR.size))
    other = find(t, pid)
    if policy == S.SCHED_DEADLINE:
        check_deadline(t, other, priority, runtime, deadline, period)
        other.sched_deadline = (runtime, deadline, period or deadline)
    else:
        check_policy(t, other, policy, priority)
        set_nice(t, other, nice)
        other.sched_deadline = (0, 0, 0)
    other.policy = policy | (RESET_ON_FORK if bits & 1 else 0)
    other.rt_priority = priority
    return 0


def set_nice(t: Task, other: Task, nice: int) -> None:
    """EACCES when it would get more than RLIMIT_NICE allows."""
    nice = max(-20, min(19, nice))
    if nice < other.nice and 20 - nice > other.tg.limits.soft(R.RLIMIT_NICE) and not t.creds.has(C.CAP_SYS_NICE):
        raise Errno(E.EACCES)
    other.nice = nice


def named(t: Task, which: int, who: int) -> list[Task]:
    """The tasks that getpriority(2) and setpriority(2) mean; ESRCH for none."""
    if which == R.PRIO_PROCESS:
        if who < 0:
            raise Errno(E.ESRCH)
        tasks = [find(t, who)]
    elif which == R.PRIO_PGRP:
        pgid = who or t.tg.pgrp.pgid
        tasks = [m for m in t.pidns.tasks.values() if m.tg.pgrp.pgid == pgid]
    elif which == R.PRIO_USER:
        uid = who or t.creds.ruid
        tasks = [m for m in t.pidns.tasks.values() if m.creds.ruid == uid]
    else:
        raise Errno(E.EINVAL)
    if not tasks:
        raise Errno(E.ESRCH)
    return tasks


def getpriority(t: Task, which: int, who: int) -> int:
    """getpriority(2): 20 - nice, as the kernel returns it."""
    return 20 - min(m.nice for m in named(t, which, who))


def setpriority(t: Task, which: int, who: int, nice: int) -> int:
    """setpriority(2)."""
    tasks = named(t, which, who)
    for m in tasks:
        may_change(t, m)
    for m in tasks:
        set_nice(t, m, nice)
    return 0
