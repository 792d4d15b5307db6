"""Interval timers and POSIX timers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.abi import time as T
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.kernel.countdown import Countdown
from sentry.kernel.itimers import PosixTimer
from sentry.syscalls.time import pack_ns, read_ns

if TYPE_CHECKING:
    from sentry.kernel.task import Task

ITIMERVAL: Final = struct.Struct("<qqqq")
SIGEVENT: Final = struct.Struct("<Qiii")
MAX_TIMERS: Final = 4096
US: Final = 1000


def itimerval(countdown: Countdown) -> bytes:
    """struct itimerval: period and what is left."""
    left = countdown.left()
    left_us = (left + US - 1) // US
    period = countdown.interval // US
    m = 1_000_000
    return ITIMERVAL.pack(period // m, period % m, left_us // m, left_us % m)


def getitimer(t: Task, which: int, addr: int) -> int:
    """getitimer(2)."""
    t.mm.write(addr, itimerval(t.tg.timers.itimer(which).countdown))
    return 0


def setitimer(t: Task, which: int, new: int, old: int) -> int:
    """setitimer(2)."""
    period = value = 0
    if new:
        ps, pu, vs, vu = ITIMERVAL.unpack(t.mm.read(new, 32))
        if not (0 <= pu < 1_000_000 and 0 <= vu < 1_000_000) or ps < 0 or vs < 0:
            raise Errno(E.EINVAL)
        period = (ps * 1_000_000 + pu) * US
        value = (vs * 1_000_000 + vu) * US
    countdown = t.tg.timers.itimer(which).countdown
    before = itimerval(countdown)
    countdown.set_relative(min(value, 1 << 62), min(period, 1 << 62))
    if old:
        t.mm.write(old, before)
    return 0


def alarm(t: Task, seconds: int) -> int:
    """alarm(2): seconds that were left, rounded up when under one and else to the nearest."""
    countdown = t.tg.timers.itimer(T.ITIMER_REAL).countdown
    left = countdown.left()
    countdown.set_relative(seconds * clock.NS, 0)
    return max(1, (left + clock.NS // 2) // clock.NS) if left else 0


def timer_create(t: Task, which: int, event: int, out: int) -> int:
    """timer_create(2)."""
    if which in clock.NO_TIMER_CLOCKS:
        raise Errno(E.EOPNOTSUPP)
    clock.now(t, which)
    timers = t.tg.timers
    notify, signo, value, tid = SIG.SIGEV_SIGNAL, SIG.SIGALRM, timers.next_id, 0
    if event:
        value, signo, notify, tid = SIGEVENT.unpack(t.mm.read(event, SIGEVENT.size))
    target = None
    if notify & SIG.SIGEV_THREAD_ID:
        target = t.pidns.tasks.get(tid)
        if target is None or target.tg is not t.tg or notify != SIG.SIGEV_THREAD_ID:
            raise Errno(E.EINVAL)
    elif notify not in (SIG.SIGEV_SIGNAL, SIG.SIGEV_NONE, SIG.SIGEV_THREAD):
        raise Errno(E.EINVAL)
    if notify != SIG.SIGEV_NONE and not 1 <= signo <= 64:
        raise Errno(E.EINVAL)
    if len(timers.posix) >= MAX_TIMERS:
        raise Errno(E.EAGAIN)
    ident = timers.next_id
    t.mm.write_u32(out, ident)
    timers.next_id = ident + 1 & 0x7FFFFFFF
    timers.posix[ident] = PosixTimer(t, ident, which, notify, signo, value, target)
    return 0


def itimerspec(countdown: Countdown) -> bytes:
    """struct itimerspec: period and what is left."""
    return pack_ns(countdown.interval) + pack_ns(countdown.left())


def timer_settime(t: Task, ident: int, flags: int, new: int, old: int) -> int:
    """timer_settime(2)."""
    if new == 0:
        raise Errno(E.EINVAL)
    period, value = read_ns(t, new), read_ns(t, new + 16)
    timer = t.tg.timers.find(ident)
    before = itimerspec(timer.countdown)
    timer.withdraw()
    if flags & T.TIMER_ABSTIME:
        timer.countdown.set(value, period)
    else:
        timer.countdown.set_relative(value, period)
    if old:
        t.mm.write(old, before)
    return 0


def timer_gettime(t: Task, ident: int, value: int) -> int:
    """timer_gettime(2)."""
    t.mm.write(value, itimerspec(t.tg.timers.find(ident).countdown))
    return 0


def timer_getoverrun(t: Task, ident: int) -> int:
    """timer_getoverrun(2): of the signal taken last."""
    return t.tg.timers.find(ident).overrun_taken()


def timer_delete(t: Task, ident: int) -> int:
    """timer_delete(2)."""
    timer = t.tg.timers.find(ident)
    timer.countdown.set(0, 0)
    timer.withdraw()
    del t.tg.timers.posix[ident]
    return 0
