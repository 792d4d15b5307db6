"""Interval timers (getitimer(2)), POSIX timers (timer_create(2)) and RLIMIT_CPU of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import time as T
from sentry.errors import Errno
from sentry.kernel import clock, signals
from sentry.kernel.countdown import Countdown
from sentry.kernel.signals import Pending, SigInfo

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

INT_MAX: Final = 0x7FFFFFFF  # of overruns (DELAYTIMER_MAX)


class ITimer:
    """ITIMER_REAL, VIRTUAL or PROF."""

    def __init__(self, tg: ThreadGroup, which: int) -> None:
        self.tg: ThreadGroup = tg
        self.which: int = which
        self.signo: int = (SIG.SIGALRM, SIG.SIGVTALRM, SIG.SIGPROF)[which]
        self.countdown: Countdown = Countdown(tg.kernel, self.now, which != T.ITIMER_REAL, self.fire)

    def now(self) -> int:
        if self.which == T.ITIMER_REAL:
            return clock.monotonic()
        user, system = self.tg.cpu_ns()
        return user if self.which == T.ITIMER_VIRTUAL else user + system

    def fire(self, count: int) -> None:
        if not self.tg.dead:
            signals.send_to_group(self.tg, signals.kernel_info(self.signo))


class PosixTimer:
    """One timer of timer_create(2)."""

    def __init__(self, t: Task, ident: int, which: int, notify: int, signo: int, value: int, target: Task | None) -> None:
        self.tg: ThreadGroup = t.tg
        self.ident: int = ident
        self.notify: int = notify
        self.signo: int = signo
        self.value: int = value
        self.target: Task | None = target  # SIGEV_THREAD_ID
        self.which: int = which
        self.creator: Task = t
        self.pending: SigInfo | None = None  # the signal sent last
        self.last_overrun: int = 0  # of the signal taken before that
        self.countdown: Countdown = Countdown(t.kernel, self.now, which not in clock.HOST_CLOCKS, self.fire)

    def now(self) -> int:
        return clock.now(self.creator, self.which)

    def is_queued(self, info: SigInfo) -> bool:
        """Is the signal sent last still waiting to be taken?"""
        return any(i is info for i in self.queue().queue)

    def queue(self) -> Pending:
        return self.target.pending if self.target is not None else self.tg.pending

    def overrun_taken(self) -> int:
        """timer_getoverrun(2): of the signal taken last."""
        info = self.pending
        return self.last_overrun if info is None or self.is_queued(info) else info.uid

    def withdraw(self) -> None:
        """The timer is set anew or deleted: a signal of it that was not taken is void (since Linux 6.13)."""
        info = self.pending
        if info is not None and self.is_queued(info):
            signals.withdraw(self.tg.main, self.queue(), info)
        self.pending = None
        self.last_overrun = 0

    def fire(self, count: int) -> None:
        if self.tg.dead or self.notify == SIG.SIGEV_NONE:
            return
        old = self.pending
        if old is not None:
            if self.is_queued(old):
                old.uid = min(old.uid + count, INT_MAX)
                return
            self.last_overrun = old.uid
        info = SigInfo(self.signo, SIG.SI_TIMER)
        info.pid, info.uid, info.value = self.ident, min(count - 1, INT_MAX), self.value
        self.pending = info
        if self.target is not None:
            if self.target.alive:
                signals.send_to_task(self.target, info)
        else:
            signals.send_to_group(self.tg, info)


class ProcessTimers:
    """What a process has armed; fork starts without, exec keeps the itimers."""

    def __init__(self, tg: ThreadGroup) -> None:
        self.tg: ThreadGroup = tg
        self.itimers: list[ITimer | None] = [None, None, None]
        self.posix: dict[int, PosixTimer] = {}
        self.next_id: int = 0
        self.cpu_limit: Countdown | None = None

    def itimer(self, which: int) -> ITimer:
        """EINVAL for an unknown one."""
        if not 0 <= which <= 2:
            raise Errno(E.EINVAL)
        timer = self.itimers[which]
        if timer is None:
            timer = self.itimers[which] = ITimer(self.tg, which)
        return timer

    def find(self, ident: int) -> PosixTimer:
        timer = self.posix.get(ident)
        if timer is None:
            raise Errno(E.EINVAL)
        return timer

    def drop_posix(self) -> None:
        """exec and exit delete the POSIX timers."""
        for timer in self.posix.values():
            timer.countdown.set(0, 0)
        self.posix = {}

    def stop(self) -> None:
        """The process ends."""
        self.drop_posix()
        for timer in self.itimers:
            if timer is not None:
                timer.countdown.set(0, 0)
        if self.cpu_limit is not None:
            self.cpu_limit.set(0, 0)

    def watch_cpu(self) -> None:
        """RLIMIT_CPU was set: SIGXCPU each second from the soft limit on, SIGKILL at the hard one."""
        soft = self.tg.limits.soft(R.RLIMIT_CPU)
        if self.cpu_limit is None:
            self.cpu_limit = Countdown(self.tg.kernel, self.cpu_now, True, self.cpu_over)
        self.cpu_limit.set(0 if soft > 1 << 32 else max(1, soft * clock.NS), clock.NS)

    def cpu_now(self) -> int:
        return sum(self.tg.cpu_ns())

    def cpu_over(self, count: int) -> None:
        hard = self.tg.limits.hard(R.RLIMIT_CPU)
        sig = SIG.SIGKILL if self.cpu_now() >= hard * clock.NS else SIG.SIGXCPU
        if not self.tg.dead:
            signals.send_to_group(self.tg, signals.kernel_info(sig))


def thread_ended(t: Task, last: bool) -> None:
    """Exit hook."""
    if last:
        t.tg.timers.stop()


def program_changed(t: Task) -> None:
    """Exec hook."""
    t.tg.timers.drop_posix()
