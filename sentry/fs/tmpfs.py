"""tmpfs(5): files in memory. Also the memory half of the overlay (sentry/fs/overlay.py) and of memfd_create(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.abi import statfs as SF
from sentry.abi import xattr as X
from sentry.errors import Errno
from sentry.mm.objects import MemoryObject
from sentry.vfs import clock
from sentry.vfs.attr import (
    SET_SIZE,
    Attr,
    DirEntry,
    SetAttr,
)
from sentry.vfs.file import END_LATER, MIRROR_MEM, DirFile, File
from sentry.vfs.inode import Inode, SuperBlock

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

PAGE: Final = 4096
DAY: Final = 86_400_000_000_000
LAST: Final = (1 << 63) - 1  # ns; times that a guest sets may be later
MAX_SIZE: Final = 0x7FFFFFFFFFFFFFFF
DIRENT_SIZE: Final = 20  # what a directory of Linux's tmpfs counts for an entry
XATTR_SPACE: Final = 1 << 20  # bytes of extended attributes one inode may have


class TmpSuper(SuperBlock):
    """One tmpfs. max_bytes and max_inodes of 0 mean no limit of its own (the sandbox's memory limit holds)."""

    def __init__(self, dev: int, max_bytes: int = 0, max_inodes: int = 0, fstype: bytes = b"tmpfs") -> None:
        super().__init__(fstype, dev)
        self.source = fstype
        self.stable = True
        self.max_bytes: int = max_bytes
        self.max_inodes: int = max_inodes
        self.used_bytes: int = 0
        self.inodes: int = 0
        self.last_ino: int = 0
        self.magic: int = SF.TMPFS_MAGIC

    def new_attr(self, mode: int, uid: int, gid: int) -> Attr:
        """The attributes of a new inode, which is counted; ENOSPC beyond the limit."""
        if self.max_inodes and self.inodes >= self.max_inodes:
            raise Errno(E.ENOSPC)
        self.inodes += 1
        self.last_ino += 1
        attr = Attr(self.last_ino, mode, uid, gid)
        attr.dev = self.dev
        attr.atime = attr.mtime = attr.ctime = attr.btime = clock.now()
        return attr

    def room(self, want: int) -> bool:
        """May `want` more bytes be stored?"""
        return not self.max_bytes or self.used_bytes + want <= self.max_bytes

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        blocks = self.max_bytes // PAGE
        free = max(0, blocks - self.used_bytes // PAGE)
        return (
            self.magic,
            PAGE,
            blocks,
            free,
            free,
            self.max_inodes,
            max(0, self.max_inodes - self.inodes),
            F.NAME_MAX,
        )


class TmpInode(Inode):
    """What all nodes in memory have: attributes and extended attributes.

    In an overlay an inode may stand for one of the lower tree. As long as it does not differ from that one, nothing but the dentry
    cache keeps it; before the first change it is entered into the directory where it was found (`own`).
    """

    def __init__(self, sb: TmpSuper, attr: Attr) -> None:
        super().__init__(sb, attr.mode)
        self.fs: TmpSuper = sb
        self.attr: Attr = attr
        self.xattrs: dict[bytes, bytes] | None = None
        self.lower: Inode | None = None
        self.home: TmpDir | None = None  # where it was found or entered last, as `name`
        self.name: bytes = b""
        self.kept: bool = True  # entered in `home`, or made here

    def getattr(self) -> Attr:
        return self.attr

    def steady(self) -> bool:
        return True

    def own(self) -> Attr:
        """The attributes, about to be changed."""
        lib.cn_names_changed()
        if not self.kept:
            self.keep()
        return self.attr

    def keep(self) -> None:
        """This inode differs from the lower one from now on: it must not be forgotten."""
        self.kept = True
        if self.home is not None:
            self.home.keep_entry(self.name, self)

    def setattr(self, change: SetAttr) -> None:
        if change.valid & SET_SIZE:
            self.resize(change.size)
        self.apply(self.own(), change)

    def resize(self, size: int) -> None:
        raise Errno(E.EINVAL)

    def touch(self, atime: bool, mtime: bool) -> None:
        if mtime:
            attr = self.own()
            attr.mtime = attr.ctime = clock.now()
        elif atime and self.kept:
            # As with relatime, the default of Linux: an atime newer than the last change and a day young stays. One that
            # is still the lower inode keeps its own.
            attr = self.attr
            now = clock.now()
            if attr.atime <= attr.mtime or attr.atime <= attr.ctime or now - attr.atime >= DAY:
                attr.atime = now
                lib.cn_names_changed()

    def stored_xattrs(self) -> dict[bytes, bytes]:
        if self.xattrs is None:
            self.xattrs = {} if self.lower is None else copy_xattrs(self.lower)
        return self.xattrs

    def getxattr(self, name: bytes) -> bytes:
        if self.xattrs is None and self.lower is not None:
            return self.lower.getxattr(name)
        value = self.stored_xattrs().get(name)
        if value is None:
            raise Errno(E.ENODATA)
        return value

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        attr = self.own()
        xattrs = self.stored_xattrs()
        old = xattrs.get(name)
        if old is None and flags & X.XATTR_REPLACE:
            raise Errno(E.ENODATA)
        if old is not None and flags & X.XATTR_CREATE:
            raise Errno(E.EEXIST)
        if sum(len(k) + len(v) for k, v in xattrs.items()) + len(name) + len(value) > XATTR_SPACE:
            raise Errno(E.ENOSPC)
        xattrs[name] = value
        attr.ctime = clock.now()

    def removexattr(self, name: bytes) -> None:
        if name not in self.stored_xattrs():
            raise Errno(E.ENODATA)
        attr = self.own()
        del self.stored_xattrs()[name]
        attr.ctime = clock.now()

    def listxattr(self) -> list[bytes]:
        return list(self.stored_xattrs())

    def unlinked(self) -> None:
        """One name less."""
        attr = self.own()
        attr.nlink -= 1
        attr.ctime = clock.now()

    def dropped(self) -> None:
        self.fs.inodes -= 1


class TmpFile(TmpInode):
    """A regular file: its data is a memory object."""

    data: MemoryObject  # not there while the data is a lower file's

    def __init__(self, sb: TmpSuper, attr: Attr, empty: bool = True) -> None:
        super().__init__(sb, attr)
        if empty:
            self.data = MemoryObject.memory()
        self.charged: int = 0  # bytes of memory counted in sb.used_bytes
        self.seals: int = F.F_SEAL_SEAL
        self.written: int = 0  # last times of C's that were taken over
        self.accessed: int = 0

    def steady(self) -> bool:
        return False

    def mirror_data(self) -> ffi.CData:
        if self.native is None:
            native = super().mirror_data()
            native.atime_due = self.next_atime()
        return super().mirror_data()

    def next_atime(self) -> int:
        """From when on a read counts for the access time (see TmpInode.touch)."""
        attr = self.attr
        if attr.atime > attr.mtime and attr.atime > attr.ctime:
            return min(max(attr.atime + DAY, 0), LAST)
        return 0

    def absorb(self) -> None:
        """Takes over the times of what C has read and written."""
        native = self.native
        if native is not None:
            written: int = native.written
            if written != self.written:
                self.written = written
                self.attr.mtime = self.attr.ctime = written
            accessed: int = native.accessed
            if accessed != self.accessed:
                self.accessed = accessed
                self.attr.atime = accessed

    def own(self) -> Attr:
        native = self.native
        if native is not None:
            self.absorb()
            native.atime_due = 0
        return super().own()

    def touch(self, atime: bool, mtime: bool) -> None:
        native = self.native
        if native is not None:
            self.absorb()
        super().touch(atime, mtime)
        if native is not None:
            native.atime_due = self.next_atime()

    def write_guarded(self) -> bool:
        return self.fs.max_bytes > 0 or self.seals & ~F.F_SEAL_SEAL != 0 or super().write_guarded()

    def getattr(self) -> Attr:
        self.absorb()
        attr = self.attr
        attr.size = self.data.size()
        self.charge()
        attr.blocks = self.charged >> 9
        return attr

    def charge(self) -> None:
        """Brings the account in line with what the object holds."""
        held = self.data.allocated()
        if held != self.charged:
            self.fs.used_bytes += held - self.charged
            self.charged = held

    def resize(self, size: int) -> None:
        data = self.data
        old = data.size()
        if (size < old and self.seals & F.F_SEAL_SHRINK) or (size > old and self.seals & F.F_SEAL_GROW):
            raise Errno(E.EPERM)
        if size != old:
            data.truncate(size)
            self.charge()

    def reserve(self, count: int, offset: int) -> int:
        """How many of `count` bytes may be written at `offset`: seals and the file system's size. EPERM, ENOSPC."""
        if self.seals & (F.F_SEAL_WRITE | F.F_SEAL_FUTURE_WRITE | F.F_SEAL_GROW):
            if self.seals & (F.F_SEAL_WRITE | F.F_SEAL_FUTURE_WRITE):
                raise Errno(E.EPERM)
            end = self.data.size()
            if offset >= end:
                raise Errno(E.EPERM)
            count = min(count, end - offset)
        fs = self.fs
        if fs.max_bytes:
            self.charge()
            if not fs.room(count + PAGE):
                free = fs.max_bytes - fs.used_bytes
                held = self.data.allocated()
                if offset + count <= held and offset + count <= self.data.size():
                    return count  # rewrites pages that are there (no holes before them)
                slack = -offset % PAGE
                if free + slack <= 0:
                    raise Errno(E.ENOSPC)
                return min(count, free + slack)
        return count

    def open(self, t: Task, path: Path, flags: int) -> File:
        return TmpOpenFile(flags, path, self)

    def mapping(self) -> MemoryObject | None:
        return self.data

    def dropped(self) -> None:
        self.fs.used_bytes -= self.charged
        super().dropped()


class TmpOpenFile(File):
    """An open regular file in memory; data usually moves directly between guest memory and `mobj`."""

    def __init__(self, flags: int, path: Path | None, inode: TmpFile) -> None:
        super().__init__(flags, path, inode)
        self.file: TmpFile = inode
        self.seekable = True
        self.mobj = inode.data
        self.mirror = MIRROR_MEM
        if not self.writable:
            self.ending = END_LATER

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        return self.file.data.pread(count, offset)

    def write(self, t: Task, data: bytes, offset: int) -> int:
        n = self.file.reserve(len(data), offset)
        return self.file.data.pwrite(data if n == len(data) else data[:n], offset)

    def reserve(self, t: Task, count: int, offset: int) -> int:
        return self.file.reserve(count, offset)

    def size(self) -> int:
        return self.file.data.size()

    def seek(self, t: Task, offset: int, whence: int) -> int:
        if whence == F.SEEK_DATA or whence == F.SEEK_HOLE:
            if offset < 0 or offset >= self.file.data.size():
                raise Errno(E.ENXIO)
            self.pos = self.file.data.seek(offset, whence == F.SEEK_HOLE)
            return self.pos
        return super().seek(t, offset, whence)

    def write_sealed(self) -> bool:
        return bool(self.file.seals & (F.F_SEAL_WRITE | F.F_SEAL_FUTURE_WRITE))

    def truncate(self, t: Task, size: int) -> None:
        self.file.resize(size)

    def fallocate(self, t: Task, mode: int, offset: int, length: int) -> None:
        file = self.file
        if mode == F.FALLOC_FL_PUNCH_HOLE | F.FALLOC_FL_KEEP_SIZE:
            if file.seals & (F.F_SEAL_WRITE | F.F_SEAL_FUTURE_WRITE):
                raise Errno(E.EPERM)
            file.data.punch(offset, length)
        elif mode & ~F.FALLOC_FL_KEEP_SIZE == 0:
            grows = offset + length > file.data.size()
            if grows and file.seals & F.F_SEAL_GROW:
                raise Errno(E.EPERM)
            file.charge()
            if not file.fs.room(max(0, length - file.charged)):
                raise Errno(E.ENOSPC)
            file.data.allocate(offset, length)
            if grows and not mode & F.FALLOC_FL_KEEP_SIZE:
                file.data.truncate(offset + length)
        else:
            raise Errno(E.EOPNOTSUPP)
        file.charge()

    def fsync(self, t: Task, data_only: bool) -> None:
        pass


class TmpLink(TmpInode):
    """A symbolic link; b"" as target: not read from the lower one yet."""

    def __init__(self, sb: TmpSuper, attr: Attr, target: bytes) -> None:
        super().__init__(sb, attr)
        self.target: bytes = target
        if target:
            attr.size = len(target)

    def readlink(self) -> bytes:
        if not self.target and self.lower is not None:
            self.target = self.lower.readlink()
        return self.target


class TmpNode(TmpInode):
    """A FIFO, socket or device node."""


class TmpDir(TmpInode):
    """A directory: names to inodes."""

    def __init__(self, sb: TmpSuper, attr: Attr) -> None:
        super().__init__(sb, attr)
        self.entries: dict[bytes, TmpInode] = {}
        self.records: bytes | None = None  # the listing, until something changes

    def getattr(self) -> Attr:
        self.attr.size = DIRENT_SIZE * (2 + len(self.entries))
        return self.attr

    def lookup(self, name: bytes) -> Inode | None:
        return self.entries.get(name)

    def readdir(self) -> list[DirEntry]:
        return [DirEntry(name, inode.attr.ino, inode.mode >> 12) for name, inode in self.entries.items()]

    def listing(self) -> bytes:
        if self.records is None:
            self.records = super().listing()
        return self.records

    def own(self) -> Attr:
        self.records = None
        return super().own()

    def changed(self, subdirs: int = 0) -> None:
        """An entry came or went, `subdirs` of them directories."""
        attr = self.own()
        attr.mtime = attr.ctime = clock.now()
        attr.nlink += subdirs

    # What kinds of inodes are made in here; the overlay makes its own.

    def make_file(self, mode: int, uid: int, gid: int) -> TmpInode:
        return TmpFile(self.fs, self.fs.new_attr(mode, uid, gid))

    def make_dir(self, mode: int, uid: int, gid: int) -> TmpInode:
        return new_dir(self.fs, mode, uid, gid)

    def keep_entry(self, name: bytes, inode: TmpInode) -> None:
        """Enters an inode that was found in the lower directory."""
        raise NotImplementedError

    def add(self, name: bytes, inode: TmpInode) -> None:
        """Enters a new or moved inode under a name that is free."""
        self.entries[name] = inode

    def take(self, name: bytes) -> None:
        """Removes an entry that exists."""
        self.entries.pop(name, None)

    def empty(self) -> bool:
        return not self.entries

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        inode = self.make_file(mode, uid, gid)
        self.add(name, inode)
        self.changed()
        return inode

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        inode = self.make_dir(mode, uid, gid)
        self.add(name, inode)
        self.changed(1)
        return inode

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        attr = self.fs.new_attr(mode, uid, gid)
        attr.rdev = rdev
        inode = TmpNode(self.fs, attr)
        self.add(name, inode)
        self.changed()
        return inode

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        inode = TmpLink(self.fs, self.fs.new_attr(S.S_IFLNK | 0o777, uid, gid), target)
        self.add(name, inode)
        self.changed()
        return inode

    def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        inode = self.make_file(mode, uid, gid)
        inode.attr.nlink = 0
        return inode

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, TmpInode)
        attr = inode.own()
        attr.nlink += 1
        attr.ctime = clock.now()
        self.add(name, inode)
        self.changed()

    def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, TmpInode)
        self.take(name)
        inode.unlinked()
        self.changed()

    def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, TmpDir)
        if not inode.empty():
            raise Errno(E.ENOTEMPTY)
        self.take(name)
        inode.own().nlink = 0
        self.changed(-1)

    def rename(
        self, name: bytes, inode: Inode, newdir: Inode, newname: bytes, target: Inode | None, flags: int
    ) -> None:
        assert isinstance(newdir, TmpDir) and isinstance(inode, TmpInode)
        moves_dir = 1 if isinstance(inode, TmpDir) else 0
        if flags & F.RENAME_EXCHANGE:
            assert isinstance(target, TmpInode)
            back_dir = 1 if isinstance(target, TmpDir) else 0
            self.take(name)
            newdir.take(newname)
            self.add(name, target)
            newdir.add(newname, inode)
            self.changed(back_dir - moves_dir)
            newdir.changed(moves_dir - back_dir)
            target.own().ctime = clock.now()
        else:
            if isinstance(target, TmpDir):
                if not target.empty():
                    raise Errno(E.ENOTEMPTY)
                newdir.take(newname)
                target.own().nlink = 0
                newdir.changed(-1)
            elif isinstance(target, TmpInode):
                newdir.take(newname)
                target.unlinked()
            self.take(name)
            newdir.add(newname, inode)
            self.changed(-moves_dir)
            newdir.changed(moves_dir)
        inode.own().ctime = clock.now()

    def open(self, t: Task, path: Path, flags: int) -> File:
        return DirFile(flags, path, self)


class MountOptions:
    """The data string of mount(2) for a tmpfs."""

    def __init__(self, text: bytes, total: int) -> None:
        """`total`: bytes of memory in the sandbox, which percentages and the default size refer to."""
        self.size: int = total // 2
        self.inodes: int = total // 2 // PAGE
        self.mode: int = 0o1777
        self.uid: int = 0
        self.gid: int = 0
        for option in text.split(b","):
            if not option:
                continue
            key, _, value = option.partition(b"=")
            if key == b"size":
                self.size = parse_size(value, total)
            elif key == b"nr_blocks":
                self.size = parse_size(value, total) * PAGE
            elif key == b"nr_inodes":
                self.inodes = parse_size(value, total)
            elif key == b"mode":
                self.mode = parse_int(value, 8) & 0o7777
            elif key == b"uid":
                self.uid = parse_int(value, 10)
            elif key == b"gid":
                self.gid = parse_int(value, 10)
            else:
                raise Errno(E.EINVAL)


def parse_int(text: bytes, base: int) -> int:
    try:
        value = int(text, base)
    except ValueError:
        raise Errno(E.EINVAL) from None
    if not 0 <= value < 1 << 62:
        raise Errno(E.EINVAL)
    return value


def parse_size(text: bytes, total: int) -> int:
    """A number with k, m, g or %."""
    scale = {b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30}.get(text[-1:].lower())
    if scale is not None:
        return parse_int(text[:-1], 10) * scale
    if text.endswith(b"%"):
        return total * parse_int(text[:-1], 10) // 100
    return parse_int(text, 10)


def new_dir(sb: TmpSuper, mode: int, uid: int, gid: int) -> TmpDir:
    attr = sb.new_attr(mode, uid, gid)
    attr.nlink = 2
    return TmpDir(sb, attr)


def copy_xattrs(lower: Inode) -> dict[bytes, bytes]:
    """What the lower inode has; what can't be read is left out."""
    out: dict[bytes, bytes] = {}
    for name in lower.listxattr():
        try:
            out[name] = lower.getxattr(name)
        except Errno:
            continue
    return out


def new(dev: int, options: MountOptions | None = None) -> TmpDir:
    """The root directory of a new tmpfs (its super block is root.sb)."""
    if options is None:
        sb = TmpSuper(dev)
        return new_dir(sb, S.S_IFDIR | 0o755, 0, 0)
    sb = TmpSuper(dev, options.size, options.inodes)
    sb.options = b"size=%dk,nr_inodes=%d,mode=%o" % (options.size >> 10, options.inodes, options.mode)
    return new_dir(sb, S.S_IFDIR | options.mode, options.uid, options.gid)
