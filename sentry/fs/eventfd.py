"""eventfd(2): a counter that wakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.fs.anon import AnonFile
from sentry.vfs.file import WOULD_BLOCK

if TYPE_CHECKING:
    from sentry.kernel.task import Task

SIZE: Final = 8
LIMIT: Final = 0xFFFFFFFFFFFFFFFF  # the counter stays below
READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM


class EventFile(AnonFile):
    def __init__(self, value: int, semaphore: bool, flags: int) -> None:
        super().__init__(flags)
        self.value: int = value
        self.semaphore: bool = semaphore
        self.records = True

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if count < SIZE:
            raise Errno(E.EINVAL)
        if self.value == 0:
            return None
        got = 1 if self.semaphore else self.value
        self.value -= got
        self.waitq.notify(WRITABLE)
        return got.to_bytes(SIZE, "little")

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if len(data) < SIZE:
            raise Errno(E.EINVAL)
        add = int.from_bytes(data[:SIZE], "little")
        if add == LIMIT:
            raise Errno(E.EINVAL)
        if self.value + add >= LIMIT:
            return WOULD_BLOCK
        self.value += add
        self.waitq.notify(READABLE)
        return SIZE

    def poll(self) -> int:
        events = READABLE if self.value else 0
        if self.value < LIMIT - 1:
            events |= WRITABLE
        return events

    def describe(self) -> bytes:
        return b"anon_inode:[eventfd]"

    def fdinfo(self) -> bytes:
        return b"eventfd-count: %16x\neventfd-semaphore: %d\n" % (self.value, int(self.semaphore))
