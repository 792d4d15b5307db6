"""Inodes of the gofer file system."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from gofer.client import Block, Part, Walk
from gofer.p9 import const as C
from gofer.p9.wire import Attr as WireAttr
from gofer.p9.wire import Entry, ProtocolError
from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.mm.objects import MemoryObject
from sentry.vfs import listing
from sentry.vfs.attr import (
    SET_ATIME,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    Attr,
    DirEntry,
    SetAttr,
)
from sentry.vfs.file import END_LATER, MIRROR_HOST, DirFile, File
from sentry.vfs.inode import Inode
from sentry.vfs.walk import INTENT

if TYPE_CHECKING:
    from sentry.fs.gofer.super import Fid, GoferSuper
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

FRESH: Final = 200_000  # ns for which attributes of a shared tree count as current: lookup and getattr of one system call
DT_DIR: Final = S.S_IFDIR >> 12
RECORDS: Final = ffi.new("uint8_t[]", C.MSIZE)  # room to make a listing in (with K held)
RECORDS_VIEW: Final = ffi.buffer(RECORDS)
Key = tuple[int, int]  # identity at the gofer: inode number and device
NO_KEY: Final = (0, 0)
BESIDE: Final = 64  # directories that may be read ahead in one message, with all that is below
BLOCK: Final = 512  # bytes that an empty listing counts for
SETATTR: Final = (
    (SET_MODE, C.SETATTR_MODE),
    (SET_UID, C.SETATTR_UID),
    (SET_GID, C.SETATTR_GID),
    (SET_SIZE, C.SETATTR_SIZE),
    (SET_ATIME, C.SETATTR_ATIME | C.SETATTR_ATIME_SET),
    (SET_MTIME, C.SETATTR_MTIME | C.SETATTR_MTIME_SET),
)


class Content:
    """A directory's whole content as the gofer listed it: its messages, and what is made of them when it is asked for."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.names: dict[bytes, Entry] | None = None
        self.records: bytes | None = None
        self.whole: bool = False  # with the attributes of everything, not of directories alone
        self.asked: int = 0  # how often others were wanted
        self.used: bool = False  # since the last look for something to forget
        self.size: int = 0  # bytes of parts, and of what was read ahead
        self.ahead: dict[bytes, Content] = {}  # of directories in it that nobody has asked for yet
        self.key: Key = NO_KEY  # of one of these: which directory it was,
        self.changes: int = 0  # and how often the tree had changed
        self.walked: bool = False  # the guest goes through all that is here
        self.dirs: list[bytes] | None = None  # names of the directories in it, in order
        self.next: int = -1  # index in dirs behind the last one that was listed


class GoferInode(Inode):
    """Any file behind the gofer. It is known by a fid, or by its place below an inode that is (`parent` and `name`)."""

    def __init__(self, sb: GoferSuper, attr: Attr, key: Key, parent: GoferInode | None, name: bytes) -> None:
        super().__init__(sb, attr.mode)
        self.fs: GoferSuper = sb
        self.attr: Attr = attr
        self.key: Key = key
        self.parent: GoferInode | None = parent
        self.name: bytes = name
        self.fid: Fid | None = None
        self.stale: bool = False  # the attributes have changed at the gofer
        self.seen: int = time.monotonic_ns()  # when they were read
        self.content: Content | None = None  # a directory's, while it is remembered
        self.target: bytes = b""

    # Fids

    def number(self) -> int:
        """Its fid, walked to again if it had been given up. ESTALE when something else is there now."""
        fid = self.fid
        if fid is not None and fid.number >= 0:
            return fid.number
        self.find(C.NO_OPEN)
        fid = self.fid
        if fid is None:
            raise Errno(E.ESTALE)
        return fid.number

    def find(self, flags: int) -> int:
        """Walks to it from its parent; a host descriptor if `flags` asks for one and it can be had, else -1."""
        parent = self.parent
        if parent is None:
            raise Errno(E.ESTALE)
        walk = self.fs.client.walk(parent.number(), [self.name], flags)
        if not walk.fids:
            raise Errno(E.ESTALE if walk.status == E.ENOENT else walk.status)
        try:
            self.found(walk.fids[0], walk.attrs[0])
        except Errno:
            if walk.hostfd >= 0:
                os.close(walk.hostfd)
            raise
        return walk.hostfd

    def found(self, number: int, a: WireAttr) -> None:
        """Takes over the fid that a walk to its name gave. ESTALE (and no fid) when something else is there now."""
        if (a.path, a.dev) != self.key or a.mode & S.S_IFMT != self.mode & S.S_IFMT:
            self.fs.client.clunk(number)
            raise Errno(E.ESTALE)
        self.fid = self.fs.hold(number)
        self.fresh(self.fs.attr(a))

    def pin(self) -> None:
        """It is losing its name: the fid is all that is left."""
        self.number()
        if self.fid is not None:
            self.fid.pinned = True

    def dropped(self) -> None:
        fid = self.fid
        if fid is not None:
            self.fs.drop(fid)

    # Attributes

    def fresh(self, attr: Attr) -> None:
        """Takes over attributes just read."""
        self.attr = attr
        self.mode = attr.mode
        self.stale = False
        self.seen = time.monotonic_ns()
        self.guard_writes()

    def getattr(self) -> Attr:
        if self.stale or (self.fs.shared and time.monotonic_ns() - self.seen > FRESH):
            self.refresh()
        return self.attr

    def refresh(self) -> None:
        a = self.fs.client.getattr(self.number())
        if a.mode & S.S_IFMT != self.mode & S.S_IFMT:
            raise Errno(E.ESTALE)
        self.fresh(self.fs.attr(a))

    def setattr(self, change: SetAttr) -> None:
        valid = 0
        for bit, wire in SETATTR:
            if change.valid & bit:
                valid |= wire
        if not valid:
            return
        a = self.fs.client.setattr(
            self.number(), valid, change.mode, change.uid, change.gid, change.size, change.atime, change.mtime
        )
        self.fresh(self.fs.attr(a))

    def touch(self, atime: bool, mtime: bool) -> None:
        if mtime:
            self.stale = True

    # Extended attributes

    def getxattr(self, name: bytes) -> bytes:
        if not name.startswith(b"user."):
            if name != b"security.capability":
                raise Errno(E.EOPNOTSUPP)
            if not self.fs.shared:
                raise Errno(E.ENODATA)  # not served from read-only trees
        return self.fs.client.getxattr(self.number(), name)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        self.fs.client.setxattr(self.number(), name, value, flags)
        self.stale = True

    def removexattr(self, name: bytes) -> None:
        self.fs.client.removexattr(self.number(), name)
        self.stale = True

    def listxattr(self) -> list[bytes]:
        names = self.fs.client.getxattr(self.number(), b"")
        return [n for n in names.split(b"\0") if n]


class GoferLink(GoferInode):
    def readlink(self) -> bytes:
        if not self.target:
            self.target = self.fs.client.readlink(self.number())
        return self.target

    def listxattr(self) -> list[bytes]:
        return []


class GoferFile(GoferInode):
    """A regular file: its data moves through donated host descriptors, which serve every open of it."""

    def __init__(self, sb: GoferSuper, attr: Attr, key: Key, parent: GoferInode | None, name: bytes) -> None:
        super().__init__(sb, attr, key, parent, name)
        self.rfd: int = -1  # opened O_RDONLY
        self.wfd: int = -1  # opened O_RDWR, or O_WRONLY where reading is refused
        self.robj: MemoryObject | None = None
        self.wobj: MemoryObject | None = None

    def getattr(self) -> Attr:
        if self.wfd >= 0 and (self.stale or self.writers > 0) and not self.fs.shared:
            st = os.fstat(self.wfd)  # writes went there; all else is changed through the gofer only
            attr = self.attr
            attr.size = st.st_size
            attr.blocks = st.st_blocks
            attr.mtime = st.st_mtime_ns
            attr.ctime = st.st_ctime_ns
            self.stale = False
            return attr
        if self.writers > 0:
            self.stale = True  # C may have written
        return super().getattr()

    def host(self, flags: int) -> int:
        """The descriptor for an access mode."""
        acc = flags & F.O_ACCMODE
        if acc == F.O_RDONLY:
            fd = self.rfd if self.rfd >= 0 else self.wfd
            if fd < 0:
                fd = self.rfd = self.donated(F.O_RDONLY)
                self.fs.remember_host(self)
            return fd
        if self.wfd < 0:
            try:
                self.wfd = self.donated(F.O_RDWR)
            except Errno as e:
                if e.errno != E.EACCES or acc != F.O_WRONLY:
                    raise
                self.wfd = self.donated(F.O_WRONLY)
            self.fs.remember_host(self)
        return self.wfd

    def take_reader(self, fd: int) -> None:
        """A descriptor for reading came along with something else."""
        if self.rfd >= 0:
            os.close(fd)
        else:
            self.rfd = fd
            self.fs.remember_host(self)

    def donated(self, flags: int) -> int:
        fid = self.fid
        if fid is None or fid.number < 0:
            fd = self.find(flags)
            if fd >= 0:
                return fd
        try:
            attr, fd = self.fs.client.open(self.number(), flags)
        except Errno as e:
            if e.errno != E.ENFILE or not self.fs.shed_hosts():
                raise
            attr, fd = self.fs.client.open(self.number(), flags)
        if attr.mode & S.S_IFMT != S.S_IFREG:
            os.close(fd)
            raise Errno(E.ESTALE)
        self.fresh(self.fs.attr(attr))
        return fd

    def close_hosts(self) -> None:
        for fd in (self.rfd, self.wfd):
            if fd >= 0:
                os.close(fd)
        self.rfd = self.wfd = -1
        self.robj = self.wobj = None

    def open(self, t: Task, path: Path, flags: int) -> File:
        return GoferOpenFile(flags, path, self, self.host(flags))

    def host_reader(self) -> int:
        return self.host(F.O_RDONLY)

    def mapping(self) -> MemoryObject | None:
        return self.object_of(self.host(F.O_RDONLY))

    def object_of(self, fd: int) -> MemoryObject:
        """The memory object of one of its descriptors."""
        if fd == self.wfd:
            if self.wobj is None:
                self.wobj = new_object(self.fs, fd)
            return self.wobj
        if self.robj is None:
            self.robj = new_object(self.fs, fd)
        return self.robj

    def dropped(self) -> None:
        self.close_hosts()
        super().dropped()


class GoferOpenFile(File):
    """An open regular file; the generic layer moves data between guest memory and `hostfd` at positions of its own."""

    def __init__(self, flags: int, path: Path | None, inode: GoferFile, hostfd: int) -> None:
        super().__init__(flags, path, inode)
        self.file: GoferFile = inode
        self.seekable = True
        self.hostfd = hostfd
        self.mirror = MIRROR_HOST
        if not self.writable:
            self.ending = END_LATER

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        try:
            count = min(count, max(0, os.fstat(self.hostfd).st_size - offset))
            return os.pread(self.hostfd, count, offset)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None

    def write(self, t: Task, data: bytes, offset: int) -> int:
        try:
            n = os.pwrite(self.hostfd, data, offset)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None
        self.file.stale = True
        return n

    def size(self) -> int:
        return os.fstat(self.hostfd).st_size

    def seek(self, t: Task, offset: int, whence: int) -> int:
        if whence == F.SEEK_DATA or whence == F.SEEK_HOLE:
            try:
                self.pos = os.lseek(self.hostfd, offset, whence)
            except OSError as e:
                raise Errno(e.errno or E.EIO) from None
            return self.pos
        return super().seek(t, offset, whence)

    def mapping(self, t: Task) -> MemoryObject | None:
        return self.file.object_of(self.hostfd)

    def truncate(self, t: Task, size: int) -> None:
        try:
            os.ftruncate(self.hostfd, size)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None
        self.file.stale = True

    def fallocate(self, t: Task, mode: int, offset: int, length: int) -> None:
        r = int(lib.cn_gf_fallocate(self.hostfd, mode, offset, length))
        if r < 0:
            raise Errno(-r)
        self.file.stale = True

    def release(self) -> None:
        file = self.file
        if self.writable:
            file.stale = True  # C may have written
        if file.opens == 0 and file.fid is not None and file.fid.pinned:
            file.close_hosts()  # it has no name any more: its data can go

    def fsync(self, t: Task, data_only: bool) -> None:
        try:
            if data_only:
                os.fdatasync(self.hostfd)
            else:
                os.fsync(self.hostfd)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None


class GoferDir(GoferInode):
    # Looking up

    def lookup(self, name: bytes) -> Inode | None:
        known = self.names()
        if known is not None:
            if name not in known:
                return None
            a = self.known_attr(name, known[name])
            if a is not None:
                return child_of(self, name, a, -1)
        walk = self.fs.client.walk(self.number(), [name], F.O_RDONLY if INTENT.reading else C.NO_OPEN)
        if walk.fids:
            return self.walked(walk, 0, self, name)
        if walk.status == E.ENOENT:
            return None
        raise Errno(walk.status)

    def lookup_path(self, names: list[bytes]) -> list[Inode | None]:
        known = self.names()
        if known is not None:
            if names[0] not in known:
                return [None]
            entry = known[names[0]]
            if entry.dtype != DT_DIR:
                a = self.known_attr(names[0], entry)
                if a is not None and a.mode & S.S_IFMT != S.S_IFDIR:
                    return [child_of(self, names[0], a, -1)]
        walk = self.fs.client.walk(self.number(), names, F.O_RDONLY if INTENT.reading else C.NO_OPEN)
        found: list[Inode | None] = []
        at: GoferInode = self
        for i in range(len(walk.fids)):
            at = self.walked(walk, i, at, names[i])
            found.append(at)
        if walk.status == E.ENOENT:
            if not isinstance(at, GoferDir):
                return found
            found.append(None)
        elif not found:
            raise Errno(walk.status)
        return found

    def walked(self, walk: Walk, i: int, parent: GoferInode, name: bytes) -> GoferInode:
        """The inode of one component of a walk."""
        inode = child_of(parent, name, walk.attrs[i], walk.fids[i])
        if i == len(walk.fids) - 1:
            if walk.target and isinstance(inode, GoferLink):
                inode.target = walk.target
            if walk.hostfd >= 0:
                if isinstance(inode, GoferFile):
                    inode.take_reader(walk.hostfd)
                else:
                    os.close(walk.hostfd)
        return inode

    def known_attr(self, name: bytes, entry: Entry) -> WireAttr | None:
        """The attributes that the listing gave, or gives now: those of directories come with it (a tree is walked), all others
        when a second one is asked for (many will be)."""
        a = self.listed(entry)
        content = self.content
        if a is not None or content is None or content.whole or INTENT.reading:
            return a
        content.asked += 1
        if content.asked < 2:
            return None
        ahead = content.ahead
        size = sum(other.size for other in ahead.values())
        content.ahead = {}
        content.size -= size
        self.fs.listed_size -= size
        self.content = None
        new = self.listed_content(True)
        new.ahead, new.dirs, new.next, new.walked = ahead, content.dirs, content.next, content.walked
        new.size += size
        self.fs.listed_size += size
        return self.listed(self.entries(new).get(name, entry))

    def listed(self, entry: Entry) -> WireAttr | None:
        """The attributes that a listing gave."""
        try:
            return entry.attr()
        except ProtocolError as e:
            raise self.fs.client.bad(f"it broke the protocol: {e}") from None

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        walk = self.fs.client.walk(self.number(), [name])
        if not walk.fids:
            return child is None and walk.status == E.ENOENT
        a = walk.attrs[0]
        same = (
            isinstance(child, GoferInode)
            and child.key == (a.path, a.dev)
            and (child.mode ^ a.mode) & S.S_IFMT == 0
        )
        if isinstance(child, GoferInode) and same:
            child.fresh(self.fs.attr(a))
            child.parent = self
            child.name = name
            if isinstance(child, GoferLink):
                child.target = walk.target
        self.fs.client.clunk(walk.fids[0])
        return same

    # Listing

    def open(self, t: Task, path: Path, flags: int) -> File:
        return DirFile(flags, path, self)

    def readdir(self) -> list[DirEntry]:
        fs = self.fs
        known = self.entries(self.listed_content())
        return [DirEntry(name, fs.ino(e.path, e.dev), e.dtype) for name, e in known.items()]

    def listing(self) -> bytes:
        content = self.listed_content()
        if content.records is None:
            content.records = self.make_records(content)
        return content.records

    def make_records(self, content: Content) -> bytes:
        fs = self.fs
        dev = self.key[1]
        bits = fs.ino(0, dev)
        out: list[bytes] = []
        after = listing.DOTS + 1
        for part in content.parts:
            n: int = lib.cn_dirents_make(part.data, len(part.data), dev, bits, after, RECORDS, C.MSIZE)
            if n == -E.EXDEV:
                return super().listing()
            if n < 0:
                raise fs.client.bad("it broke the protocol: a listing's entries are malformed")
            records: bytes = RECORDS_VIEW[0:n]
            out.append(records)
            if part is not content.parts[-1]:
                after += records_in(records)
        return out[0] if len(out) == 1 else b"".join(out)

    def names(self) -> dict[bytes, Entry] | None:
        """The names in it, if they are remembered and sure."""
        content = self.content
        if content is None or self.fs.shared:
            return None
        content.used = True
        return self.entries(content)

    def entries(self, content: Content) -> dict[bytes, Entry]:
        names = content.names
        if names is None:
            names = content.names = {}
            for part in content.parts:
                for e in self.fs.client.parse(part):
                    names[e.name] = e
        return names

    def listed_content(self, whole: bool = False) -> Content:
        """Everything in it, remembered or from the gofer; whole: with the attributes of everything."""
        content = self.content
        if content is not None and not self.fs.shared:
            content.used = True
            return content
        parent = self.parent
        beside: list[bytes] | None = None
        if isinstance(parent, GoferDir) and not whole and not self.fs.shared:
            content = parent.taken_ahead(self)
            if content is not None:
                self.content = content
                self.fs.remember_content(self, content)
                return content
            beside = parent.walk_on(self.name)
        client = self.fs.client
        offset = 0
        content = Content()
        content.whole = whole
        if parent is not None and (self.fid is None or self.fid.number < 0):
            number, a, part, offset, blocks = client.list_at(parent.number(), self.name, not whole, beside)
            self.found(number, a)
            content.parts.append(part)
            if beside is not None and isinstance(parent, GoferDir):
                parent.read_ahead(content, blocks)
        while offset >= 0:
            part, offset = client.list_from(self.number(), offset, not whole)
            content.parts.append(part)
        if not self.fs.shared:
            for part in content.parts:
                content.size += len(part.data) + BLOCK
            self.content = content
            self.fs.remember_content(self, content)
        return content

    # Reading ahead, where a guest goes through a tree that others don't change

    def walk_on(self, name: bytes) -> list[bytes] | None:
        """A directory in this one is to be listed. The names of those that come next if the guest seems to list one after the other;
        None if it doesn't."""
        content = self.content
        if content is None:
            return None
        dirs = content.dirs
        if dirs is None:
            dirs = content.dirs = [e.name for e in self.entries(content).values() if e.dtype == DT_DIR]
        at = content.next
        walked = content.walked or (0 < at < len(dirs) and dirs[at] == name)
        try:
            at = dirs.index(name, max(at, 0)) + 1
        except ValueError:
            return [] if walked else None
        content.next = at
        content.walked = walked
        return dirs[at : at + BESIDE] if walked else None

    def read_ahead(self, content: Content, blocks: list[Block]) -> None:
        """Keeps what came along with `content`, which is that of a directory in this one."""
        content.walked = True
        made = [content]
        for block in blocks:
            new = Content()
            new.parts.append(block.part)
            new.size = len(block.part.data) + BLOCK
            new.key = (block.path, block.dev)
            new.changes = self.fs.changes
            new.walked = True
            made.append(new)
        for i in range(len(blocks), 0, -1):
            block = blocks[i - 1]
            new = made[i]
            if block.parent != C.BESIDE:
                above = made[block.parent]
                above.ahead[block.name] = new
                above.size += new.size
            elif self.content is not None:
                self.content.ahead[block.name] = new
                self.content.size += new.size
                self.fs.listed_size += new.size

    def taken_ahead(self, child: GoferDir) -> Content | None:
        """What was read ahead of a directory in this one, if that is still true. It is the child's from now on."""
        content = self.content
        if content is None or child.name not in content.ahead:
            return None
        ahead = content.ahead.pop(child.name)
        content.size -= ahead.size
        self.fs.listed_size -= ahead.size
        if ahead.changes != self.fs.changes or ahead.key != child.key:
            return None
        return ahead

    # Changing

    def changed(self) -> None:
        """An entry came or went."""
        self.fs.changes += 1
        self.stale = True
        self.content = None

    def make(self, name: bytes, mode: int, rdev: int, uid: int, gid: int, target: bytes) -> GoferInode:
        number, a, fd = self.fs.client.make(self.number(), name, mode, rdev, uid, gid, target)
        self.changed()
        inode = child_of(self, name, a, number)
        if fd >= 0:
            if isinstance(inode, GoferFile):
                inode.wfd = fd
                self.fs.remember_host(inode)
            else:
                os.close(fd)
        if (a.mode ^ mode) & S.S_IFMT:
            raise self.fs.client.bad("it made something else than it was asked for")
        return inode

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self.make(name, S.S_IFREG | mode & 0o7777, 0, uid, gid, b"")

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self.make(name, S.S_IFDIR | mode & 0o7777, 0, uid, gid, b"")

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        return self.make(name, mode, rdev, uid, gid, b"")

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        inode = self.make(name, S.S_IFLNK | 0o777, 0, uid, gid, target)
        inode.target = target
        return inode

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, GoferInode)
        self.fs.client.link(self.number(), inode.number(), name)
        inode.stale = True
        self.fs.remember_link(inode.key, inode)
        self.changed()

    def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, GoferInode)
        self.lose(inode)
        self.fs.client.unlink(self.number(), name, 0)
        if isinstance(inode, GoferFile) and not inode.opens:
            inode.close_hosts()
        inode.stale = True
        self.changed()

    def lose(self, inode: GoferInode) -> None:
        """A name of the inode is about to go: it must be reachable without it."""
        inode.pin()
        if inode.attr.nlink <= 1 or isinstance(inode, GoferDir):
            self.fs.linked.pop(inode.key, None)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, GoferInode)
        self.lose(inode)
        self.fs.client.unlink(self.number(), name, C.AT_REMOVEDIR)
        inode.stale = True
        self.changed()

    def rename(
        self, name: bytes, inode: Inode, newdir: Inode, newname: bytes, target: Inode | None, flags: int
    ) -> None:
        assert isinstance(inode, GoferInode) and isinstance(newdir, GoferDir)
        if target is not None:
            assert isinstance(target, GoferInode)
            if not flags & F.RENAME_EXCHANGE:
                self.lose(target)
        self.fs.client.rename(self.number(), name, newdir.number(), newname, flags)
        inode.parent = newdir
        inode.name = newname
        inode.stale = True
        if isinstance(target, GoferInode):
            target.stale = True
            if flags & F.RENAME_EXCHANGE:
                target.parent = self
                target.name = name
        self.changed()
        newdir.changed()


def new_object(fs: GoferSuper, fd: int) -> MemoryObject:
    """The memory object of a descriptor, which it duplicates."""
    try:
        return MemoryObject.from_host_fd(fd)
    except Errno:
        if not fs.shed_hosts():
            raise
        return MemoryObject.from_host_fd(fd)


def records_in(records: bytes) -> int:
    """How many there are."""
    n = at = 0
    while at < len(records):
        at += records[at + 16] | records[at + 17] << 8  # d_reclen
        n += 1
    return n


def new_inode(sb: GoferSuper, attr: Attr, key: Key, parent: GoferInode | None, name: bytes) -> GoferInode:
    kind = attr.mode & S.S_IFMT
    if kind == S.S_IFREG:
        return GoferFile(sb, attr, key, parent, name)
    if kind == S.S_IFDIR:
        return GoferDir(sb, attr, key, parent, name)
    if kind == S.S_IFLNK:
        return GoferLink(sb, attr, key, parent, name)
    return GoferInode(sb, attr, key, parent, name)


def child_of(parent: GoferInode, name: bytes, a: WireAttr, fid: int) -> GoferInode:
    """The inode of a name just found, with its fresh fid (-1: none yet)."""
    fs = parent.fs
    key = (a.path, a.dev)
    several = a.nlink > 1 and a.mode & S.S_IFMT != S.S_IFDIR
    if several:
        old = fs.linked.get(key)
        if old is not None and (old.mode ^ a.mode) & S.S_IFMT == 0:
            if fid >= 0:
                if old.fid is None or old.fid.number < 0:
                    old.fid = fs.hold(fid)
                else:
                    fs.client.clunk(fid)
            if fs.shared or fid >= 0:
                old.fresh(fs.attr(a))
            return old
    inode = new_inode(fs, fs.attr(a), key, parent, name)
    if fid >= 0:
        inode.fid = fs.hold(fid)
    if several:
        fs.remember_link(key, inode)
    return inode
