"""devpts: the directory of pseudo terminals (pts(4))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import stat as S
from sentry.abi import statfs as SF
from sentry.errors import Errno
from sentry.fs.generated import DynamicDir, GenNode, GenSuper
from sentry.fs.tty.pty import Pty, PtyMaster
from sentry.vfs import clock
from sentry.vfs.attr import (
    Attr,
    DirEntry,
    SetAttr,
)
from sentry.vfs.special import makedev

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MAX_PTYS: Final = 4096  # /proc/sys/kernel/pty/max
PTMX_INO: Final = 2
FIRST_INO: Final = 3
TTY_AUX_MAJOR: Final = 5
PTMX_MINOR: Final = 2


class DevptsSuper(GenSuper):
    """One instance: its own numbers. gid -1: the group of who opens a terminal."""

    def __init__(self, kernel: Kernel, dev: int, gid: int, mode: int, ptmx_mode: int) -> None:
        super().__init__(b"devpts", dev, SF.DEVPTS_SUPER_MAGIC)
        self.kernel: Kernel = kernel
        self.gid: int = gid
        self.mode: int = mode
        self.nodes: dict[int, PtsNode] = {}
        owner = b"gid=%d," % gid if gid >= 0 else b""
        self.options = owner + b"mode=%o,ptmxmode=%03o" % (mode, ptmx_mode)

    def remove(self, index: int) -> None:
        self.nodes.pop(index, None)

    def new_pty(self, uid: int, gid: int) -> Pty:
        """A new pair for a user with the lowest free number; ENOSPC."""
        index = 0
        while index in self.nodes:
            index += 1
        if index >= MAX_PTYS:
            raise Errno(E.ENOSPC)
        node = PtsNode(self, index, uid, self.gid if self.gid >= 0 else gid)
        self.nodes[index] = node
        return node.pty


class DeviceNode(GenNode):
    """A node with attributes that users may change."""

    def __init__(self, sb: DevptsSuper, mode: int, ino: int, rdev: int, uid: int, gid: int) -> None:
        super().__init__(sb, S.S_IFCHR | mode, ino)
        attr = Attr(ino, self.mode, uid, gid)
        attr.dev = sb.dev
        attr.rdev = rdev
        attr.blksize = 1024
        attr.atime = attr.mtime = attr.ctime = clock.now()
        self.attr: Attr = attr

    def getattr(self) -> Attr:
        return self.attr

    def setattr(self, change: SetAttr) -> None:
        self.apply(self.attr, change)

    def touch(self, atime: bool, mtime: bool) -> None:
        if mtime:
            self.attr.mtime = clock.now()
        elif atime:
            self.attr.atime = clock.now()


class PtsNode(DeviceNode):
    """A terminal's node."""

    def __init__(self, sb: DevptsSuper, index: int, uid: int, gid: int) -> None:
        super().__init__(sb, sb.mode, FIRST_INO + index, 0, uid, gid)
        self.devpts: DevptsSuper = sb
        self.pty: Pty = Pty(sb.kernel, index, self)
        self.attr.rdev = self.pty.rdev


class PtmxNode(DeviceNode):
    """Opening it makes a new terminal."""

    def __init__(self, sb: DevptsSuper, mode: int) -> None:
        super().__init__(sb, mode, PTMX_INO, makedev(TTY_AUX_MAJOR, PTMX_MINOR), 0, 0)
        self.devpts: DevptsSuper = sb


class PtsDir(DynamicDir):
    """The root of a devpts."""

    def __init__(self, sb: DevptsSuper, ptmx_mode: int) -> None:
        super().__init__(sb, 0o755)
        self.pts: DevptsSuper = sb
        self.add(b"ptmx", PtmxNode(sb, ptmx_mode))

    def find(self, name: bytes) -> GenNode | None:
        if not name.isdigit() or len(name) > 5 or (name[0] == 48 and len(name) > 1):
            return None
        return self.pts.nodes.get(int(name))

    def entries(self) -> list[DirEntry]:
        return [DirEntry(b"%d" % i, node.ino, S.S_IFCHR >> 12) for i, node in sorted(self.pts.nodes.items())]

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        return child is not None and (self.children.get(name) is child or self.find(name) is child)


def new(kernel: Kernel, dev: int, gid: int = 5, mode: int = 0o620, ptmx_mode: int = 0o666) -> PtsDir:
    """The root of a new devpts (its super block is root.sb)."""
    return PtsDir(DevptsSuper(kernel, dev, gid, mode, ptmx_mode), ptmx_mode)


def open_ptmx(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """A new master; only through a devpts' own ptmx, so that it is known which one is meant."""
    if not isinstance(inode, PtmxNode):
        raise Errno(E.ENODEV)
    return PtyMaster(inode.devpts.new_pty(t.creds.fsuid, t.creds.fsgid), flags, path, inode)


def open_pts(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """A terminal by its node in devpts; a copy of the node elsewhere leads nowhere (EIO), as in Linux."""
    if not isinstance(inode, PtsNode):
        raise Errno(E.EIO)
    return inode.pty.open_file(t, path, inode, flags)
