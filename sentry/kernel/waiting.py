"""Waiting for children (wait(2), waitid(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import wait as W
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.kernel import exit as exiting
from sentry.kernel.rusage import Usage, usage_of_group, usage_of_task
from sentry.kernel.wait import INTERRUPTED, TaskWaiter

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

CONTINUED_STATUS: Final = 0xFFFF
CODE_MASK: Final = 0x7F


class Report:
    """What became of a child or a tracee."""

    def __init__(self, pid: int, uid: int, code: int, status: int, usage: Usage) -> None:
        self.pid: int = pid
        self.uid: int = uid
        self.code: int = code  # CLD_*
        self.status: int = status  # as wait4 stores it
        self.usage: Usage = usage

    def si_status(self) -> int:
        """si_status of waitid(2)."""
        if self.code == SIG.CLD_EXITED:
            return self.status >> 8 & 0xFF
        if self.code in (SIG.CLD_KILLED, SIG.CLD_DUMPED):
            return self.status & CODE_MASK
        if self.code == SIG.CLD_CONTINUED:
            return SIG.SIGCONT
        return self.status >> 8


def report_of(tg: ThreadGroup, code: int, status: int) -> Report:
    return Report(tg.pid, tg.main.creds.ruid, code, status, usage_of_group(tg))


def end_code(status: int) -> int:
    """CLD_* of a process that ended with this wait status."""
    if status & CODE_MASK == 0:
        return SIG.CLD_EXITED
    return SIG.CLD_DUMPED if status & exiting.CORE_BIT else SIG.CLD_KILLED


def matches(t: Task, child: ThreadGroup, idtype: int, ident: int, options: int) -> bool:
    """Is the child one that is waited for?"""
    if idtype == W.P_PID and child.pid != ident:
        return False
    if idtype == W.P_PGID and child.pgrp.pgid != ident:
        return False
    if options & W.__WALL:
        return True
    return (child.main.exit_signal != SIG.SIGCHLD) == bool(options & W.__WCLONE)


def look(child: ThreadGroup, options: int) -> Report | None:
    """Something to report of this child? It is taken note of unless WNOWAIT."""
    if child.dead:
        if child.unheard or not options & W.WEXITED:
            return None
        report = report_of(child, end_code(child.exit_status), child.exit_status)
        if not options & W.WNOWAIT:
            parent = child.parent
            if parent is not None:
                parent.add_child_usage(child)
            exiting.reap(child)
        return report
    if options & W.WSTOPPED and child.stopped and not child.stop_reported and child.main.tracing is None:
        if not options & W.WNOWAIT:
            child.stop_reported = True
        return report_of(child, SIG.CLD_STOPPED, child.stop_signal << 8 | 0x7F)
    if options & W.WCONTINUED and not child.continue_reported:
        if not options & W.WNOWAIT:
            child.continue_reported = True
        return report_of(child, SIG.CLD_CONTINUED, CONTINUED_STATUS)
    return None


def scan(t: Task, idtype: int, ident: int, options: int) -> Report | None:
    """One look at all children; ECHILD when none can ever match."""
    any_match = False
    mine = t.children if options & W.__WNOTHREAD else t.tg.children()
    for child in mine:
        if matches(t, child, idtype, ident, options):
            any_match = True
            report = look(child, options)
            if report is not None:
                return report
    for tracer in [t] if options & W.__WNOTHREAD else t.tg.tasks:
        for tracee in tracer.tracees:
            if chosen(tracee.tid, tracee.tg.pgrp.pgid, idtype, ident):
                any_match = True
                report = look_at_tracee(tracee, options)
                if report is not None:
                    return report
    for lost in t.tg.lost:
        if options & W.WEXITED and chosen(lost.tid, lost.pgid, idtype, ident):
            if not options & W.WNOWAIT:
                t.tg.lost.remove(lost)
                exiting.heard(lost.tg)
            return Report(lost.tid, lost.uid, end_code(lost.status), lost.status, lost.usage)
    if not any_match:
        raise Errno(E.ECHILD)
    return None


def chosen(pid: int, pgid: int, idtype: int, ident: int) -> bool:
    return idtype == W.P_ALL or ident == (pid if idtype == W.P_PID else pgid)


def look_at_tracee(t: Task, options: int) -> Report | None:
    """Is the thread in a stop that its tracer has not heard of yet? Those are told without WSTOPPED, too."""
    tr = t.tracing
    trap = tr.trap if tr is not None else None
    if tr is None or trap is None or trap.reported or tr.listening:
        return None
    if not options & W.WNOWAIT:
        trap.reported = True
    return Report(t.tid, t.creds.ruid, SIG.CLD_TRAPPED, trap.code << 8 | 0x7F, usage_of_task(t))


def wait(t: Task, idtype: int, ident: int, options: int) -> Report | None:
    """Waits for a change of a child; None with WNOHANG when there is nothing. ECHILD, Restart(ERESTARTSYS)."""
    report = scan(t, idtype, ident, options)
    if report is not None or options & W.WNOHANG:
        return report
    waiter = TaskWaiter(t, P.POLLIN)
    queue = t.tg.child_queue
    queue.add(waiter)
    try:
        while True:
            report = scan(t, idtype, ident, options)
            if report is not None:
                return report
            if t.block() == INTERRUPTED:
                raise Restart(ERESTARTSYS)
    finally:
        queue.remove(waiter)


def peek(t: Task, idtype: int, ident: int, options: int) -> Report | None:
    """What `wait` would report at once; nothing is taken."""
    return scan(t, idtype, ident, options | W.WNOWAIT)
