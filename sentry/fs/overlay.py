"""A read-only tree below, memory above: what the guest changes stays in the sandbox.

Unlike Linux's overlayfs there is no upper directory tree to keep in step: the upper layer is inodes in memory that know what lies
below them. A directory that was renamed keeps its lower directory; a file that was only given new attributes keeps its
lower data; data is copied up when the file is opened for writing. Nothing ever fails with EXDEV.

An overlay inode that differs from its lower one must survive the dentry cache, so it is kept in its directory's `entries`, and the
directory in its own one's, up to the root. All others are made again at the next lookup. Lower files with several names are
kept from the first lookup on, by lower device and inode number, so that the names stay one file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.abi import statfs as SF
from sentry.errors import Errno
from sentry.fs.tmpfs import PAGE, TmpDir, TmpFile, TmpInode, TmpLink, TmpNode, TmpOpenFile, TmpSuper
from sentry.mm import memfile
from sentry.mm.objects import MemoryObject
from sentry.vfs.attr import Attr, DirEntry
from sentry.vfs.file import END_LATER, MIRROR_HOST, MIRROR_MEM, File
from sentry.vfs.inode import Inode
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

FIRST_INO: Final = 1 << 40  # numbers of inodes made here; those of the lower tree show through
COPY_CHUNK: Final = 1 << 20


class OverlaySuper(TmpSuper):
    """lower: root directory of the tree below, which nobody may change meanwhile. memory: bytes that changes may take, as
    statfs(2) tells; it is the sandbox's memory limit that enforces it."""

    def __init__(self, dev: int, lower: Inode, memory: int) -> None:
        super().__init__(dev, 0, 0, b"overlay")
        self.memory: int = memory
        self.lower: Inode = lower
        self.last_ino = FIRST_INO
        self.magic = SF.OVERLAYFS_SUPER_MAGIC
        self.walks = lower.sb.walks
        self.lower_dev: int = lower.getattr().dev
        self.devices: dict[int, int] = {}  # other devices of the lower tree: theirs to ours
        self.linked: dict[tuple[int, int], OverlayFile] = {}  # lower files with several names

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        """What can still be written goes to memory, whatever the lower file system has free."""
        _, _, _, _, _, files, ffree, namelen = self.lower.sb.statfs()
        blocks = self.memory // PAGE
        free = max(0, blocks - memfile.used() // PAGE)
        return (self.magic, PAGE, blocks, free, free, files, ffree, namelen)

    def lower_attr(self, lower: Inode) -> Attr:
        """A copy of the lower inode's attributes, to be changed."""
        a = lower.getattr()
        attr = Attr(a.ino, a.mode, a.uid, a.gid, a.nlink)
        attr.dev = self.dev if a.dev == self.lower_dev else self.device(a.dev)
        attr.rdev = a.rdev
        attr.size = a.size
        attr.blksize = a.blksize
        attr.blocks = a.blocks
        attr.atime, attr.mtime, attr.ctime, attr.btime = a.atime, a.mtime, a.ctime, a.btime
        self.inodes += 1
        return attr

    def device(self, lower_dev: int) -> int:
        """Inode numbers of a lower tree on several devices are told apart by a device number of ours for each."""
        dev = self.devices.get(lower_dev)
        if dev is None:
            dev = self.devices[lower_dev] = anon_dev()
        return dev

    def wrap(self, parent: OverlayDir, name: bytes, lower: Inode) -> TmpInode:
        """The overlay's inode for a lower one."""
        kind = lower.mode & S.S_IFMT
        inode: TmpInode
        if kind == S.S_IFDIR:
            inode = OverlayDir(self, self.lower_attr(lower), lower)
        elif kind == S.S_IFREG:
            a = lower.getattr()
            if a.nlink > 1:
                known = self.linked.get((a.dev, a.ino))
                if known is not None:
                    return known
                inode = self.linked[a.dev, a.ino] = OverlayFile(self, self.lower_attr(lower), lower)
            else:
                inode = OverlayFile(self, self.lower_attr(lower), lower)
        elif kind == S.S_IFLNK:
            inode = TmpLink(self, self.lower_attr(lower), b"")
            inode.lower = lower
        else:
            inode = TmpNode(self, self.lower_attr(lower))
            inode.lower = lower
        inode.home = parent
        inode.name = name
        inode.kept = False
        return inode


class OverlayFile(TmpFile):
    """A regular file of the lower tree. While `lower_data`, its data is the lower file's."""

    def __init__(self, sb: OverlaySuper, attr: Attr, lower: Inode) -> None:
        super().__init__(sb, attr, False)
        self.lower = lower
        self.under: Inode = lower
        self.lower_data: bool = True
        self.readers: list[OverlayOpenFile] = []  # descriptions that read lower data

    def steady(self) -> bool:
        return self.lower_data

    def getattr(self) -> Attr:
        return self.attr if self.lower_data else super().getattr()

    def keep(self) -> None:
        super().keep()
        for file in self.readers:  # a read now counts for the access time
            file.mirror = 0
            file.remirror()

    def resize(self, size: int) -> None:
        self.copy_up(size)
        super().resize(size)

    def copy_up(self, most: int) -> None:
        """Brings the first `most` bytes of lower data into memory; from then on the data is the overlay's."""
        if not self.lower_data:
            return
        size = min(self.attr.size, most)
        data = MemoryObject.memory()
        if size:
            source = self.under.mapping()
            if source is None:
                raise Errno(E.EIO)
            copy_data(source, data, size, self.fs)
        self.own()
        self.data = data
        self.lower_data = False
        self.charge()
        readers = self.readers
        self.readers = []
        for file in readers:
            file.data_moved(self.data)

    def open(self, t: Task, path: Path, flags: int) -> File:
        if flags & F.O_ACCMODE in (F.O_WRONLY, F.O_RDWR):
            self.copy_up(0x7FFFFFFFFFFFFFFF)
        if not self.lower_data:
            return TmpOpenFile(flags, path, self)
        hostfd = self.under.host_reader()
        lower = None if hostfd >= 0 else self.under.open(t, path, flags & ~F.O_NOATIME)
        return OverlayOpenFile(flags, path, self, hostfd, lower)

    def mapping(self) -> MemoryObject | None:
        return self.under.mapping() if self.lower_data else self.data


class OverlayOpenFile(File):
    """A description that was opened for reading before any copy-up: reads the lower file, and the copy once there is one."""

    def __init__(self, flags: int, path: Path, inode: OverlayFile, hostfd: int, lower: File | None) -> None:
        """The lower data is behind `hostfd`, a descriptor of the lower inode's (host_reader), or `lower` is an open file."""
        super().__init__(flags, path, inode)
        self.file: OverlayFile = inode
        self.under: Inode | None = None  # whose descriptor is used
        self.lower: File | None = lower
        self.seekable = True
        if lower is None:
            self.under = inode.under
            inode.under.opens += 1
            self.hostfd = hostfd
        else:
            lower.path = None  # events are this description's business
            lower.incref()
            self.hostfd = lower.hostfd
            self.mobj = lower.mobj
        if not inode.kept and self.hostfd >= 0:
            self.mirror = MIRROR_HOST
        self.ending = END_LATER
        inode.readers.append(self)

    def data_moved(self, data: MemoryObject) -> None:
        """The file was copied up."""
        self.hostfd = -1
        self.mobj = data
        self.mirror = MIRROR_MEM
        self.remirror()
        self.end_lower()

    def end_lower(self) -> None:
        under = self.under
        self.under = None
        if under is not None:
            under.opens -= 1
        lower = self.lower
        self.lower = None
        if lower is not None:
            lower.decref()

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if self.lower is not None:
            return self.lower.read(t, count, offset)
        if self.under is not None:
            try:
                return os.pread(self.hostfd, min(count, max(0, self.size() - offset)), offset)
            except OSError as e:
                raise Errno(e.errno or E.EIO) from None
        return self.file.data.pread(count, offset)

    def seek(self, t: Task, offset: int, whence: int) -> int:
        if self.lower is None and self.under is None and whence in (F.SEEK_DATA, F.SEEK_HOLE):
            self.pos = self.file.data.seek(offset, whence == F.SEEK_HOLE)
            return self.pos
        return super().seek(t, offset, whence)

    def fsync(self, t: Task, data_only: bool) -> None:
        pass

    def release(self) -> None:
        self.end_lower()
        if self in self.file.readers:
            self.file.readers.remove(self)


class OverlayDir(TmpDir):
    """A directory. `entries` holds what differs from the lower directory and `gone` the lower names that are hidden;
    `lower` is None for one made here."""

    def __init__(self, sb: OverlaySuper, attr: Attr, lower: Inode | None) -> None:
        super().__init__(sb, attr)
        self.over: OverlaySuper = sb
        self.lower = lower
        self.gone: set[bytes] = set()

    def getattr(self) -> Attr:
        return self.attr if self.lower is not None else super().getattr()

    def keep_entry(self, name: bytes, inode: TmpInode) -> None:
        if not self.kept:
            self.keep()
        # A name that was removed or taken by something else meanwhile leads there no more.
        if name not in self.gone:
            self.entries.setdefault(name, inode)

    # Names

    def lookup(self, name: bytes) -> Inode | None:
        inode = self.entries.get(name)
        if inode is not None:
            return inode
        lower = self.lower
        if lower is None or name in self.gone:
            return None
        found = lower.lookup(name)
        return None if found is None else self.over.wrap(self, name, found)

    def lookup_path(self, names: list[bytes]) -> list[Inode | None]:
        at: OverlayDir = self
        out: list[Inode | None] = []
        i = 0
        while True:
            # Below a directory that differs in no way the lower file system can walk on by itself.
            lower = at.lower
            name = names[i]
            if lower is None or name in at.entries or name in at.gone:
                inode = at.lookup(name)
                out.append(inode)
                i += 1
                if i == len(names) or not isinstance(inode, OverlayDir):
                    return out
                at = inode
                continue
            for found in lower.lookup_path(names[i:]):
                if found is None:
                    out.append(None)
                    return out
                child = at.over.wrap(at, names[i], found)
                out.append(child)
                i += 1
                if not isinstance(child, OverlayDir):
                    return out
                at = child
            return out

    def readdir(self) -> list[DirEntry]:
        out: list[DirEntry] = []
        entries = self.entries
        if self.lower is not None:
            gone = self.gone
            for e in self.lower.readdir():
                if e.name not in entries and e.name not in gone:
                    out.append(e)
        for name, inode in entries.items():
            out.append(DirEntry(name, inode.attr.ino, inode.mode >> 12))
        return out

    def listing(self) -> bytes:
        lower = self.lower
        if lower is not None and not self.entries and not self.gone:
            return lower.listing()
        return super().listing()

    def empty(self) -> bool:
        if self.entries:
            return False
        lower = self.lower
        return lower is None or all(e.name in self.gone for e in lower.readdir())

    def make_dir(self, mode: int, uid: int, gid: int) -> TmpInode:
        attr = self.over.new_attr(mode, uid, gid)
        attr.nlink = 2
        return OverlayDir(self.over, attr, None)

    def add(self, name: bytes, inode: TmpInode) -> None:
        self.own()
        self.entries[name] = inode
        inode.home = self
        inode.name = name
        inode.kept = True

    def take(self, name: bytes) -> None:
        self.own()
        self.entries.pop(name, None)
        if self.lower is not None:
            self.gone.add(name)


def copy_data(source: MemoryObject, target: MemoryObject, size: int, fs: TmpSuper) -> None:
    """The first `size` bytes; holes stay holes where they are whole chunks of zeros."""
    offset = 0
    while offset < size:
        data = source.pread(min(COPY_CHUNK, size - offset), offset)
        if not data:
            break
        if not fs.room(offset + len(data)):
            raise Errno(E.ENOSPC)
        if data.count(0) != len(data):
            target.pwrite(data, offset)
        offset += len(data)
    target.truncate(size)


def new(dev: int, lower: Inode, memory: int) -> OverlayDir:
    """The root of an overlay over `lower` (its super block is root.sb). memory: bytes of memory in the sandbox."""
    sb = OverlaySuper(dev, lower, memory)
    return OverlayDir(sb, sb.lower_attr(lower), lower)
