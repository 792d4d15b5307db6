"""What a file system implements: inodes and super blocks.

The generic layer (walk, open, permission, namei) has already checked permissions, read-only mounts, name length,
existence of the last component and sticky bits before it calls a method that changes something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import listing
from sentry.vfs.attr import (
    SET_ATIME,
    SET_CTIME,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_UID,
    Attr,
    DirEntry,
    SetAttr,
)

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.objects import MemoryObject
    from sentry.vfs.file import File
    from sentry.vfs.locks import InodeLocks
    from sentry.vfs.mount import Path
    from sentry.vfs.notify import Watch


class SuperBlock:
    """One instance of a file system; may be mounted in several places."""

    def __init__(self, fstype: bytes, dev: int) -> None:
        self.fstype: bytes = fstype
        self.dev: int = dev  # st_dev of its inodes
        self.readonly: bool = False
        self.source: bytes = b"none"  # shown in /proc/mounts
        self.options: bytes = b""  # file system's own options shown in /proc/mounts
        # Dentries below it may be cached (positive and negative). False: every lookup asks the inode (proc).
        self.cache_dentries: bool = True
        # Cached dentries are checked by Inode.revalidate before each use (shared gofer trees).
        self.revalidate: bool = False
        # Every change of its names and attributes comes with cn_names_changed, so that C may remember answers about them.
        self.stable: bool = False
        self.walks: bool = False  # directories answer lookup_path: several components in one round trip
        self.nodev: bool = True  # /proc/filesystems; st_dev has no block device behind it

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        """(magic, bsize, blocks, bfree, bavail, files, ffree, namelen) as in statfs(2)."""
        raise Errno(E.ENOSYS)

    def sync(self) -> None:
        """Writes what is dirty to stable storage, as far as the file system has any."""


class Inode:
    """A file, directory, link, device, FIFO or socket, apart from its names."""

    def __init__(self, sb: SuperBlock, mode: int) -> None:
        self.sb: SuperBlock = sb
        self.mode: int = mode  # kept equal to attr.mode; the type bits never change
        self.locks: InodeLocks | None = None  # advisory locks
        self.watches: list[Watch] | None = None  # who wants to know of events (inotify)
        self.fifo: object | None = None  # the pipe of a FIFO while it is open (sentry/fs/pipe.py)
        self.socket: object | None = None  # the AF_UNIX socket bound here (sentry/net/unix)
        self.opens: int = 0  # open file descriptions
        self.has_caps: bool = False  # security.capability was set: a write takes it away
        self.linkable: bool = False  # made by O_TMPFILE: may get a first name by linkat(2)
        self.native: ffi.CData | None = None  # what C knows of its data (struct cn_data), once it was opened
        self.writers: int = 0  # open write descriptions; -n: n executions deny writing (ETXTBSY)

    # Attributes

    def getattr(self) -> Attr:
        """Current attributes. The result belongs to the inode: callers don't change it or keep it across a block."""
        raise Errno(E.ENOSYS)

    def steady(self) -> bool:
        """In a stable file system: do the attributes change only with cn_names_changed?"""
        return False

    def setattr(self, change: SetAttr) -> None:
        """Changes attributes; SET_SIZE truncates or extends."""
        raise Errno(E.EPERM)

    def touch(self, atime: bool, mtime: bool) -> None:
        """Data was read (atime) or written (mtime and ctime) now, through a File of this inode."""

    def apply(self, attr: Attr, change: SetAttr) -> None:
        """Changes everything but the size in attributes that are in memory."""
        valid = change.valid
        if valid & SET_MODE:
            attr.mode = attr.mode & S.S_IFMT | change.mode & 0o7777
            self.mode = attr.mode
            self.guard_writes()
        if valid & SET_UID:
            attr.uid = change.uid
        if valid & SET_GID:
            attr.gid = change.gid
        if valid & SET_ATIME:
            attr.atime = change.atime
        if valid & SET_MTIME:
            attr.mtime = change.mtime
        if valid & SET_CTIME:
            attr.ctime = change.ctime

    # C's half

    def mirror_data(self) -> ffi.CData:
        """What C must know to write the data, and tells of that."""
        if self.native is None:
            self.native = ffi.gc(lib.cn_data_new(), lib.cn_data_free)
            self.guard_writes()
        return self.native

    def write_guarded(self) -> bool:
        """Must a write be looked at, because it changes more than data and times or may be refused?"""
        return self.has_caps or self.mode & (S.S_ISUID | S.S_ISGID) != 0

    def guard_writes(self) -> None:
        """Tells C, after a change of what write_guarded looks at."""
        if self.native is not None:
            self.native.closed = 1 if self.write_guarded() else 0

    # Directories. Names are single components, never empty, "." or "..".

    def lookup(self, name: bytes) -> Inode | None:
        """The inode behind a name, None when there is none."""
        raise Errno(E.ENOTDIR)

    def lookup_path(self, names: list[bytes]) -> list[Inode | None]:
        """Looks names[0] up here, names[1] in the result, and so on, in one round trip (only if sb.walks).

        The answer has 1 to len(names) items; it ends early after the first None (no such name) and after the first inode
        that is not a directory (symbolic links included). Permissions are checked by the caller afterwards.
        """
        raise NotImplementedError

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        """Is a cached lookup of `name` still right? Asked only when sb.revalidate."""
        return True

    def readdir(self) -> list[DirEntry]:
        """All entries but "." and "..", in a stable order."""
        raise Errno(E.ENOTDIR)

    def listing(self) -> bytes:
        """The same as records (sentry/vfs/listing.py), for DirFile."""
        return listing.pack(self.readdir(), listing.DOTS)

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """Makes a regular file (mode with type bits)."""
        raise Errno(E.EPERM)

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise Errno(E.EPERM)

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        """Makes a FIFO, socket or device node (type bits of mode)."""
        raise Errno(E.EPERM)

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        raise Errno(E.EPERM)

    def link(self, name: bytes, inode: Inode) -> None:
        """Adds a name for an inode of the same super block."""
        raise Errno(E.EPERM)

    def unlink(self, name: bytes, inode: Inode) -> None:
        raise Errno(E.EPERM)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Raises Errno(ENOTEMPTY) when the directory has entries."""
        raise Errno(E.EPERM)

    def rename(
        self, name: bytes, inode: Inode, newdir: Inode, newname: bytes, target: Inode | None, flags: int
    ) -> None:
        """Moves `name` to `newdir`/`newname`, replacing `target` if any; flags as renameat2(2)."""
        raise Errno(E.EPERM)

    def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        """An unnamed regular file in this directory's file system (O_TMPFILE)."""
        raise Errno(E.EOPNOTSUPP)

    # Links

    def readlink(self) -> bytes:
        raise Errno(E.EINVAL)

    def readlink_for(self, t: Task | None) -> bytes:
        """The target as this task sees it (/proc/self, magic links); None: the kernel itself asks. The walk and
        readlink(2) call this."""
        return self.readlink()

    def follow(self, t: Task) -> Path | None:
        """A magic link (/proc/PID/fd/N) leads straight to a path; None: use readlink_for()."""
        return None

    # Opening

    def open(self, t: Task, path: Path, flags: int) -> File:
        """A new open file description. Permission has been checked, O_CREAT is done; O_TRUNC follows by setattr(SET_SIZE).
        Not called for O_PATH, nor for FIFOs and device nodes of a file system (sentry/vfs/special.py opens those)."""
        raise Errno(E.ENXIO)

    def open_node(self, t: Task, path: Path, flags: int) -> File | None:
        """A FIFO or device node that knows what is behind it (the host's); None: found by its kind and number."""
        return None

    def host_reader(self) -> int:
        """A host descriptor that holds a regular file's data, the inode's own: good while a reader counts itself in `opens`.
        -1: it must be opened."""
        return -1

    def mapping(self) -> MemoryObject | None:
        """The memory object that holds this file's data, if it can be mapped (used by exec as well)."""
        return None

    # Extended attributes

    def getxattr(self, name: bytes) -> bytes:
        raise Errno(E.EOPNOTSUPP)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        raise Errno(E.EOPNOTSUPP)

    def removexattr(self, name: bytes) -> None:
        raise Errno(E.EOPNOTSUPP)

    def listxattr(self) -> list[bytes]:
        return []

    # Life

    def dropped(self) -> None:
        """Nothing refers to the inode any more, neither a dentry nor an open file: a gofer file system clunks its fid, a
        memory one frees the data of a file without links. Called once by reference counting, with K held."""

    def __del__(self) -> None:
        self.dropped()
