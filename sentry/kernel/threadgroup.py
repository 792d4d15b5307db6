"""A process: threads with one pid, one parent, one set of signal actions and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.kernel.signals import Actions, Pending
from sentry.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.limits import Limits
    from sentry.kernel.session import ProcessGroup
    from sentry.kernel.task import Task


class ThreadGroup:
    """One process. Other parts of the kernel that keep something per process declare it here."""

    def __init__(self, kernel: Kernel, pid: int, parent: ThreadGroup | None, pgrp: ProcessGroup, limits: Limits, actions: Actions) -> None:
        self.kernel: Kernel = kernel
        self.pid: int = pid
        self.leader: Task | None = None  # set before the group can be seen; None only while it is built
        self.tasks: list[Task] = []  # living threads, oldest first; a dead leader stays `leader` until waited for
        self.parent: ThreadGroup | None = parent  # None for init
        self.parent_task: Task | None = None  # the thread of `parent` that counts as having made it (__WNOTHREAD, PDEATHSIG)
        self.pgrp: ProcessGroup = pgrp
        self.limits: Limits = limits
        self.is_init: bool = False
        self.did_exec: bool = False  # setpgid(2) by the parent is over

        # Signals
        self.actions: Actions = actions  # shared with another group by CLONE_SIGHAND
        self.pending: Pending = Pending()
        self.signal_queue: WaitQueue = WaitQueue()  # notified with POLLIN when a signal comes in (signalfd)

        # Stop and exit
        self.stop_signal: int = 0  # 0: no group stop under way; else its signal
        self.stop_count: int = 0  # threads that still have to stop
        self.stop_reported: bool = True  # a stop that wait4 has not told the parent yet: False
        self.continue_reported: bool = True  # the same for a continue
        self.exiting: bool = False  # exit_group or a fatal signal: all threads die
        self.exit_status: int = 0  # wait status (wait(2)), valid when exiting or dead
        self.exec_task: Task | None = None  # the thread that execs and waits for the others to go
        self.dead: bool = False  # every thread is gone: a zombie until waited for
        self.reaped: bool = False
        self.child_queue: WaitQueue = WaitQueue()  # notified when a child changed state (wait4) or a thread ended (exec)
        self.exit_queue: WaitQueue = WaitQueue()  # notified with POLLIN when this process became a zombie (pidfd)

        # Resource use of threads that ended, and of children that were waited for: ns and counts
        self.utime: int = 0
        self.stime: int = 0
        self.minflt: int = 0
        self.majflt: int = 0
        self.nvcsw: int = 0
        self.nivcsw: int = 0
        self.maxrss: int = 0  # KiB
        self.children_utime: int = 0
        self.children_stime: int = 0
        self.children_minflt: int = 0
        self.children_majflt: int = 0
        self.children_nvcsw: int = 0
        self.children_nivcsw: int = 0
        self.children_maxrss: int = 0

        # prctl(2)
        self.subreaper: bool = False
        self.dumpable: int = 1
        self.keepcaps: bool = False
        self.personality: int = 0
        self.oom_score_adj: int = 0

    @property
    def main(self) -> Task:
        """The thread whose tid is the pid (it may have ended before the others)."""
        assert self.leader is not None
        return self.leader

    @property
    def stopped(self) -> bool:
        """In a completed job control stop."""
        return self.stop_signal != 0 and self.stop_count == 0

    def children(self) -> list[ThreadGroup]:
        """Processes that this one may wait for."""
        return [c for t in self.tasks for c in t.children]
