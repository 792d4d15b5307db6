"""Clocks and sleeping."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import time as T
from sentry.errors import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Errno, Restart
from sentry.kernel import clock
from sentry.kernel.clock import NS
from sentry.kernel.wait import INTERRUPTED

if TYPE_CHECKING:
    from sentry.kernel.task import Task

TIMESPEC: Final = struct.Struct("<qq")
MAX_NS: Final = 0x7FFFFFFFFFFFFFFF


def pack_ns(ns: int) -> bytes:
    """struct timespec of a number of ns."""
    return TIMESPEC.pack(ns // NS, ns % NS)


def read_ns(t: Task, addr: int) -> int:
    """A struct timespec of the guest as ns; EINVAL when it is not normalised or negative."""
    seconds: int
    ns: int
    seconds, ns = TIMESPEC.unpack(t.mm.read(addr, 16))
    if seconds < 0 or not 0 <= ns < NS:
        raise Errno(E.EINVAL)
    return min(seconds * NS + ns, MAX_NS)


def clock_gettime(t: Task, which: int, tp: int) -> int:
    """clock_gettime(2)."""
    t.mm.write(tp, pack_ns(clock.now(t, which)))
    return 0


def clock_getres(t: Task, which: int, res: int) -> int:
    """clock_getres(2)."""
    value = pack_ns(clock.resolution(t, which))
    if res:
        t.mm.write(res, value)
    return 0


def clock_settime(t: Task, which: int, tp: int) -> int:
    """clock_settime(2): a sandbox has no say over the host's clocks."""
    read_ns(t, tp)
    if which != T.CLOCK_REALTIME:
        raise Errno(E.EINVAL)
    raise Errno(E.EPERM)


def settimeofday(t: Task, tv: int, tz: int) -> int:
    """settimeofday(2)."""
    raise Errno(E.EPERM)


TIMEX: Final = struct.Struct("<I4x4qi4x3q2qqqqi4x5qi44x")  # struct timex
MODES_READ: Final = (0, T.ADJ_OFFSET_SS_READ)
PPM: Final = 65536  # unit of the frequency fields
MAX_ERROR_US: Final = 16_000_000  # what an undisciplined clock says
USER_TICK_US: Final = 10_000


def adjtimex(t: Task, buf: int) -> int:
    """adjtimex(2): tells of an undisciplined clock, TIME_ERROR; nothing can be set."""
    modes = t.mm.read_u32(buf)
    if modes not in MODES_READ:
        raise Errno(E.EPERM)
    now = clock.realtime()
    error = MAX_ERROR_US
    tolerance = 500 * PPM
    when = (now // NS, now % NS // 1000)
    fields = (modes, 0, 0, error, error, T.STA_UNSYNC, 2, 1, tolerance, *when, USER_TICK_US, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    t.mm.write(buf, TIMEX.pack(*fields))
    return T.TIME_ERROR


def clock_adjtime(t: Task, which: int, buf: int) -> int:
    """clock_adjtime(2), as adjtimex(2) on CLOCK_REALTIME."""
    if which != T.CLOCK_REALTIME:
        clock.now(t, which)
        raise Errno(E.EOPNOTSUPP)
    return adjtimex(t, buf)


def gettimeofday(t: Task, tv: int, tz: int) -> int:
    """gettimeofday(2)."""
    if tv:
        us = clock.realtime() // 1000
        t.mm.write(tv, TIMESPEC.pack(us // 1_000_000, us % 1_000_000))
    if tz:
        t.mm.write(tz, bytes(8))
    return 0


def time(t: Task, out: int) -> int:
    """time(2)."""
    now = clock.realtime() // NS
    if out:
        t.mm.write_u64(out, now)
    return now


class Sleep:
    """The rest of an interrupted relative sleep, for restart_syscall(2)."""

    def __init__(self, deadline: int, rem: int) -> None:
        self.deadline: int = deadline
        self.rem: int = rem

    def run(self, t: Task) -> int:
        """Sleeps until the monotonic deadline."""
        while clock.monotonic() < self.deadline:
            if t.block(self.deadline) == INTERRUPTED:
                left = self.deadline - clock.monotonic()
                if left <= 0:
                    return 0
                if self.rem:
                    t.mm.write(self.rem, pack_ns(left))
                t.restart_fn = self.run
                raise Restart(ERESTART_RESTARTBLOCK)
        return 0


def interrupted(t: Task, rem: int) -> int:
    """C has slept for a part of the time."""
    return Sleep(t.native.wait_deadline, rem).run(t)


def nanosleep(t: Task, req: int, rem: int) -> int:
    """nanosleep(2)."""
    if t.native.waited:
        return interrupted(t, rem)
    return Sleep(clock.monotonic() + read_ns(t, req), rem).run(t)


def clock_nanosleep(t: Task, which: int, flags: int, req: int, rem: int) -> int:
    """clock_nanosleep(2) on the host's clocks and, coarsely, on CPU-time clocks of this process."""
    if t.native.waited and not flags & T.TIMER_ABSTIME:
        return interrupted(t, rem)
    if which in clock.NO_TIMER_CLOCKS or which == T.CLOCK_THREAD_CPUTIME_ID:
        raise Errno(E.EOPNOTSUPP)
    start = clock.now(t, which)
    value = read_ns(t, req)
    if which not in clock.HOST_CLOCKS:
        return cpu_sleep(t, which, value if flags & T.TIMER_ABSTIME else start + value)
    if not flags & T.TIMER_ABSTIME:
        return Sleep(clock.monotonic() + value, rem).run(t)
    while True:
        left = value - clock.now(t, which)
        if left <= 0:
            return 0
        if t.block(clock.monotonic() + left) == INTERRUPTED:
            raise Restart(ERESTARTNOHAND)


def cpu_sleep(t: Task, which: int, target: int) -> int:
    """Until the process has used that much CPU time: looks again when it could have, at the earliest."""
    while True:
        left = target - clock.now(t, which)
        if left <= 0:
            return 0
        if t.block(clock.monotonic() + max(left // max(1, len(t.tg.tasks)), 1_000_000)) == INTERRUPTED:
            raise Restart(ERESTARTNOHAND)
