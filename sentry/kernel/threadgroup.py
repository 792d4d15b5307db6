"""A process: threads with one pid, one parent, one set of signal actions and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.kernel.itimers import ProcessTimers
from sentry.kernel.signals import Actions, Pending
from sentry.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.container import Container, Record
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.limits import Limits
    from sentry.kernel.pidns import PidNamespace
    from sentry.kernel.session import ProcessGroup
    from sentry.kernel.task import Task
    from sentry.kernel.tracing import Lost


class ThreadGroup:
    """One process. Other parts of the kernel that keep something per process declare it here."""

    def __init__(
        self,
        kernel: Kernel,
        pid: int,
        parent: ThreadGroup | None,
        pgrp: ProcessGroup,
        limits: Limits,
        actions: Actions,
        container: Container,
    ) -> None:
        self.kernel: Kernel = kernel
        self.container: Container = container
        self.pidns: PidNamespace = container.pidns
        self.record: Record | None = None  # somebody outside waits for its end
        self.pid: int = pid
        self.leader: Task | None = None  # set before the group can be seen; None only while it is built
        self.tasks: list[
            Task
        ] = []  # living threads, oldest first; a dead leader stays `leader` until waited for
        self.parent: ThreadGroup | None = parent  # None for init
        self.parent_task: Task | None = (
            None  # the thread of `parent` that counts as having made it (__WNOTHREAD, PDEATHSIG)
        )
        self.pgrp: ProcessGroup = pgrp
        self.limits: Limits = limits
        self.is_init: bool = False
        self.unkillable: bool = False  # as an init: signals with the default action do nothing
        self.fostered: bool = False  # a job of whoever started the sandbox: its group is not orphaned
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
        self.child_queue: WaitQueue = (
            WaitQueue()
        )  # notified when a child changed state (wait4) or a thread ended (exec)
        self.lost: list[Lost] = []  # tracees that ended and have not been waited for
        self.unheard: int = 0  # ends of its threads that are in a tracer's `lost`: its parent hears of its own after them
        self.exit_queue: WaitQueue = (
            WaitQueue()
        )  # notified with POLLIN when this process became a zombie (pidfd)

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
        self.personality: int = 0
        self.oom_score_adj: int = 0

        self.timers: ProcessTimers = ProcessTimers(self)

    @property
    def main(self) -> Task:
        """The thread whose tid is the pid (it may have ended before the others)."""
        assert self.leader is not None
        return self.leader

    @property
    def stopped(self) -> bool:
        """In a completed job control stop."""
        return self.stop_signal != 0 and self.stop_count == 0

    def cpu_ns(self) -> tuple[int, int]:
        """(user, system) CPU time of all threads, living and dead, in ns."""
        utime, stime = self.utime, self.stime
        for t in self.tasks:
            u, s = t.cpu_ns()
            utime += u
            stime += s
        return utime, stime

    def account(self, t: Task) -> None:
        """A thread ends: its use of resources stays with the process."""
        self.utime += t.utime_final
        self.stime += t.stime_final
        self.minflt += t.minflt
        self.majflt += t.majflt
        self.nvcsw += t.nvcsw
        self.nivcsw += t.nivcsw

    def add_child_usage(self, child: ThreadGroup) -> None:
        """A child was waited for: its use, and that of its children, is told by RUSAGE_CHILDREN."""
        utime, stime = child.cpu_ns()
        self.children_utime += utime + child.children_utime
        self.children_stime += stime + child.children_stime
        self.children_minflt += child.minflt + child.children_minflt
        self.children_majflt += child.majflt + child.children_majflt
        self.children_nvcsw += child.nvcsw + child.children_nvcsw
        self.children_nivcsw += child.nivcsw + child.children_nivcsw
        self.children_maxrss = max(self.children_maxrss, child.maxrss, child.children_maxrss)

    def join_pgrp(self, pg: ProcessGroup) -> None:
        """Moves to another process group."""
        old = self.pgrp
        if old is not pg:
            old.remove(self)
            pg.add(self)

    def leave_pgrp(self) -> None:
        self.pgrp.remove(self)

    def pdeath_of(self, t: Task) -> bool:
        """Does the process ask for a signal when the thread t, which made it, ends?"""
        return self.main.pdeathsig != 0 and self.parent_task is t

    def children(self) -> list[ThreadGroup]:
        """Processes that this one may wait for."""
        return [c for t in self.tasks for c in t.children]
