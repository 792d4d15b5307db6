"""Time: the one place that reads a clock, so that it can become virtual."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import time as T
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.task import Task

NS: Final = 1_000_000_000
COARSE_NS: Final = 4_000_000  # resolution of the coarse clocks (CONFIG_HZ=250)

HOST_CLOCKS: Final = (
    T.CLOCK_REALTIME,
    T.CLOCK_MONOTONIC,
    T.CLOCK_MONOTONIC_RAW,
    T.CLOCK_REALTIME_COARSE,
    T.CLOCK_MONOTONIC_COARSE,
    T.CLOCK_BOOTTIME,
    T.CLOCK_TAI,
)
# Of these, the ones that timers and sleeps can be set on; the alarm clocks are missing as on machines without an RTC.
TIMER_CLOCKS: Final = (T.CLOCK_REALTIME, T.CLOCK_MONOTONIC, T.CLOCK_BOOTTIME, T.CLOCK_TAI)
NO_TIMER_CLOCKS: Final = (
    T.CLOCK_MONOTONIC_RAW,
    T.CLOCK_REALTIME_COARSE,
    T.CLOCK_MONOTONIC_COARSE,
    T.CLOCK_REALTIME_ALARM,
    T.CLOCK_BOOTTIME_ALARM,
)

# Clocks that a host without an RTC does not have tell the same time as these.
BASES: Final[dict[int, int]] = {
    T.CLOCK_REALTIME_ALARM: T.CLOCK_REALTIME,
    T.CLOCK_BOOTTIME_ALARM: T.CLOCK_BOOTTIME,
}

# Of a clock id that names a process or thread (CPUCLOCK_*, include/linux/posix-timers.h).
PER_THREAD: Final = 4
CLOCK_KIND: Final = 3


def monotonic() -> int:
    """CLOCK_MONOTONIC in ns."""
    return time.clock_gettime_ns(T.CLOCK_MONOTONIC)


def realtime() -> int:
    """CLOCK_REALTIME in ns."""
    return time.clock_gettime_ns(T.CLOCK_REALTIME)


def host(which: int) -> int:
    """One of HOST_CLOCKS in ns."""
    return time.clock_gettime_ns(BASES.get(which, which))


def cpu_clock(t: Task, clock: int) -> int:
    """A CPU-time clock named by a negative id; EINVAL when there is no such task."""
    if clock & CLOCK_KIND == CLOCK_KIND:
        raise Errno(E.EINVAL)
    ident = ~(clock >> 3)
    if clock & PER_THREAD:
        other = t if ident == 0 else t.pidns.tasks.get(ident)
        if other is None or other.tg is not t.tg:
            raise Errno(E.EINVAL)
        user, system = other.cpu_ns()
    else:
        tg = t.tg if ident == 0 else t.pidns.groups.get(ident)
        if tg is None:
            raise Errno(E.EINVAL)
        user, system = tg.cpu_ns()
    return user if clock & CLOCK_KIND == 1 else user + system


def now(t: Task, clock: int) -> int:
    """The value of a clock (clock_gettime(2)) in ns; EINVAL for an unknown one."""
    if clock in HOST_CLOCKS:
        return host(clock)
    if clock == T.CLOCK_PROCESS_CPUTIME_ID:
        user, system = t.tg.cpu_ns()
        return user + system
    if clock == T.CLOCK_THREAD_CPUTIME_ID:
        user, system = t.cpu_ns()
        return user + system
    if clock < 0:
        return cpu_clock(t, clock)
    raise Errno(E.EINVAL)


def resolution(t: Task, clock: int) -> int:
    """clock_getres(2) in ns."""
    now(t, clock)
    if clock in (T.CLOCK_REALTIME_COARSE, T.CLOCK_MONOTONIC_COARSE):
        return COARSE_NS
    return 1


def monotonic_deadline(clock: int, absolute: int) -> int:
    """A deadline on a host clock as one on CLOCK_MONOTONIC, as things stand now."""
    if clock == T.CLOCK_MONOTONIC:
        return absolute
    return max(0, absolute - host(clock) + monotonic())
