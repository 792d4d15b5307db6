"""poll(2), ppoll(2), select(2), pselect6(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import resource as R
from sentry.errors import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Errno, Restart
from sentry.kernel import clock
from sentry.kernel.wait import INTERRUPTED, NO_DEADLINE, TIMEOUT, TaskWaiter
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

POLLFD: Final = struct.Struct("<ihh")
TIMESPEC: Final = struct.Struct("<qq")
SIGMASK_ARG: Final = struct.Struct("<QQ")
SIGSET_SIZE: Final = 8
NS: Final = 1_000_000_000
FOREVER: Final = 1 << 62  # deadlines beyond are none

IN_SET: Final = P.POLLRDNORM | P.POLLRDBAND | P.POLLIN | P.POLLHUP | P.POLLERR | P.POLLNVAL
OUT_SET: Final = P.POLLWRBAND | P.POLLWRNORM | P.POLLOUT | P.POLLERR | P.POLLNVAL
EX_SET: Final = P.POLLPRI | P.POLLNVAL
ALWAYS: Final = P.POLLERR | P.POLLHUP | P.POLLNVAL


class Polled:
    """One descriptor that is waited for."""

    def __init__(self, file: File | None, events: int) -> None:
        self.file: File | None = file  # None: ignored, or bad if `revents` says so
        self.events: int = events
        self.revents: int = 0


def polled(file: File | None, events: int) -> Polled:
    """A descriptor that is not open, or leads to a place only (O_PATH), is bad."""
    if file is not None and not file.flags & F.O_PATH:
        return Polled(file, events)
    item = Polled(None, events)
    item.revents = P.POLLNVAL
    return item


def scan(items: list[Polled]) -> int:
    """Asks every file; the number that are ready."""
    count = 0
    for item in items:
        file = item.file
        if file is not None:
            item.revents = file.poll() & (item.events | ALWAYS)
        if item.revents:
            count += 1
    return count


def wait(t: Task, items: list[Polled], deadline: int) -> int:
    """Sleeps until one is ready (the number that are), 0 when the monotonic deadline passed (0: at once, -1: never), or
    -EINTR when interrupted."""
    count = scan(items)
    if count:
        return count
    if deadline == 0:
        return -E.EINTR if lib.cn_task_interrupted(t.native) else 0
    waiters: list[TaskWaiter] = []
    files: list[File] = []
    for item in items:
        file = item.file
        if file is not None:
            waiter = TaskWaiter(t, item.events | ALWAYS)
            file.refs += 1
            file.waitq.add(waiter)
            files.append(file)
            waiters.append(waiter)
    try:
        while True:
            count = scan(items)
            if count:
                return count
            why = t.block(deadline)
            if why == INTERRUPTED:
                count = scan(items)
                return count if count else -E.EINTR
            if why == TIMEOUT:
                return scan(items)
    finally:
        for i, file in enumerate(files):
            file.waitq.remove(waiters[i])
            file.decref()


def deadline_after(ns: int) -> int:
    """The monotonic deadline for a relative time: 0 stays "at once"."""
    if ns == 0:
        return 0
    end = clock.monotonic() + ns
    return NO_DEADLINE if end >= FOREVER else end


def read_timespec(t: Task, addr: int) -> int:
    """A relative timespec in ns; -1 for a null pointer."""
    if addr == 0:
        return -1
    sec, nsec = TIMESPEC.unpack(t.mm.read(addr, TIMESPEC.size))
    if sec < 0 or not 0 <= nsec < NS:
        raise Errno(E.EINVAL)
    ns: int = min(sec, 1 << 31) * NS + nsec
    return ns


def write_left(t: Task, addr: int, deadline: int, micro: bool) -> None:
    """What is left of a timeout goes back to the guest; where it can't, that is nobody's error (Linux does the same)."""
    if addr == 0:
        return
    left = 0
    if deadline == NO_DEADLINE:
        return
    if deadline:
        left = max(0, deadline - clock.monotonic())
    try:
        t.mm.write(addr, TIMESPEC.pack(left // NS, left % NS // 1000 if micro else left % NS))
    except Errno:
        pass


def set_mask(t: Task, addr: int, size: int) -> None:
    """The signal mask for the time of the call."""
    if addr:
        if size != SIGSET_SIZE:
            raise Errno(E.EINVAL)
        t.set_temporary_sigmask(t.mm.read_u64(addr))


# poll


def read_fds(t: Task, fds: int, nfds: int) -> list[Polled]:
    if nfds > t.tg.limits.soft(R.RLIMIT_NOFILE):
        raise Errno(E.EINVAL)
    items: list[Polled] = []
    for fd, events, _ in POLLFD.iter_unpack(t.mm.read(fds, nfds * POLLFD.size)):
        items.append(polled(t.fds.find(fd), events & 0xFFFF) if fd >= 0 else Polled(None, 0))
    return items


def write_fds(t: Task, fds: int, items: list[Polled]) -> None:
    for i, item in enumerate(items):
        t.mm.write(fds + i * POLLFD.size + 6, (item.revents & 0xFFFF).to_bytes(2, "little"))


class PollAgain:
    """The rest of an interrupted poll(2), for restart_syscall(2)."""

    def __init__(self, fds: int, nfds: int, deadline: int) -> None:
        self.fds: int = fds
        self.nfds: int = nfds
        self.deadline: int = deadline

    def run(self, t: Task) -> int:
        items = read_fds(t, self.fds, self.nfds)
        count = wait(t, items, self.deadline)
        if count == -E.EINTR:
            t.restart_fn = self.run
            raise Restart(ERESTART_RESTARTBLOCK)
        write_fds(t, self.fds, items)
        return count


def poll(t: Task, fds: int, nfds: int, timeout: int) -> int:
    """poll(2)"""
    deadline = NO_DEADLINE if timeout < 0 else deadline_after(timeout * 1_000_000)
    return PollAgain(fds, nfds, deadline).run(t)


def ppoll(t: Task, fds: int, nfds: int, timeout: int, sigmask: int, size: int) -> int:
    """ppoll(2)"""
    ns = read_timespec(t, timeout)
    deadline = NO_DEADLINE if ns < 0 else deadline_after(ns)
    set_mask(t, sigmask, size)
    items = read_fds(t, fds, nfds)
    count = wait(t, items, deadline)
    write_left(t, timeout, deadline, False)
    if count == -E.EINTR:
        raise Restart(ERESTARTNOHAND)
    write_fds(t, fds, items)
    return count


# select


def read_set(t: Task, addr: int, nfds: int) -> int:
    """An fd_set as one integer."""
    if addr == 0 or nfds == 0:
        return 0
    return int.from_bytes(t.mm.read(addr, (nfds + 63) // 64 * 8), "little") & ((1 << nfds) - 1)


def do_select(t: Task, nfds: int, readfds: int, writefds: int, exceptfds: int, deadline: int) -> int:
    """The number of bits set in the results, or -EINTR (then the sets are as they were)."""
    if nfds < 0:
        raise Errno(E.EINVAL)
    nfds = min(nfds, (t.fds.size() + 63) // 64 * 64)
    want_in = read_set(t, readfds, nfds)
    want_out = read_set(t, writefds, nfds)
    want_ex = read_set(t, exceptfds, nfds)
    items: list[Polled] = []
    numbers: list[int] = []
    rest = want_in | want_out | want_ex
    while rest:
        bit = rest & -rest
        rest ^= bit
        fd = bit.bit_length() - 1
        file = t.fds.find(fd)
        if file is None:
            raise Errno(E.EBADF)
        events = 0
        if want_in & bit:
            events |= IN_SET
        if want_out & bit:
            events |= OUT_SET
        if want_ex & bit:
            events |= EX_SET
        numbers.append(fd)
        items.append(polled(file, events))
    count = wait(t, items, deadline)
    # An error or hang-up makes a file ready only for the sets that count it; a wake-up for others goes on waiting.
    while count > 0 and not any(item.revents & item.events for item in items):
        count = wait_more(t, items, deadline)
    if count < 0:
        return count
    got_in = got_out = got_ex = total = 0
    for i, item in enumerate(items):
        bit = 1 << numbers[i]
        if want_in & bit and item.revents & IN_SET:
            got_in |= bit
            total += 1
        if want_out & bit and item.revents & OUT_SET:
            got_out |= bit
            total += 1
        if want_ex & bit and item.revents & EX_SET:
            got_ex |= bit
            total += 1
    size = (nfds + 63) // 64 * 8
    for addr, bits in ((readfds, got_in), (writefds, got_out), (exceptfds, got_ex)):
        if addr and size:
            t.mm.write(addr, bits.to_bytes(size, "little"))
    return total


def wait_more(t: Task, items: list[Polled], deadline: int) -> int:
    """Waits without the files that only have an event nobody asked for."""
    rest = [item for item in items if not item.revents]
    for item in items:
        item.revents = 0
    return wait(t, rest, deadline)


def select(t: Task, nfds: int, readfds: int, writefds: int, exceptfds: int, timeout: int) -> int:
    """select(2)"""
    deadline = NO_DEADLINE
    if timeout:
        sec, usec = TIMESPEC.unpack(t.mm.read(timeout, TIMESPEC.size))
        if sec < 0 or usec < 0:
            raise Errno(E.EINVAL)
        deadline = deadline_after(min(sec, 1 << 31) * NS + usec * 1000)
    count = do_select(t, nfds, readfds, writefds, exceptfds, deadline)
    write_left(t, timeout, deadline, True)
    if count == -E.EINTR:
        raise Restart(ERESTARTNOHAND)
    return count


def pselect6(
    t: Task, nfds: int, readfds: int, writefds: int, exceptfds: int, timeout: int, sigmask: int
) -> int:
    """pselect6(2): the last argument points to the mask's address and size."""
    ns = read_timespec(t, timeout)
    deadline = NO_DEADLINE if ns < 0 else deadline_after(ns)
    if sigmask:
        addr, size = SIGMASK_ARG.unpack(t.mm.read(sigmask, SIGMASK_ARG.size))
        set_mask(t, addr, size)
    count = do_select(t, nfds, readfds, writefds, exceptfds, deadline)
    write_left(t, timeout, deadline, False)
    if count == -E.EINTR:
        raise Restart(ERESTARTNOHAND)
    return count
