"""A guest thread. What it does is split by verb: clone.py, execve.py, exit.py, signals.py, run.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from native._core import ffi, lib
from sentry.kernel.creds import Creds

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.signals import SigInfo, SignalQueue
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.mm.address_space import AddressSpace
    from sentry.vfs.fdtable import FDTable
    from sentry.vfs.mount import FSContext


class Task:
    """One guest thread: its identity, what it shares with others, and its native half (`native`, `regs`).

    `regs` is a `struct cn_regs *`; it is valid while the task's host thread is outside `cn_task_run`.
    """

    def __init__(
        self,
        kernel: Kernel,
        tid: int,
        tg: ThreadGroup,
        mm: AddressSpace,
        fs: FSContext,
        fds: FDTable,
        creds: Creds,
    ) -> None:
        self.kernel: Kernel = kernel
        self.tid: int = tid
        self.tg: ThreadGroup = tg
        self.mm: AddressSpace = mm
        self.fs: FSContext = fs
        self.fds: FDTable = fds
        self.creds: Creds = creds
        self.comm: bytes = b""
        self.native: ffi.CData = lib.cn_task_new()
        self.regs: ffi.CData = lib.cn_task_regs(self.native)
        self.sigmask: int = 0  # bit n-1 for signal n
        self.saved_sigmask: int = -1  # to restore after sigsuspend/ppoll...; -1: none
        self.restart: int = 0  # ERESTART* of the call that was just interrupted; 0: none
        self.restart_fn: object | None = None  # how restart_syscall(2) goes on
        self.dead: bool = False

    def block(self, deadline: int = -1) -> int:
        """Sleeps with K dropped until woken; WOKEN, TIMEOUT (monotonic `deadline` in ns passed) or INTERRUPTED (a signal,
        stop or kill is waiting; stays so until signals are handled). Callers loop: another thread may have taken what they waited for."""
        return lib.cn_task_block(self.native, deadline)

    def wake(self) -> None:
        """Ends the task's block, or its next one."""
        lib.cn_task_wake(self.native)

    def interrupt(self) -> None:
        """Kicks the task out of the guest or out of a block, to look at signals and stops."""
        lib.cn_task_interrupt(self.native)
