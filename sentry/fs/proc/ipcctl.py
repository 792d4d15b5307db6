"""/proc/sys/kernel and /proc/sys/fs/mqueue: limits of the reader's IPC namespace, which root changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.kernel.ipc import limits as L

if TYPE_CHECKING:
    from sentry.kernel.task import Task

INT_MAX: Final = 0x7FFFFFFF
ANY: Final = (1 << 64) - 1


class Numbers:
    """A file of `count` limits that lie together, each within its range."""

    def __init__(self, first: int, *ranges: tuple[int, int]) -> None:
        self.first: int = first
        self.ranges: tuple[tuple[int, int], ...] = ranges

    def get(self, t: Task) -> bytes:
        values = t.container.ipc.limits.values
        return b"\t".join(b"%d" % v for v in values[self.first : self.first + len(self.ranges)]) + b"\n"

    def put(self, t: Task, data: bytes) -> None:
        """Numbers for the first so many of them. EINVAL."""
        words = data.split()
        if not 1 <= len(words) <= len(self.ranges):
            raise Errno(E.EINVAL)
        new: list[int] = []
        for word, (least, most) in zip(words, self.ranges, strict=False):
            if not word.isdigit() or not least <= int(word) <= most:
                raise Errno(E.EINVAL)
            new.append(int(word))
        values = t.container.ipc.limits.values
        values[self.first : self.first + len(new)] = new


OBJECTS: Final = (0, L.IPCMNI)
INT: Final = (0, INT_MAX)
SETTINGS: Final[tuple[tuple[bytes, Numbers], ...]] = (
    (b"kernel/shmmax", Numbers(L.SHMMAX, (0, ANY))),
    (b"kernel/shmall", Numbers(L.SHMALL, (0, ANY))),
    (b"kernel/shmmni", Numbers(L.SHMMNI, OBJECTS)),
    (b"kernel/msgmax", Numbers(L.MSGMAX, INT)),
    (b"kernel/msgmnb", Numbers(L.MSGMNB, INT)),
    (b"kernel/msgmni", Numbers(L.MSGMNI, OBJECTS)),
    (b"kernel/sem", Numbers(L.SEMMSL, INT, INT, INT, OBJECTS)),
    (b"fs/mqueue/queues_max", Numbers(L.QUEUES_MAX, INT)),
    (b"fs/mqueue/msg_max", Numbers(L.MSG_MAX, (1, 65536))),
    (b"fs/mqueue/msgsize_max", Numbers(L.MSGSIZE_MAX, (128, 16 << 20))),
    (b"fs/mqueue/msg_default", Numbers(L.MSG_DEFAULT, (1, 65536))),
    (b"fs/mqueue/msgsize_default", Numbers(L.MSGSIZE_DEFAULT, (128, 16 << 20))),
)
