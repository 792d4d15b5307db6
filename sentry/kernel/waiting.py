"""Waiting for children (wait(2), waitid(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import wait as W
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.kernel import exit as exiting
from sentry.kernel.rusage import Usage, usage_of_group
from sentry.kernel.wait import INTERRUPTED, TaskWaiter

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

CONTINUED_STATUS: Final = 0xFFFF
CODE_MASK: Final = 0x7F


class Report:
    """What became of a child."""

    def __init__(self, tg: ThreadGroup, code: int, status: int) -> None:
        self.pid: int = tg.pid
        self.uid: int = tg.main.creds.ruid
        self.code: int = code  # CLD_*
        self.status: int = status  # as wait4 stores it
        self.usage: Usage = usage_of_group(tg)

    def si_status(self) -> int:
        """si_status of waitid(2)."""
        if self.code == SIG.CLD_EXITED:
            return self.status >> 8 & 0xFF
        if self.code in (SIG.CLD_KILLED, SIG.CLD_DUMPED):
            return self.status & CODE_MASK
        if self.code == SIG.CLD_CONTINUED:
            return SIG.SIGCONT
        return self.status >> 8


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
        if not options & W.WEXITED:
            return None
        status = child.exit_status
        if status & CODE_MASK == 0:
            code = SIG.CLD_EXITED
        else:
            code = SIG.CLD_DUMPED if status & exiting.CORE_BIT else SIG.CLD_KILLED
        report = Report(child, code, status)
        if not options & W.WNOWAIT:
            parent = child.parent
            if parent is not None:
                parent.add_child_usage(child)
            exiting.reap(child)
        return report
    if options & W.WSTOPPED and child.stopped and not child.stop_reported:
        if not options & W.WNOWAIT:
            child.stop_reported = True
        return Report(child, SIG.CLD_STOPPED, child.stop_signal << 8 | 0x7F)
    if options & W.WCONTINUED and not child.continue_reported:
        if not options & W.WNOWAIT:
            child.continue_reported = True
        return Report(child, SIG.CLD_CONTINUED, CONTINUED_STATUS)
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
    if not any_match:
        raise Errno(E.ECHILD)
    return None


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
