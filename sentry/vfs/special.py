"""Opening FIFOs and device nodes: who drives which device number.

sentry/fs/pipe.py sets `fifo`, sentry/fs/dev.py and the terminal layer register drivers, when the kernel starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import stat as S
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

    # opener(task, path, inode, flags): a new File; may block (a FIFO waits for its other end) and raise Restart or Errno.
    Opener = Callable[[Task, Path, Inode, int], File]


class Drivers:
    """Openers of character devices: by exact number, else by major number."""

    def __init__(self) -> None:
        self.fifo: Opener | None = None
        self.chars: dict[int, Opener] = {}  # rdev -> opener
        self.majors: dict[int, Opener] = {}  # major -> opener

    def register_char(self, major: int, minor: int, opener: Opener) -> None:
        self.chars[makedev(major, minor)] = opener

    def register_major(self, major: int, opener: Opener) -> None:
        self.majors[major] = opener


DRIVERS: Final = Drivers()


def makedev(major: int, minor: int) -> int:
    """A device number in the layout of stat(2)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def major(dev: int) -> int:
    return (dev >> 8 & 0xFFF) | (dev >> 32 & ~0xFFF)


def minor(dev: int) -> int:
    return (dev & 0xFF) | (dev >> 12 & ~0xFF)


class AnonDevs:
    """Device numbers of file systems without a device: major 0."""

    def __init__(self) -> None:
        self.last: int = 19


ANON_DEVS: Final = AnonDevs()


def anon_dev() -> int:
    """A device number for a new super block."""
    ANON_DEVS.last += 1
    return makedev(0, ANON_DEVS.last)


def open_special(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """Opens a FIFO, device or socket node. ENXIO when nothing stands behind it."""
    known = inode.open_node(t, path, flags)
    if known is not None:
        return known
    kind = inode.mode & S.S_IFMT
    opener: Opener | None = None
    if kind == S.S_IFIFO:
        opener = DRIVERS.fifo
    elif kind == S.S_IFCHR:
        rdev = inode.getattr().rdev
        opener = DRIVERS.chars.get(rdev)
        if opener is None:
            opener = DRIVERS.majors.get(major(rdev))
    if opener is None:
        raise Errno(E.ENXIO)
    return opener(t, path, inode, flags)
