"""Pid file descriptors (pidfd_open(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.vfs.attr import Attr
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup


class PidFile(File):
    """Refers to one process for ever, even when its number is used again. Readable when the process has ended."""

    def __init__(self, tg: ThreadGroup, flags: int = 0) -> None:
        super().__init__(F.O_RDWR | flags, None, None)
        self.tg: ThreadGroup = tg
        self.waitq = tg.exit_queue

    @property
    def spliceable(self) -> bool:
        return False

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        raise Errno(E.EINVAL)

    def poll(self) -> int:
        return P.POLLIN | P.POLLRDNORM if self.tg.dead else 0

    def getattr(self) -> Attr:
        return Attr(self.tg.pid, 0o600)

    def describe(self) -> bytes:
        return b"anon_inode:[pidfd]"

    def fdinfo(self) -> bytes:
        pid = -1 if self.tg.reaped else self.tg.pid
        return b"Pid:\t%d\nNSpid:\t%d\n" % (pid, pid)
