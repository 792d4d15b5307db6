"""epoll(7): an interest list, and a ready list that wait queues feed.

Every registration (EpollItem) waits on its file's queue; an event puts it on the ready list. epoll_wait takes items from there and asks
each file what is ready now: level-triggered ones stay listed as long as something is.
"""

from __future__ import annotations

from typing import Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.fs.anon import shared_inode
from sentry.kernel.wait import Waiter
from sentry.vfs.file import File

MAX_NESTING: Final = 5
# Bits of an interest that are modes, not events.
MODES: Final = P.EPOLLET | P.EPOLLONESHOT | P.EPOLLEXCLUSIVE | P.EPOLLWAKEUP
ALWAYS: Final = P.EPOLLERR | P.EPOLLHUP


class EpollItem(Waiter):
    """One registration of an open file description with an epoll instance."""

    def __init__(self, instance: Epoll, fd: int, file: File, events: int, data: int) -> None:
        super().__init__(0)
        self.instance: Epoll = instance
        self.fd: int = fd
        self.file: File = file
        self.events: int = 0
        self.data: int = data
        self.listed: bool = False  # on the ready list
        self.set_events(events)

    def set_events(self, events: int) -> None:
        self.events = events | ALWAYS
        self.mask = self.events & ~MODES
        self.exclusive = bool(events & P.EPOLLEXCLUSIVE)

    def takes(self) -> bool:
        return bool(self.instance.waitq.waiters)

    def wake(self, events: int) -> None:
        self.instance.item_ready(self)

    def file_gone(self) -> None:
        """The description's last reference is gone."""
        self.instance.drop(self)


class Epoll(File):
    """An epoll instance."""

    def __init__(self) -> None:
        super().__init__(F.O_RDWR, None, shared_inode())
        self.items: dict[tuple[int, int], EpollItem] = {}  # (fd, id of the description)
        self.ready: list[EpollItem] = []

    @property
    def spliceable(self) -> bool:
        return False

    def describe(self) -> bytes:
        return b"anon_inode:[eventpoll]"

    def fdinfo(self) -> bytes:
        lines = [
            b"tfd: %8d events: %8x data: %16x pos:%d ino:%x sdev:0\n"
            % (i.fd, i.events, i.data, i.file.pos, 0)
            for i in self.items.values()
        ]
        return b"".join(lines)

    # The interest list

    def add(self, fd: int, file: File, events: int, data: int) -> None:
        key = (fd, id(file))
        if key in self.items:
            raise Errno(E.EEXIST)
        if isinstance(file, Epoll):
            if events & P.EPOLLEXCLUSIVE:
                raise Errno(E.EINVAL)
            if file.reaches(self, 0) or file.depth(0) + self.height(0) >= MAX_NESTING:
                raise Errno(E.ELOOP)
        item = EpollItem(self, fd, file, events, data)
        self.items[key] = item
        if file.epitems is None:
            file.epitems = []
        file.epitems.append(item)
        file.waitq.add(item)
        self.check(item)

    def modify(self, fd: int, file: File, events: int, data: int) -> None:
        item = self.items.get((fd, id(file)))
        if item is None:
            raise Errno(E.ENOENT)
        if events & P.EPOLLEXCLUSIVE or item.events & P.EPOLLEXCLUSIVE:
            raise Errno(E.EINVAL)
        item.data = data
        item.set_events(events)
        # Queues that watch host descriptors look at masks when a waiter is added.
        file.waitq.remove(item)
        file.waitq.add(item)
        self.check(item)

    def delete(self, fd: int, file: File) -> None:
        item = self.items.get((fd, id(file)))
        if item is None:
            raise Errno(E.ENOENT)
        if file.epitems is not None and item in file.epitems:
            file.epitems.remove(item)
        self.drop(item)

    def drop(self, item: EpollItem) -> None:
        """Forgets a registration; the file's own list is the caller's business."""
        item.file.waitq.remove(item)
        self.items.pop((item.fd, id(item.file)), None)
        if item.listed:
            item.listed = False
            self.ready.remove(item)

    def registered(self, fd: int, nth: int) -> File:
        """What was registered by this number; the nth of several, as others may have had the number since. ENOENT."""
        files = [i.file for i in self.items.values() if i.fd == fd]
        if nth >= len(files):
            raise Errno(E.ENOENT)
        return files[nth]

    def reaches(self, other: Epoll, depth: int) -> bool:
        """Is `other` this instance or registered somewhere below it?"""
        if self is other:
            return True
        if depth > MAX_NESTING:
            return True
        return any(
            isinstance(i.file, Epoll) and i.file.reaches(other, depth + 1) for i in self.items.values()
        )

    def depth(self, level: int) -> int:
        """Instances nested below this one, itself included."""
        deepest = 0
        if level <= MAX_NESTING:
            for i in self.items.values():
                if isinstance(i.file, Epoll):
                    deepest = max(deepest, i.file.depth(level + 1))
        return deepest + 1

    def height(self, level: int) -> int:
        """Instances that this one is nested in."""
        highest = 0
        if level <= MAX_NESTING and self.epitems is not None:
            for i in self.epitems:
                highest = max(highest, i.instance.height(level + 1) + 1)
        return highest

    # Readiness

    def check(self, item: EpollItem) -> None:
        """Lists an item whose file is ready now."""
        if item.file.poll() & item.mask:
            self.item_ready(item)

    def item_ready(self, item: EpollItem) -> None:
        if not item.listed:
            item.listed = True
            self.ready.append(item)
        self.waitq.notify(P.POLLIN | P.POLLRDNORM)

    def poll(self) -> int:
        for item in self.ready:
            if item.file.poll() & item.mask:
                return P.POLLIN | P.POLLRDNORM
        return 0

    def collect(self, most: int) -> list[tuple[int, int]]:
        """Up to `most` (events, data) that are ready now, in the order in which they became so."""
        out: list[tuple[int, int]] = []
        items = self.ready
        if not items:
            return out
        self.ready = []
        again: list[EpollItem] = []
        for n, item in enumerate(items):
            if len(out) == most:
                self.ready = items[n:] + self.ready
                break
            item.listed = False
            events = item.file.poll() & item.mask
            if not events:
                continue
            out.append((events, item.data))
            if item.events & P.EPOLLONESHOT:
                item.events &= MODES
                item.mask = 0
            elif not item.events & P.EPOLLET:
                item.listed = True
                again.append(item)
        self.ready.extend(again)
        return out

    def release(self) -> None:
        for item in list(self.items.values()):
            if item.file.epitems is not None and item in item.file.epitems:
                item.file.epitems.remove(item)
            self.drop(item)
