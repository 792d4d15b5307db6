"""Job control stops and continues (signal(7), wait(2); POSIX "Job control")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.kernel import signals, tracing
from sentry.kernel.signals import SIG_IGN, SigInfo
from sentry.kernel.task import BLOCKED, STOPPED

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

NS_PER_TICK: Final = 10_000_000  # USER_HZ is 100


def child_info(tg: ThreadGroup, code: int, status: int) -> SigInfo:
    """The siginfo that tells a parent what became of its child (SIGCHLD, waitid)."""
    info = SigInfo(SIG.SIGCHLD, code)
    info.pid = tg.pid
    info.uid = tg.main.creds.ruid
    info.value = status
    utime, stime = tg.cpu_ns()
    info.utime = utime // NS_PER_TICK
    info.stime = stime // NS_PER_TICK
    return info


def notify_parent(tg: ThreadGroup, code: int, status: int) -> None:
    """A stop or continue: SIGCHLD unless the parent does not want it, and its waiting threads wake."""
    parent = tg.parent
    record = tg.record
    if record is not None and record.init:
        what = "continued" if code == SIG.CLD_CONTINUED else "stopped"
        tg.kernel.tell(tg.container, what, tg.pid, status)
    if parent is None:
        return
    actions = parent.actions
    if actions.handler(SIG.SIGCHLD) != SIG_IGN and not actions.flags(SIG.SIGCHLD) & SIG.SA_NOCLDSTOP:
        signals.send_to_group(parent, child_info(tg, code, status))
    parent.child_queue.notify(P.POLLIN)


def begin(t: Task, sig: int) -> None:
    """The thread took a stop signal: all threads of its process are to stop."""
    tg = t.tg
    if tg.exiting or tg.stop_signal:
        return
    tg.stop_signal = sig
    tg.stop_count = 0
    tg.stop_reported = True
    tg.continue_reported = True
    for other in tg.tasks:
        if other.alive:
            tg.stop_count += 1
            other.must_stop = True
            other.interrupt()


def left(tg: ThreadGroup) -> None:
    """One thread less has still to stop (it stopped, or it ended); the last one tells the parent."""
    tg.stop_count -= 1
    if tg.stop_count == 0 and tg.stop_signal and not tg.exiting:
        tg.stop_reported = False
        tr = tg.main.tracing
        if tr is not None and tr.tracer.tg is tg.parent:
            return  # it hears of it as the tracer
        notify_parent(tg, SIG.CLD_STOPPED, tg.stop_signal)


def here(t: Task) -> None:
    """The thread stops until its process is continued or killed."""
    t.must_stop = False
    if t.tracing is not None:
        left(t.tg)
        tracing.at_group_stop(t)
        return
    t.stopped = True
    old = t.state
    t.state = STOPPED
    left(t.tg)
    while t.stopped and not t.must_exit:
        t.clear_interrupt()
        t.sleep(-1)
    t.stopped = False
    t.state = old


def freeze(t: Task) -> None:
    """The thread's container is paused: it sleeps until that is over, or until it is killed."""
    old = t.state
    t.state = BLOCKED
    while t.container.paused and not t.must_exit:
        lib.cn_task_clear_interrupt(t.native)
        t.sleep(-1)
    t.state = old
    t.work = True


def resume(tg: ThreadGroup) -> None:
    """SIGCONT was generated: ends a stop, even if the signal itself is blocked or ignored."""
    if not tg.stop_signal:
        return
    was = tg.stop_count == 0
    tg.stop_signal = 0
    tg.stop_count = 0
    tg.stop_reported = True
    for t in tg.tasks:
        t.must_stop = False
        tr = t.tracing
        if tr is not None and tr.listening:
            tracing.retrap(t, tr)
        if t.stopped:
            t.stopped = False
            t.wake()
    if was:
        tg.continue_reported = False
        notify_parent(tg, SIG.CLD_CONTINUED, SIG.SIGCONT)
