"""Signals: queues, sending, choosing the next one, default actions, stops (signal(7)). Frames are in sigframe.py."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import signal as SIG

if TYPE_CHECKING:
    from sentry.kernel.session import ProcessGroup
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

SIGINFO_SIZE: Final = 128
SIG_DFL: Final = 0
SIG_IGN: Final = 1
NSIG: Final = 64


def bit(sig: int) -> int:
    """The signal's place in a set."""
    return 1 << (sig - 1)


class SigInfo:
    """What a signal carries (siginfo_t, sigaction(2)). The fields in use depend on signo and code."""

    def __init__(self, signo: int, code: int = SIG.SI_USER) -> None:
        self.signo: int = signo
        self.code: int = code
        self.errno: int = 0
        self.pid: int = 0  # sender; or the timer's id (SI_TIMER)
        self.uid: int = 0  # sender; or the overrun count (SI_TIMER)
        self.value: int = 0  # sigval as 64 bits; or the status (SIGCHLD)
        self.utime: int = 0  # SIGCHLD, clock ticks
        self.stime: int = 0
        self.addr: int = 0  # faults; call address (SIGSYS); band (SIGIO)
        self.fd: int = 0  # SIGIO; syscall number (SIGSYS)
        self.arch: int = 0  # SIGSYS
        self.raw: bytes | None = None  # given by rt_sigqueueinfo(2): the payload after si_code, as it came

    def pack(self) -> bytes:
        """The 128 bytes a guest sees."""
        raise NotImplementedError


class Pending:
    """A queue of pending signals: one each of the standard ones, any number of the real-time ones."""

    def __init__(self) -> None:
        self.set: int = 0
        self.queue: list[SigInfo] = []


class Action:
    """What sigaction(2) set for one signal."""

    def __init__(self) -> None:
        self.handler: int = SIG_DFL
        self.flags: int = 0
        self.restorer: int = 0
        self.mask: int = 0


class Actions:
    """The actions of a process, index n for signal n; shared by CLONE_SIGHAND."""

    def __init__(self) -> None:
        self.table: list[Action] = [Action() for _ in range(NSIG + 1)]
        self.users: int = 1


def user_info(sender: Task, sig: int, code: int = SIG.SI_USER) -> SigInfo:
    """The siginfo of kill(2) (code SI_USER) or tgkill(2) (SI_TKILL) by `sender`."""
    info = SigInfo(sig, code)
    info.pid = sender.tg.pid
    info.uid = sender.creds.ruid
    return info


def kernel_info(sig: int) -> SigInfo:
    """A signal from the kernel itself (SI_KERNEL)."""
    return SigInfo(sig, SIG.SI_KERNEL)


# Sending. None of these checks permissions or blocks; a signal that is ignored is dropped.


def send_to_task(t: Task, info: SigInfo) -> None:
    """To one thread (tgkill, synchronous timers, SIGPIPE)."""
    raise NotImplementedError


def send_to_group(tg: ThreadGroup, info: SigInfo) -> None:
    """To a process: any thread that does not block it."""
    raise NotImplementedError


def send_to_pgrp(pg: ProcessGroup, info: SigInfo) -> None:
    """To every process of a job (terminals, kill(-pgid))."""
    raise NotImplementedError


def force(t: Task, info: SigInfo) -> None:
    """A synchronous fault of this thread: delivered even if blocked or ignored (then with the default action)."""
    raise NotImplementedError


# Receiving.


def dequeue(t: Task, wanted: int) -> SigInfo | None:
    """Takes the next pending signal out of the set `wanted`, the thread's own first, then the process's (signalfd, sigtimedwait)."""
    raise NotImplementedError


def pending_set(t: Task) -> int:
    """Signals pending for the thread or its process."""
    return t.pending.set | t.tg.pending.set


def set_mask(t: Task, mask: int) -> None:
    """See Task.set_sigmask."""
    raise NotImplementedError


_ = struct
