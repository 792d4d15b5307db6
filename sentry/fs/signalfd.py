"""signalfd(2): takes pending signals by reading."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.fs.anon import AnonFile
from sentry.kernel import signals
from sentry.kernel.wait import TaskWaiter, Waiter, WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.signals import SigInfo
    from sentry.kernel.task import Task

SIZE: Final = 128  # struct signalfd_siginfo
INFO: Final = struct.Struct("<IiiIIiIIIIiiQQQQHxxiQI")
READABLE: Final = P.POLLIN | P.POLLRDNORM
I32: Final = 0xFFFFFFFF


def signed(value: int) -> int:
    """The lower 32 bits as an int."""
    value &= I32
    return value - 0x100000000 if value & 0x80000000 else value


def pack(info: SigInfo) -> bytes:
    """struct signalfd_siginfo, filled like the siginfo_t of the same signal (fs/signalfd.c)."""
    code, sig = info.code, info.signo
    pid = uid = fd = tid = band = overrun = trap = status = value = utime = stime = addr = call = arch = 0
    if info.raw is not None:
        pid, uid, value = info.pid, info.uid, info.value
    elif code == SIG.SI_TIMER:
        tid, overrun, value = info.pid, info.uid, info.value
    elif code == SIG.SI_SIGIO or (sig == SIG.SIGPOLL and 0 < code < SIG.SI_KERNEL):
        band, fd = info.addr, info.fd
    elif code <= 0 or code >= SIG.SI_KERNEL:
        pid, uid, value = info.pid, info.uid, info.value
    elif sig == SIG.SIGCHLD:
        pid, uid, status, utime, stime = info.pid, info.uid, info.value, info.utime, info.stime
    elif sig == SIG.SIGSYS:
        addr, call, arch = info.addr, info.fd, info.arch
    elif signals.bit(sig) & signals.SYNCHRONOUS:
        addr, trap = info.addr, info.trapno
    else:
        pid, uid = info.pid, info.uid
    u64 = 0xFFFFFFFFFFFFFFFF
    data = INFO.pack(
        sig, info.errno, code, pid & I32, uid & I32, signed(fd), tid & I32, band & I32, overrun & I32, trap & I32,
        signed(status), signed(value), value & u64, utime & u64, stime & u64, addr & u64, 0, signed(call), 0, arch & I32,
    )  # fmt: skip
    return data.ljust(SIZE, b"\0")


class SignalQueue(WaitQueue):
    """Sleepers on a signalfd wait for arrivals at their own process; registrations of epoll at the process that last used it."""

    def __init__(self, file: SignalFile) -> None:
        super().__init__()
        self.file: SignalFile = file
        self.places: list[tuple[Waiter, WaitQueue]] = []

    def add(self, waiter: Waiter) -> None:
        if isinstance(waiter, TaskWaiter):
            self.file.user = waiter.task
        queue = self.file.user.tg.signal_queue
        queue.add(waiter)
        self.places.append((waiter, queue))

    def remove(self, waiter: Waiter) -> None:
        for i, (known, queue) in enumerate(self.places):
            if known is waiter:
                queue.remove(waiter)
                del self.places[i]
                return


class SignalFile(AnonFile):
    """Who reads gets its own signals. Readiness is that of the task that used the file last."""

    def __init__(self, t: Task, mask: int, flags: int) -> None:
        super().__init__(flags)
        self.mask: int = mask
        self.user: Task = t
        self.waitq = SignalQueue(self)

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        room = count // SIZE
        if room == 0:
            raise Errno(E.EINVAL)
        self.user = t
        parts: list[bytes] = []
        while len(parts) < room:
            info = signals.dequeue(t, self.mask)
            if info is None:
                break
            parts.append(pack(info))
        if parts:
            return b"".join(parts)
        return None

    def poll(self) -> int:
        return READABLE if signals.pending_set(self.user) & self.mask else 0

    def set_mask(self, mask: int) -> None:
        """signalfd4(2) on an existing descriptor."""
        self.mask = mask
        self.user.tg.signal_queue.notify(P.POLLIN)

    def release(self) -> None:
        for waiter, queue in self.waitq.places if isinstance(self.waitq, SignalQueue) else []:
            queue.remove(waiter)

    def describe(self) -> bytes:
        return b"anon_inode:[signalfd]"

    def fdinfo(self) -> bytes:
        return b"sigmask:\t%016x\n" % self.mask
