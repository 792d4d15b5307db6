"""eventfd(2), signalfd(2), timerfd_create(2) and kin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import time as T
from sentry.errors import Errno
from sentry.fs import timerfd
from sentry.fs.eventfd import EventFile
from sentry.fs.signalfd import SignalFile
from sentry.fs.timerfd import TimerFile
from sentry.kernel import signals
from sentry.syscalls.pipe import install

if TYPE_CHECKING:
    from sentry.kernel.task import Task

SIGSET_SIZE: Final = 8
CLOCKS: Final = (T.CLOCK_REALTIME, T.CLOCK_MONOTONIC, T.CLOCK_BOOTTIME, T.CLOCK_REALTIME_ALARM, T.CLOCK_BOOTTIME_ALARM)
ALARMS: Final = (T.CLOCK_REALTIME_ALARM, T.CLOCK_BOOTTIME_ALARM)


def eventfd2(t: Task, value: int, flags: int) -> int:
    """eventfd2(2)."""
    if flags & ~(P.EFD_SEMAPHORE | F.O_CLOEXEC | F.O_NONBLOCK):
        raise Errno(E.EINVAL)
    file = EventFile(value, bool(flags & P.EFD_SEMAPHORE), flags & F.O_NONBLOCK)
    return install(t, file, bool(flags & F.O_CLOEXEC))


def eventfd(t: Task, value: int) -> int:
    return eventfd2(t, value, 0)


def signalfd4(t: Task, fd: int, mask: int, size: int, flags: int) -> int:
    """signalfd4(2)."""
    if flags & ~(F.O_CLOEXEC | F.O_NONBLOCK):
        raise Errno(E.EINVAL)
    if size != SIGSET_SIZE:
        raise Errno(E.EINVAL)
    wanted = t.mm.read_u64(mask) & ~signals.UNBLOCKABLE
    if fd == -1:
        return install(t, SignalFile(t, wanted, flags & F.O_NONBLOCK), bool(flags & F.O_CLOEXEC))
    file = t.fds.get(fd)
    if not isinstance(file, SignalFile):
        raise Errno(E.EINVAL)
    file.set_mask(wanted)
    return fd


def signalfd(t: Task, fd: int, mask: int, size: int) -> int:
    return signalfd4(t, fd, mask, size, 0)


def timerfd_create(t: Task, which: int, flags: int) -> int:
    """timerfd_create(2)."""
    if flags & ~(F.O_CLOEXEC | F.O_NONBLOCK) or which not in CLOCKS:
        raise Errno(E.EINVAL)
    if which in ALARMS and not t.creds.has(C.CAP_WAKE_ALARM):
        raise Errno(E.EPERM)
    return install(t, TimerFile(t.kernel, which, flags & F.O_NONBLOCK), bool(flags & F.O_CLOEXEC))


def timer_file(t: Task, fd: int) -> TimerFile:
    file = t.fds.get(fd)
    if not isinstance(file, TimerFile):
        raise Errno(E.EINVAL)
    return file


def timerfd_settime(t: Task, fd: int, flags: int, new: int, old: int) -> int:
    """timerfd_settime(2)."""
    if flags & ~(T.TFD_TIMER_ABSTIME | T.TFD_TIMER_CANCEL_ON_SET):
        raise Errno(E.EINVAL)
    value, interval = timerfd.unpack(t.mm.read(new, timerfd.ITIMERSPEC.size))
    file = timer_file(t, fd)
    before = file.setting()
    if old:
        t.mm.write(old, timerfd.pack(before[0], before[1]))
    file.arm(flags, value, interval)
    return 0


def timerfd_gettime(t: Task, fd: int, out: int) -> int:
    """timerfd_gettime(2)."""
    value, interval = timer_file(t, fd).setting()
    t.mm.write(out, timerfd.pack(value, interval))
    return 0
