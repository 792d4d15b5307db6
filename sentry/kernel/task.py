"""A guest thread. What it does is split by verb: clone.py, execve.py, exit.py, waiting.py, signals.py, run.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import resource as R
from sentry.abi import sched as SCHED
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.kernel.creds import Creds
from sentry.kernel.signals import Pending

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.kernel import Kernel, UTSNamespace
    from sentry.kernel.pidns import PidNamespace
    from sentry.kernel.seccomp import Filter
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.kernel.tracing import Tracing
    from sentry.mm.address_space import AddressSpace
    from sentry.vfs.fdtable import FDTable
    from sentry.vfs.mount import FSContext

# Task.state; the diagram is in README.md.
RUN: Final = 0  # in the guest, or about to be
SYSCALL: Final = 1  # a handler runs
BLOCKED: Final = 2  # in Task.block, inside a handler
STOPPED: Final = 3  # job control stop
TRACED: Final = 4  # ptrace stop
EXITING: Final = 5  # gives up what it holds
ZOMBIE: Final = 6  # dead leader whose group has not been waited for
DEAD: Final = 7  # gone from the task table

NO_MASK: Final = -1
DEFAULT_TIMER_SLACK: Final = 50_000  # ns
FAR_FUTURE: Final = (1 << 63) - 1


class Task:
    """One guest thread: its identity, what it shares with others, and its native half (`native`, `regs`).

    `regs` is a `struct cn_regs *`; it is valid while the task's host thread is outside `cn_task_run`.
    Other parts of the kernel that keep something per thread declare it here.
    """

    native: ffi.CData = ffi.NULL

    def __init__(
        self,
        kernel: Kernel,
        tid: int,
        tg: ThreadGroup,
        mm: AddressSpace,
        fs: FSContext,
        fds: FDTable,
        creds: Creds,
        uts: UTSNamespace,
    ) -> None:
        self.kernel: Kernel = kernel
        self.tid: int = tid
        self.tg: ThreadGroup = tg
        self.container: Container = tg.container
        self.pidns: PidNamespace = tg.pidns
        self.mm: AddressSpace = mm
        self.fs: FSContext = fs
        self.fds: FDTable = fds
        self.who: Creds = creds
        self.uts: UTSNamespace = uts
        self.comm: bytes = b""  # at most 15 bytes
        self.state: int = RUN
        self.start_time: int = 0  # monotonic ns at creation
        out = ffi.new("struct cn_task **")
        rc = lib.cn_task_new(mm.native, out)
        if rc < 0:
            raise Errno(-rc)
        self.native = out[0]
        self.regs: ffi.CData = ffi.addressof(out[0], "regs")
        self.args: ffi.CData = ffi.buffer(
            ffi.addressof(out[0], "args")
        )  # of the call that it stopped at, as six 64-bit words
        lib.cn_task_set_fds(self.native, fds.native)
        self.native.fs = fs.native
        self.native.creds = creds.number
        self.native.fsize = tg.limits.soft(R.RLIMIT_FSIZE)
        self.native.nofile = tg.limits.soft(R.RLIMIT_NOFILE)
        self.publish_ids()

        # Signals (sentry/kernel/signals.py)
        self.pending: Pending = Pending()
        self.signals: ffi.CData = ffi.new("struct cn_sigtask *")  # mask, alternate stack (native/run/signals.h)
        self.signals.pending = self.pending.word
        self.signals.shared_pending = tg.pending.word
        self.signals.actions = tg.actions.native
        self.signals.limit = tg.limits.soft(R.RLIMIT_SIGPENDING)
        self.signals.stack_flags = SIG.SS_DISABLE
        self.native.signals = self.signals
        self.saved_sigmask: int = (
            NO_MASK  # to restore when a call with a temporary mask ends (sigsuspend, ppoll...)
        )
        self.work: bool = False  # signals, a stop or an exit may wait: look before going on in the guest
        self.must_stop: bool = False  # its process stops: it does so at the border
        self.stopped: bool = False
        self.waiting_for: int = 0  # set of signals that sigtimedwait sleeps for
        self.restart: int = 0  # ERESTART* of the call that was just interrupted; 0: none
        self.restart_fn: Callable[[Task], int] | None = None  # how restart_syscall(2) goes on
        self.syscall_nr: int = -1  # the call being handled, -1: not in one

        # clone(2), exit
        self.clear_child_tid: int = 0
        self.robust_list: int = 0
        self.robust_len: int = 0
        self.exit_signal: int = 0  # what the parent gets when the group ends, if this is the leader
        self.exit_status: int = 0  # wait status
        self.must_exit: bool = False  # killed, exit_group or de_thread: dies at the border
        self.vfork_parent: Task | None = None  # sleeps until this task execs or exits
        self.tracing: Tracing | None = None  # somebody traces it (sentry/kernel/tracing.py)
        self.tracees: list[Task] = []
        self.children: list[ThreadGroup] = []  # processes that this thread made (or was given)

        # rseq(2), by sentry/kernel/rseq.py
        self.rseq: int = 0
        self.rseq_len: int = 0
        self.rseq_sig: int = 0

        # prctl(2) and kin
        self.pdeathsig: int = 0
        self.timer_slack: int = DEFAULT_TIMER_SLACK
        self.default_timer_slack: int = DEFAULT_TIMER_SLACK  # what PR_SET_TIMERSLACK 0 goes back to
        self.seccomp: Filter | None = None  # the newest filter; they form a chain

        # Scheduling attributes (sentry/syscalls/sched.py)
        self.nice: int = 0
        self.ioprio: int = 0  # as ioprio_set(2) has it
        self.mempolicy: int = 0  # mode, as set_mempolicy(2) has it
        self.mempolicy_nodes: int = 0
        self.policy: int = SCHED.SCHED_OTHER
        self.rt_priority: int = 0
        self.sched_deadline: tuple[int, int, int] = (0, 0, 0)  # runtime, deadline and period of SCHED_DEADLINE, ns
        self.affinity: int = 0  # CPU set as a bit mask; 0: all

        # Resource use (sentry/kernel/rusage.py)
        self.minflt: int = 0
        self.majflt: int = 0
        self.blocks: int = 0  # times it slept, but for calls that C answered
        self.nivcsw: int = 0
        self.utime_final: int = 0  # CPU ns when the native half was given up
        self.stime_final: int = 0

    @property
    def sigmask(self) -> int:
        """Blocked signals: bit n-1 for signal n. The thread changes it in C, too."""
        mask: int = self.signals.blocked
        return mask

    @sigmask.setter
    def sigmask(self, mask: int) -> None:
        self.signals.blocked = mask

    @property
    def leader(self) -> bool:
        return self.tg.leader is self

    @property
    def alive(self) -> bool:
        return self.state < EXITING

    @property
    def creds(self) -> Creds:
        return self.who

    @creds.setter
    def creds(self, creds: Creds) -> None:
        self.who = creds
        if self.native != ffi.NULL:
            self.native.creds = creds.number
            self.publish_ids()

    def use_fs(self, fs: FSContext) -> None:
        """Another root, working directory and umask; the caller has given up the old ones."""
        self.fs = fs
        self.native.fs = fs.native

    def publish_ids(self) -> None:
        """Tells C what getpid(2) and kin answer: after each change of the number, the parent or the credentials."""
        tg = self.tg
        parent = tg.parent
        ppid = parent.pid if parent is not None else 0
        c = self.who
        lib.cn_task_set_ids(self.native, tg.pid, self.tid, ppid, c.ruid, c.euid, c.rgid, c.egid)

    @property
    def asleep(self) -> bool:
        """Sleeps it in a system call?"""
        return self.state == BLOCKED or (self.state == RUN and bool(self.native.asleep))

    @property
    def nvcsw(self) -> int:
        """Voluntary context switches."""
        if self.native == ffi.NULL:
            return self.blocks
        return self.blocks + int(self.native.sleeps)

    def use_fds(self, fds: FDTable) -> None:
        """Another descriptor table; the caller has given up the old one."""
        lib.cn_task_set_fds(self.native, fds.native)
        self.fds = fds

    def cpu_ns(self) -> tuple[int, int]:
        """(user, system) CPU time so far, in ns."""
        if self.native == ffi.NULL:
            return self.utime_final, self.stime_final
        times = ffi.new("uint64_t[2]")
        lib.cn_task_cpu_ns(self.native, times, times + 1)
        return int(times[0]), int(times[1])

    def block(self, deadline: int = -1) -> int:
        """Sleeps with K dropped until woken; WOKEN, TIMEOUT (monotonic `deadline` in ns passed) or INTERRUPTED (a signal,
        stop or kill is waiting; stays so until signals are handled). Callers loop: another thread may have taken what they waited for."""
        old = self.state
        self.state = BLOCKED
        self.blocks += 1
        why: int = lib.cn_task_block(self.native, min(deadline, FAR_FUTURE))
        if self.container.paused:
            self.stay_frozen()
        self.state = old
        return why

    def stay_frozen(self) -> None:
        """Woken while its container is paused: goes on sleeping until that is over, or until it is killed."""
        interrupted = False
        while self.container.paused and not self.must_exit:
            if lib.cn_task_interrupted(self.native):
                interrupted = True
                lib.cn_task_clear_interrupt(self.native)
            lib.cn_task_block(self.native, -1)
        if interrupted:
            lib.cn_task_interrupt(self.native)

    def sleep(self, deadline: int) -> int:
        """`block` for a task whose state the caller has set (stops)."""
        why: int = lib.cn_task_block(self.native, deadline)
        return why

    def clear_interrupt(self) -> None:
        """The caller is about to look at everything that `interrupt` was called for."""
        self.work = False
        lib.cn_task_clear_interrupt(self.native)

    def wake(self) -> None:
        """Ends the task's block, or its next one."""
        if self.native != ffi.NULL:
            lib.cn_task_wake(self.native)

    def interrupt(self) -> None:
        """Kicks the task out of the guest or out of a block, to look at signals and stops."""
        self.work = True
        if self.native != ffi.NULL:
            lib.cn_task_interrupt(self.native)

    def set_temporary_sigmask(self, mask: int) -> None:
        """For the rest of this call `mask` blocks signals (ppoll, pselect6, epoll_pwait, rt_sigsuspend). The border puts the
        old mask back: at once when the call ends without interruption, else after a handler ran."""
        self.saved_sigmask = self.sigmask
        self.set_sigmask(mask)

    def set_sigmask(self, mask: int) -> None:
        """Blocks exactly these signals (never SIGKILL and SIGSTOP); pending ones that are free now will be looked at."""
        from sentry.kernel import signals

        signals.set_mask(self, mask)
