"""Advisory locks of an inode: flock(2), POSIX record locks and open-file-description locks (fcntl(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import poll as P
from sentry.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from sentry.vfs.file import File

MAX: Final = 0x7FFFFFFFFFFFFFFF  # a lock up to here reaches the end of the file, however large it grows


class Range:
    """A held record lock: bytes start..end, `end` included."""

    def __init__(self, owner: object, pid: int, exclusive: bool, start: int, end: int) -> None:
        self.owner: object = owner  # FDTable for POSIX locks, File for OFD ones
        self.pid: int = pid  # shown by F_GETLK; -1 for OFD locks
        self.exclusive: bool = exclusive
        self.start: int = start
        self.end: int = end


class InodeLocks:
    """Everything locked on one inode. Waiters sleep on `waitq` (POLLOUT) and try again when anything was released."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []  # sorted by start; those of one owner never overlap
        self.flocks: dict[File, bool] = {}  # description -> exclusive
        self.waitq: WaitQueue = WaitQueue()

    # flock

    def flock(self, file: File, exclusive: bool) -> bool:
        """Takes or converts the lock of an open file description; False when another's stands against it."""
        for other, other_exclusive in self.flocks.items():
            if other is not file and (exclusive or other_exclusive):
                return False
        self.flocks[file] = exclusive
        self.waitq.notify(P.POLLOUT)
        return True

    def funlock(self, file: File) -> None:
        if self.flocks.pop(file, None) is not None:
            self.waitq.notify(P.POLLOUT)

    # Record locks

    def conflict(self, owner: object, exclusive: bool, start: int, end: int) -> Range | None:
        """The first lock of another owner that stands against this one."""
        for r in self.ranges:
            if r.start > end:
                break
            if r.end >= start and r.owner is not owner and (exclusive or r.exclusive):
                return r
        return None

    def lock(self, owner: object, pid: int, exclusive: bool, start: int, end: int) -> bool:
        """Takes bytes start..end, replacing what the owner held there; False when another's lock stands against it."""
        if self.conflict(owner, exclusive, start, end) is not None:
            return False
        self.cut(owner, start, end)
        new = Range(owner, pid, exclusive, start, end)
        # Join with equal neighbours of the same owner.
        rest: list[Range] = []
        for r in self.ranges:
            if (
                r.owner is owner
                and r.exclusive == exclusive
                and r.end + 1 >= new.start
                and new.end + 1 >= r.start
            ):
                new.start = min(new.start, r.start)
                new.end = max(new.end, r.end)
            else:
                rest.append(r)
        rest.append(new)
        rest.sort(key=start_of)
        self.ranges = rest
        self.waitq.notify(P.POLLOUT)  # a write lock may have become a read lock
        return True

    def unlock(self, owner: object, start: int, end: int) -> None:
        if self.cut(owner, start, end):
            self.waitq.notify(P.POLLOUT)

    def cut(self, owner: object, start: int, end: int) -> bool:
        """Removes the owner's claim to bytes start..end, splitting locks that reach beyond. Was there any?"""
        rest: list[Range] = []
        found = False
        for r in self.ranges:
            if r.owner is not owner or r.end < start or r.start > end:
                rest.append(r)
                continue
            found = True
            if r.start < start:
                rest.append(Range(owner, r.pid, r.exclusive, r.start, start - 1))
            if r.end > end:
                rest.append(Range(owner, r.pid, r.exclusive, end + 1, r.end))
        if found:
            rest.sort(key=start_of)
            self.ranges = rest
        return found

    # Ends

    def owner_gone(self, owner: object) -> None:
        """A process closed some descriptor of this inode: all its POSIX locks here end (fcntl(2), "Record locks")."""
        self.unlock(owner, 0, MAX)

    def file_gone(self, file: File) -> None:
        """The last reference to an open file description is gone: its flock and OFD locks end."""
        self.funlock(file)
        self.unlock(file, 0, MAX)


def start_of(r: Range) -> int:
    return r.start
