"""File systems that are made up on the spot: directories, files and links computed from kernel objects (proc, sys).

    sb = GenSuper(b"proc", dev, SF.PROC_SUPER_MAGIC)
    root = GenDir(sb)
    root.add(b"version", GenFile(sb, 0o444, version_text))

A node is made once and holds no data: a file's text is computed when it is read from its start. Directories whose entries come and
go derive from `DynamicDir`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import clock
from sentry.vfs.attr import SET_GID, SET_MODE, SET_UID, Attr, DirEntry, SetAttr
from sentry.vfs.file import DirFile, File
from sentry.vfs.inode import Inode, SuperBlock

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

    Reader = Callable[[Task], bytes]  # text of a file for the task that reads it; may raise Errno
    Writer = Callable[[Task, bytes], None]  # stores what a task wrote in one call; may raise Errno


class GenSuper(SuperBlock):
    """A file system of generated nodes. Names are cached, and looked at again at each use by their directory."""

    def __init__(self, fstype: bytes, dev: int, magic: int) -> None:
        super().__init__(fstype, dev)
        self.source = fstype
        self.magic: int = magic
        self.revalidate = True
        self.born: int = clock.now()
        self.last_ino: int = 0

    def take_ino(self) -> int:
        self.last_ino += 1
        return self.last_ino

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        return (self.magic, 4096, 0, 0, 0, 0, 0, F.NAME_MAX)


class GenNode(Inode):
    """Anything generated. ino 0: the next free number."""

    def __init__(self, sb: GenSuper, mode: int, ino: int = 0) -> None:
        super().__init__(sb, mode)
        self.fs: GenSuper = sb
        self.ino: int = ino if ino else sb.take_ino()

    def owner(self) -> tuple[int, int]:
        """(uid, gid) now."""
        return (0, 0)

    def getattr(self) -> Attr:
        uid, gid = self.owner()
        attr = Attr(self.ino, self.mode, uid, gid)
        attr.dev = self.fs.dev
        attr.blksize = 1024 if self.mode & S.S_IFMT != S.S_IFREG else 4096
        attr.atime = attr.mtime = attr.ctime = self.fs.born
        return attr

    def setattr(self, change: SetAttr) -> None:
        """Truncation (open with O_TRUNC) and times have no effect, as in Linux's proc; mode and owner stay."""
        if change.valid & (SET_MODE | SET_UID | SET_GID):
            raise Errno(E.EPERM)

    # Nothing can be made, removed or renamed by users.

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise Errno(E.EACCES)


class GenDir(GenNode):
    """A directory with entries that stay once they were added."""

    def __init__(self, sb: GenSuper, mode: int = 0o555, ino: int = 0) -> None:
        super().__init__(sb, S.S_IFDIR | mode, ino)
        self.children: dict[bytes, GenNode] = {}

    def add(self, name: bytes, node: GenNode) -> None:
        self.children[name] = node

    def dir(self, name: bytes) -> GenDir:
        """The static directory of that name, made if there is none."""
        node = self.children.get(name)
        if node is None:
            node = GenDir(self.fs)
            self.children[name] = node
        assert isinstance(node, GenDir)
        return node

    def lookup(self, name: bytes) -> Inode | None:
        return self.children.get(name)

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        return self.children.get(name) is child

    def readdir(self) -> list[DirEntry]:
        return [DirEntry(name, node.ino, node.mode >> 12) for name, node in self.children.items()]

    def getattr(self) -> Attr:
        attr = super().getattr()
        attr.nlink = 2 + sum(1 for node in self.children.values() if node.mode & S.S_IFMT == S.S_IFDIR)
        return attr

    def open(self, t: Task, path: Path, flags: int) -> File:
        return DirFile(flags, path, self)


class DynamicDir(GenDir):
    """A directory whose entries change: `find` and `entries` are computed at each use; static children come first."""

    def find(self, name: bytes) -> GenNode | None:
        raise NotImplementedError

    def entries(self) -> list[DirEntry]:
        raise NotImplementedError

    def lookup(self, name: bytes) -> Inode | None:
        node = self.children.get(name)
        return node if node is not None else self.find(name)

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        """Asked about the dynamic entries by default: look again."""
        return child is not None and self.children.get(name) is child

    def readdir(self) -> list[DirEntry]:
        return super().readdir() + self.entries()


class GenFile(GenNode):
    """A file from functions: read(task) gives the whole text, write(task, data) takes what one write(2) brings."""

    def __init__(self, sb: GenSuper, mode: int, read: Reader | None, write: Writer | None = None, ino: int = 0) -> None:
        super().__init__(sb, S.S_IFREG | mode, ino)
        self.reader: Reader | None = read
        self.writer: Writer | None = write

    def text(self, t: Task) -> bytes:
        """The content for this reader; subclasses may override it instead of giving a function."""
        if self.reader is None:
            raise Errno(E.EINVAL)
        return self.reader(t)

    def store(self, t: Task, data: bytes) -> None:
        if self.writer is None:
            raise Errno(E.EINVAL)
        self.writer(t, data)

    def check_open(self, t: Task, flags: int) -> None:
        """Raises Errno when this task may not open the file although its mode lets it."""

    def open(self, t: Task, path: Path, flags: int) -> File:
        self.check_open(t, flags)
        return GenOpenFile(flags, path, self)


class GenOpenFile(File):
    """The text is computed when it is read from position 0 and kept for further reads."""

    def __init__(self, flags: int, path: Path | None, node: GenFile) -> None:
        super().__init__(flags, path, node)
        self.node: GenFile = node
        self.seekable = True
        self.snapshot: bytes | None = None

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        text = self.snapshot
        if text is None or offset == 0:
            text = self.node.text(t)
            self.snapshot = text
        return text[offset : offset + count]

    def write(self, t: Task, data: bytes, offset: int) -> int:
        self.node.store(t, data)
        self.snapshot = None
        return len(data)

    def mapping(self, t: Task) -> None:
        return None

    def size(self) -> int:
        return 0

    def seek(self, t: Task, offset: int, whence: int) -> int:
        if whence not in (F.SEEK_SET, F.SEEK_CUR):
            raise Errno(E.EINVAL)
        return super().seek(t, offset, whence)


class GenLink(GenNode):
    """A symbolic link with a fixed target."""

    def __init__(self, sb: GenSuper, target: bytes, ino: int = 0) -> None:
        super().__init__(sb, S.S_IFLNK | 0o777, ino)
        self.target: bytes = target

    def readlink(self) -> bytes:
        return self.target


class TaskLink(GenNode):
    """A symbolic link whose target depends on who follows it (/proc/self)."""

    def __init__(self, sb: GenSuper, target: Callable[[Task], bytes], ino: int = 0) -> None:
        super().__init__(sb, S.S_IFLNK | 0o777, ino)
        self.target: Callable[[Task], bytes] = target

    def readlink_for(self, t: Task | None) -> bytes:
        if t is None:
            raise Errno(E.ENOENT)
        return self.target(t)


class MagicLink(GenNode):
    """A link that leads to an object rather than to a name: derive and give `goal` and `label`."""

    def __init__(self, sb: GenSuper, mode: int = 0o777, ino: int = 0) -> None:
        super().__init__(sb, S.S_IFLNK | mode, ino)

    def goal(self, t: Task) -> Path:
        """Where it leads for this task; Errno when it may not go there."""
        raise Errno(E.ENOENT)

    def label(self, t: Task) -> bytes:
        """What readlink(2) shows to this task."""
        raise Errno(E.ENOENT)

    def follow(self, t: Task) -> Path | None:
        return self.goal(t)

    def readlink_for(self, t: Task | None) -> bytes:
        if t is None:
            raise Errno(E.ENOENT)
        return self.label(t)
