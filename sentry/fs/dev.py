"""Character devices in memory (null(4), full(4), random(4)) and the tree of /dev."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import random as RND
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs import tmpfs
from sentry.mm.objects import MemoryObject
from sentry.vfs import special
from sentry.vfs.file import MIRROR_NULL, MIRROR_ZERO, File
from sentry.vfs.special import makedev

if TYPE_CHECKING:
    from sentry.fs.tmpfs import TmpDir
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MEM_MAJOR: Final = 1
TTY_MAJOR: Final = 5
NULL: Final = 3
ZERO: Final = 5
FULL: Final = 7
RANDOM: Final = 8
URANDOM: Final = 9
ENTROPY_BITS: Final = 256  # what Linux since 5.18 always reports
MAPPED: Final = 1 << 46  # bytes of a mapped /dev/zero: more than any mapping

ZEROS: Final = bytes(1 << 20)


class MemDevice(File):
    """What these devices have in common: no position that matters, always ready."""

    def __init__(self, flags: int, path: Path, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.seekable = True

    def seek(self, t: Task, offset: int, whence: int) -> int:
        self.pos = 0
        return 0

    def size(self) -> int:
        return 0

    def mapping(self, t: Task) -> MemoryObject | None:
        return None


class NullFile(MemDevice):
    def __init__(self, flags: int, path: Path, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.mirror = MIRROR_NULL

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        return b""

    def write(self, t: Task, data: bytes, offset: int) -> int:
        return len(data)


class ZeroFile(MemDevice):
    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        return ZEROS if count == len(ZEROS) else bytes(count)

    def write(self, t: Task, data: bytes, offset: int) -> int:
        return len(data)

    def mapping(self, t: Task) -> MemoryObject | None:
        """Fresh zeros for each mapping: shared by the processes that inherit it, as with MAP_ANONYMOUS."""
        zeros = MemoryObject.memory()
        zeros.truncate(MAPPED)
        return zeros


class FullFile(ZeroFile):
    def write(self, t: Task, data: bytes, offset: int) -> int:
        raise Errno(E.ENOSPC)

    def mapping(self, t: Task) -> MemoryObject | None:
        return None


class RandomFile(MemDevice):
    """/dev/random and /dev/urandom: never short of randomness."""

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        return t.kernel.random.get(count)

    def write(self, t: Task, data: bytes, offset: int) -> int:
        return len(data)

    def poll(self) -> int:
        return P.POLLIN | P.POLLRDNORM | P.POLLOUT | P.POLLWRNORM

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == RND.RNDGETENTCNT:
            t.mm.write_u32(arg, ENTROPY_BITS)
            return 0
        raise Errno(E.EPERM if cmd in (RND.RNDADDTOENTCNT, RND.RNDADDENTROPY, RND.RNDCLEARPOOL) else E.ENOTTY)


def open_null(t: Task, path: Path, inode: Inode, flags: int) -> File:
    return NullFile(flags, path, inode)


def open_zero(t: Task, path: Path, inode: Inode, flags: int) -> File:
    file = ZeroFile(flags, path, inode)
    file.mirror = MIRROR_ZERO
    return file


def open_full(t: Task, path: Path, inode: Inode, flags: int) -> File:
    return FullFile(flags, path, inode)


def open_random(t: Task, path: Path, inode: Inode, flags: int) -> File:
    return RandomFile(flags, path, inode)


def register() -> None:
    """Makes all devices openable, wherever their nodes are; terminals and FIFOs included."""
    from sentry.fs import pipe
    from sentry.fs.tty.devices import register as register_terminals

    pipe.register()
    register_terminals()
    for minor, opener in (
        (NULL, open_null),
        (ZERO, open_zero),
        (FULL, open_full),
        (RANDOM, open_random),
        (URANDOM, open_random),
    ):
        special.DRIVERS.register_char(MEM_MAJOR, minor, opener)


NODES: Final = (
    (b"null", MEM_MAJOR, NULL, 0o666),
    (b"zero", MEM_MAJOR, ZERO, 0o666),
    (b"full", MEM_MAJOR, FULL, 0o666),
    (b"random", MEM_MAJOR, RANDOM, 0o666),
    (b"urandom", MEM_MAJOR, URANDOM, 0o666),
    (b"tty", TTY_MAJOR, 0, 0o666),
    (b"console", TTY_MAJOR, 1, 0o600),
)
LINKS: Final = (
    (b"ptmx", b"pts/ptmx"),
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)


def fill(root: TmpDir, console: bool) -> None:
    """Makes what is missing of the usual nodes and links; the console only for those who have one."""
    for name, major, minor, mode in NODES:
        if root.lookup(name) is None and (console or name != b"console"):
            root.mknod(name, S.S_IFCHR | mode, makedev(major, minor), 0, 0)
    for name, target in LINKS:
        if root.lookup(name) is None:
            root.symlink(name, target, 0, 0)


def new(dev: int) -> TmpDir:
    """The root of a new /dev: a small tmpfs with the usual nodes, links and (empty) mount points pts, shm and mqueue."""
    register()
    root = tmpfs.new(dev)
    fill(root, True)
    root.mkdir(b"pts", S.S_IFDIR | 0o755, 0, 0)
    root.mkdir(b"shm", S.S_IFDIR | 0o1777, 0, 0)
    root.mkdir(b"mqueue", S.S_IFDIR | 0o755, 0, 0)
    return root
