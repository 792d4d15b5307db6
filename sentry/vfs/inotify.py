"""inotify(7) instances: watches by number, and a queue of events to read."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import inotify as I
from sentry.abi import ioctl as IOC
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.fs.anon import shared_inode
from sentry.vfs import notify
from sentry.vfs.file import File, settle
from sentry.vfs.notify import EventQueue, Watch

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

HEADER: Final = struct.Struct("<iIII")  # struct inotify_event: wd, mask, cookie, len; then the name
MAX_EVENTS: Final = 16384  # /proc/sys/fs/inotify/max_queued_events
MAX_WATCHES: Final = 65536  # /proc/sys/fs/inotify/max_user_watches, here of one instance
KEEP: Final = I.IN_ALL_EVENTS | I.IN_EXCL_UNLINK | I.IN_ONESHOT


class Events(EventQueue):
    """The queue and the watches that feed it."""

    def __init__(self, file: Inotify) -> None:
        self.file: Inotify = file
        self.queue: list[bytes] = []
        self.size: int = 0  # bytes queued
        self.watches: dict[int, Watch] = {}
        self.last_wd: int = 0

    def push(self, data: bytes) -> None:
        self.queue.append(data)
        self.size += len(data)
        self.file.waitq.notify(P.POLLIN | P.POLLRDNORM)

    def event(self, watch: Watch, mask: int, cookie: int, name: bytes) -> None:
        if name:
            name += bytes(16 - len(name) % 16)  # at least one NUL, padded to the header's size
        data = HEADER.pack(watch.wd, mask & 0xFFFFFFFF, cookie, len(name)) + name
        if len(self.queue) >= MAX_EVENTS:
            overflow = HEADER.pack(-1, I.IN_Q_OVERFLOW, 0, 0)
            if self.queue[-1] != overflow:
                self.push(overflow)
        elif not self.queue or self.queue[-1] != data or cookie:
            self.push(data)  # an event equal to the last one is told once
        if mask & I.IN_IGNORED:
            self.watches.pop(watch.wd, None)
        elif watch.mask & I.IN_ONESHOT:
            self.end(watch)

    def end(self, watch: Watch) -> None:
        """A watch ends: its last event is IN_IGNORED."""
        notify.detach(watch)
        watch.mask = 0
        self.event(watch, I.IN_IGNORED, 0, b"")

    def add(self, inode: Inode, mask: int) -> int:
        """A new watch, or the change of one on the same inode; its number."""
        for watch in inode.watches or []:
            if watch.queue is self:
                if mask & I.IN_MASK_CREATE:
                    raise Errno(E.EEXIST)
                watch.mask = watch.mask | mask & KEEP if mask & I.IN_MASK_ADD else mask & KEEP
                return watch.wd
        if len(self.watches) >= MAX_WATCHES:
            raise Errno(E.ENOSPC)
        self.last_wd += 1
        watch = Watch(self, self.last_wd, inode, mask & KEEP)
        self.watches[watch.wd] = watch
        settle()
        notify.attach(watch)
        return watch.wd

    def remove(self, wd: int) -> None:
        watch = self.watches.get(wd)
        if watch is None:
            raise Errno(E.EINVAL)
        self.end(watch)

    def close(self) -> None:
        for watch in self.watches.values():
            notify.detach(watch)
        self.watches = {}


class Inotify(File):
    """The file of an instance."""

    def __init__(self, flags: int) -> None:
        super().__init__(flags, None, shared_inode())
        self.events: Events = Events(self)

    @property
    def spliceable(self) -> bool:
        return False

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        events = self.events
        queue = events.queue
        if not queue:
            return None
        n = 0
        size = 0
        while n < len(queue) and size + len(queue[n]) <= count:
            size += len(queue[n])
            n += 1
        if n == 0:
            raise Errno(E.EINVAL)
        data = b"".join(queue[:n])
        del queue[:n]
        events.size -= size
        return data

    def poll(self) -> int:
        return P.POLLIN | P.POLLRDNORM if self.events.queue else 0

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == IOC.FIONREAD:
            t.mm.write_u32(arg, self.events.size)
            return 0
        raise Errno(E.ENOTTY)

    def release(self) -> None:
        self.events.close()

    def describe(self) -> bytes:
        return b"anon_inode:inotify"

    def fdinfo(self) -> bytes:
        lines = []
        for watch in self.events.watches.values():
            attr = watch.inode.getattr()
            lines.append(
                b"inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0\n"
                % (watch.wd, attr.ino, attr.dev, watch.mask)
            )
        return b"".join(lines)
