"""I/O priorities: kept and told; the host schedules I/O. Source: ioprio_set(2), block/ioprio.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import ioprio as IO
from sentry.errors import Errno
from sentry.syscalls import sched

if TYPE_CHECKING:
    from sentry.kernel.task import Task

# Enumerators of <linux/ioprio.h>.
CLASS_NONE: Final = 0
CLASS_RT: Final = 1
CLASS_BE: Final = 2
CLASS_IDLE: Final = 3
WHO_PROCESS: Final = 1
WHO_USER: Final = 3


def named(t: Task, which: int, who: int) -> list[Task]:
    if not WHO_PROCESS <= which <= WHO_USER:
        raise Errno(E.EINVAL)
    return sched.named(t, which - 1, who)  # PRIO_PROCESS and so on are one less


def ioprio_set(t: Task, which: int, who: int, value: int) -> int:
    """ioprio_set(2)."""
    kind = value >> IO.IOPRIO_CLASS_SHIFT
    if not CLASS_NONE <= kind <= CLASS_IDLE:
        raise Errno(E.EINVAL)
    if kind == CLASS_RT and not t.creds.has(CAP.CAP_SYS_ADMIN) and not t.creds.has(CAP.CAP_SYS_NICE):
        raise Errno(E.EPERM)
    if kind == CLASS_NONE and value & IO.IOPRIO_NR_LEVELS - 1:  # the bits above the level are hints
        raise Errno(E.EINVAL)
    tasks = named(t, which, who)
    for other in tasks:
        sched.may_change(t, other)
    for other in tasks:
        other.ioprio = value
    return 0


def effective(t: Task) -> int:
    """What counts: without a priority of its own, a task has the one of its nice value."""
    if t.ioprio:
        return t.ioprio
    return CLASS_BE << IO.IOPRIO_CLASS_SHIFT | (t.nice + 20) // 5


def ioprio_get(t: Task, which: int, who: int) -> int:
    """ioprio_get(2): of several tasks, the best."""
    tasks = named(t, which, who)
    if which == WHO_PROCESS:
        return tasks[0].ioprio
    return min(effective(other) for other in tasks)
