"""timerfd_create(2): timers as files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import time as T
from sentry.errors import Errno
from sentry.fs.anon import AnonFile
from sentry.kernel import clock
from sentry.kernel.countdown import Countdown

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

SIZE: Final = 8
READABLE: Final = P.POLLIN | P.POLLRDNORM
SETTABLE: Final = (T.CLOCK_REALTIME, T.CLOCK_REALTIME_ALARM)


class TimerFile(AnonFile):
    """`which`: one of the clocks a timerfd may have."""

    def __init__(self, kernel: Kernel, which: int, flags: int) -> None:
        super().__init__(flags)
        self.which: int = which
        self.ticks: int = 0  # expirations not read yet
        self.set_flags_word: int = 0
        self.cancel_on_set: bool = False
        self.shift: int = 0  # CLOCK_REALTIME minus CLOCK_MONOTONIC in ns when it was armed
        self.countdown: Countdown = Countdown(kernel, self.now, False, self.fire)

    def now(self) -> int:
        if self.which in (T.CLOCK_REALTIME, T.CLOCK_REALTIME_ALARM):
            return clock.realtime()
        return clock.host(self.which)

    def fire(self, count: int) -> None:
        self.ticks += count
        self.waitq.notify(READABLE)

    def clock_was_set(self) -> bool:
        """Did CLOCK_REALTIME jump since the timer was armed (TFD_TIMER_CANCEL_ON_SET)?"""
        return self.cancel_on_set and abs(clock.realtime() - clock.monotonic() - self.shift) > clock.NS

    def arm(self, flags: int, value: int, interval: int) -> None:
        """timerfd_settime(2) with times in ns; value 0 disarms."""
        absolute = flags & T.TFD_TIMER_ABSTIME
        self.ticks = 0
        self.set_flags_word = flags
        self.cancel_on_set = bool(absolute and flags & T.TFD_TIMER_CANCEL_ON_SET and self.which in SETTABLE)
        self.shift = clock.realtime() - clock.monotonic()
        if absolute:
            self.countdown.set(value, interval)
        else:
            self.countdown.set_relative(value, interval)

    def setting(self) -> tuple[int, int]:
        """(ns until it fires or 0, interval)."""
        return self.countdown.left(), self.countdown.interval

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if count < SIZE:
            raise Errno(E.EINVAL)
        if self.clock_was_set():
            self.shift = clock.realtime() - clock.monotonic()
            self.ticks = 0
            raise Errno(E.ECANCELED)
        if self.ticks == 0:
            return None
        ticks = self.ticks
        self.ticks = 0
        return ticks.to_bytes(SIZE, "little")

    def poll(self) -> int:
        return READABLE if self.ticks or self.clock_was_set() else 0

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == T.TFD_IOC_SET_TICKS:
            ticks = t.mm.read_u64(arg)
            if ticks == 0:
                raise Errno(E.EINVAL)
            self.fire(ticks)
            return 0
        raise Errno(E.ENOTTY)

    def release(self) -> None:
        self.countdown.set(0, 0)

    def describe(self) -> bytes:
        return b"anon_inode:[timerfd]"

    def fdinfo(self) -> bytes:
        left, interval = self.setting()
        ns = clock.NS
        return b"clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n" % (
            self.which, self.ticks, self.set_flags_word, left // ns, left % ns, interval // ns, interval % ns,
        )  # fmt: skip


ITIMERSPEC: Final = struct.Struct("<qqqq")


def unpack(data: bytes) -> tuple[int, int]:
    """(value, interval) in ns of a struct itimerspec; EINVAL."""
    isec, insec, sec, nsec = ITIMERSPEC.unpack(data)
    if isec < 0 or sec < 0 or not 0 <= insec < clock.NS or not 0 <= nsec < clock.NS:
        raise Errno(E.EINVAL)
    return sec * clock.NS + nsec, isec * clock.NS + insec


def pack(value: int, interval: int) -> bytes:
    ns = clock.NS
    return ITIMERSPEC.pack(interval // ns, interval % ns, value // ns, value % ns)
