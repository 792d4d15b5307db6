"""flock(2) and the record locks of fcntl(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.kernel.wait import INTERRUPTED, TaskWaiter
from sentry.vfs.fdtable import FDTable
from sentry.vfs.file import File
from sentry.vfs.locks import MAX, InodeLocks

if TYPE_CHECKING:
    from sentry.kernel.task import Task

# struct flock: l_type, l_whence, l_start, l_len, l_pid
FLOCK: Final = struct.Struct("<hh4xqqi4x")


class Waiting:
    """Which POSIX lock owner waits for which: for EDEADLK."""

    def __init__(self) -> None:
        self.edges: dict[FDTable, object] = {}

    def cycle(self, waiter: FDTable, blocker: object) -> bool:
        at: object | None = blocker
        seen = 0
        while at is not None and seen < 1000:
            if at is waiter:
                return True
            at = self.edges.get(at) if isinstance(at, FDTable) else None
            seen += 1
        return False


WAITING: Final = Waiting()


def locks_of(file: File) -> InodeLocks:
    inode = file.inode
    if inode is None:
        raise Errno(E.EBADF)
    if inode.locks is None:
        inode.locks = InodeLocks()
    return inode.locks


def flock(t: Task, fd: int, operation: int) -> int:
    """flock(2)"""
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if operation & F.LOCK_MAND:
        return 0  # without effect since Linux 5.18
    kind = operation & ~F.LOCK_NB
    if kind not in (F.LOCK_SH, F.LOCK_EX, F.LOCK_UN):
        raise Errno(E.EINVAL)
    locks = locks_of(file)
    if kind == F.LOCK_UN:
        locks.funlock(file)
        return 0
    file.changed()
    exclusive = kind == F.LOCK_EX
    if locks.flock(file, exclusive):
        return 0
    # A conversion that has to wait, or fails, loses the old lock (flock(2)).
    locks.funlock(file)
    if operation & F.LOCK_NB:
        raise Errno(E.EAGAIN)
    waiter = TaskWaiter(t, P.POLLOUT)
    locks.waitq.add(waiter)
    try:
        while not locks.flock(file, exclusive):
            if t.block() == INTERRUPTED:
                raise Restart(ERESTARTSYS)
        return 0
    finally:
        locks.waitq.remove(waiter)


def extent(file: File, whence: int, start: int, length: int) -> tuple[int, int]:
    """First and last byte of a struct flock."""
    if whence == F.SEEK_CUR:
        start += file.pos
    elif whence == F.SEEK_END:
        start += file.size()
    elif whence != F.SEEK_SET:
        raise Errno(E.EINVAL)
    end = MAX
    if length > 0:
        end = start + length - 1
    elif length < 0:
        end = start - 1
        start += length
    if start < 0:
        raise Errno(E.EINVAL)
    if start > MAX or end > MAX:
        raise Errno(E.EOVERFLOW)
    return start, end


def get(t: Task, file: File, ofd: bool, arg: int) -> int:
    """F_GETLK, F_OFD_GETLK: which lock stands against this one."""
    kind, whence, rel, length, pid = FLOCK.unpack(t.mm.read(arg, FLOCK.size))
    if kind not in (F.F_RDLCK, F.F_WRLCK) or (ofd and pid != 0):
        raise Errno(E.EINVAL)
    start, end = extent(file, whence, rel, length)
    owner: object = file if ofd else t.fds
    other = locks_of(file).conflict(owner, kind == F.F_WRLCK, start, end)
    if other is None:
        t.mm.write(arg, F.F_UNLCK.to_bytes(2, "little"))
    else:
        size = 0 if other.end == MAX else other.end - other.start + 1
        found = F.F_WRLCK if other.exclusive else F.F_RDLCK
        t.mm.write(arg, FLOCK.pack(found, F.SEEK_SET, other.start, size, other.pid))
    return 0


def set(t: Task, fd: int, file: File, ofd: bool, wait: bool, arg: int) -> int:
    """F_SETLK, F_SETLKW and their OFD forms."""
    kind, whence, rel, length, pid = FLOCK.unpack(t.mm.read(arg, FLOCK.size))
    if kind not in (F.F_RDLCK, F.F_WRLCK, F.F_UNLCK) or (ofd and pid != 0):
        raise Errno(E.EINVAL)
    start, end = extent(file, whence, rel, length)
    if (kind == F.F_RDLCK and not file.readable) or (kind == F.F_WRLCK and not file.writable):
        raise Errno(E.EBADF)
    locks = locks_of(file)
    table = t.fds
    owner: object = file if ofd else table
    if kind == F.F_UNLCK:
        locks.unlock(owner, start, end)
        return 0
    if not ofd:
        table.lock()
    else:
        file.changed()
    exclusive = kind == F.F_WRLCK
    number = -1 if ofd else t.tg.pid
    if locks.lock(owner, number, exclusive, start, end):
        return 0
    if not wait:
        raise Errno(E.EAGAIN)
    waiter = TaskWaiter(t, P.POLLOUT)
    locks.waitq.add(waiter)
    try:
        while not locks.lock(owner, number, exclusive, start, end):
            blocker = locks.conflict(owner, exclusive, start, end)
            if not ofd and blocker is not None:
                if WAITING.cycle(table, blocker.owner):
                    raise Errno(E.EDEADLK)
                WAITING.edges[table] = blocker.owner
            if t.block() == INTERRUPTED:
                raise Restart(ERESTARTSYS)
    finally:
        WAITING.edges.pop(table, None)
        locks.waitq.remove(waiter)
    if not ofd and table.find(fd) is not file:
        # Another thread closed the descriptor meanwhile: its locks ended then, and this one with them.
        locks.owner_gone(table)
        raise Errno(E.EBADF)
    return 0
