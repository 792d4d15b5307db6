"""Inodes without names: pipes, sockets, eventfds and their like (fstat(2), /proc/PID/fd)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import fcntl as F
from sentry.abi import statfs as SF
from sentry.kernel.creds import Creds
from sentry.vfs import clock
from sentry.vfs.attr import Attr, SetAttr
from sentry.vfs.file import File
from sentry.vfs.inode import Inode, SuperBlock
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.task import Task


class AnonSuper(SuperBlock):
    """Where inodes of one kind without names are numbered; never mounted."""

    def __init__(self, fstype: bytes, dev: int, magic: int) -> None:
        super().__init__(fstype, dev)
        self.magic: int = magic
        self.last_ino: int = 1

    def take_ino(self) -> int:
        self.last_ino += 1
        return self.last_ino

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        return (self.magic, 4096, 0, 0, 0, 0, 0, F.NAME_MAX)


SOCKFS: Final = AnonSuper(b"sockfs", anon_dev(), SF.SOCKFS_MAGIC)
PIPEFS: Final = AnonSuper(b"pipefs", anon_dev(), SF.PIPEFS_MAGIC)
ANON_INODEFS: Final = AnonSuper(b"anon_inodefs", anon_dev(), SF.ANON_INODE_FS_MAGIC)


class AnonInode(Inode):
    """An inode with attributes in memory and no name; owned by whoever made it."""

    def __init__(self, sb: AnonSuper, mode: int, creds: Creds) -> None:
        super().__init__(sb, mode)
        attr = Attr(sb.take_ino(), mode, creds.fsuid, creds.fsgid)
        attr.dev = sb.dev
        attr.atime = attr.mtime = attr.ctime = clock.now()
        self.attr: Attr = attr

    def getattr(self) -> Attr:
        return self.attr

    def setattr(self, change: SetAttr) -> None:
        self.apply(self.attr, change)


class SharedInode(AnonInode):
    """The one inode of all anonymous files of Linux's anon_inodefs (eventfd, timerfd...): mode 0600 without a type."""


class AnonFile(File):
    """An open anonymous file; lseek(2) does nothing there instead of failing."""

    def __init__(self, flags: int) -> None:
        super().__init__(F.O_RDWR | flags, None, shared_inode())

    @property
    def spliceable(self) -> bool:
        return False

    def seek(self, t: Task, offset: int, whence: int) -> int:
        return 0


def shared_inode() -> AnonInode:
    return SHARED


SHARED: Final = SharedInode(ANON_INODEFS, 0o600, Creds(0, 0, []))
