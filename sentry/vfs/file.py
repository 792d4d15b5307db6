"""Open file descriptions: the interface that every kind of file implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.abi import poll as P
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.kernel.wait import WaitQueue
from sentry.vfs import listing, notify
from sentry.vfs.attr import Attr

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.objects import MemoryObject
    from sentry.vfs.epoll import EpollItem
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path
    from sentry.vfs.sigio import AsyncWaiter, DirectoryNotifier, Owner

WOULD_BLOCK: Final = -E.EAGAIN
DT_DIR: Final = S.S_IFDIR >> 12

# What C may take a description for, and its flags (CN_FILE_* of native/run/files.h).
MIRROR_NULL: Final = 1
MIRROR_ZERO: Final = 2
MIRROR_HOST: Final = 3
MIRROR_OWN: Final = 4
MIRROR_MEM: Final = 5
MIRROR_STREAM: Final = 6
MIRROR_PLACE: Final = 7
MIRROR_READ: Final = 1
MIRROR_WRITE: Final = 2
MIRROR_APPEND: Final = 4
MIRROR_NOATIME: Final = 8
MIRROR_NONBLOCK: Final = 16
# Who closes it (CN_END_*).
END_EACH: Final = 0
END_LAST: Final = 1
END_LATER: Final = 2
NULL: Final = ffi.NULL
FILES: Final[list[File | None]] = []  # by index (cn_file_index): the descriptions that have, or had, a number
ENDED: Final = ffi.new("int[]", 64)
ALWAYS: Final = (S.S_IFREG, S.S_IFDIR)
NEVER: Final = WaitQueue()  # of files that are always ready: nobody is ever woken


class File:
    """An open file description (open(2), "Open file descriptions").

    Reads and writes never block: see `read` and `write`. Blocking, restarting, O_NONBLOCK, RLIMIT_FSIZE, O_APPEND positions and
    iovecs are the business of sentry/syscalls/io.py.
    """

    def __init__(self, flags: int, path: Path | None, inode: Inode | None) -> None:
        self.flags: int = flags  # access mode and status flags
        self.path: Path | None = path  # None for pipes, sockets, eventfds...
        self.inode: Inode | None = inode
        self.position: int = 0  # while C does not keep it: see pos
        self.refs: int = 0  # in-flight uses; without these and numbers (numbers()) it ends
        self.waitq: WaitQueue = NEVER if inode is not None and inode.mode & S.S_IFMT in ALWAYS else WaitQueue()
        self.seekable: bool = False  # pread, pwrite and lseek make sense
        self.hostfd: int = (
            -1
        )  # a host descriptor that data may go to and from directly, at any offset if seekable
        self.mobj: MemoryObject | None = None  # data in the memory file: moved directly, too
        self.mirror: int = 0  # MIRROR_*: what C may take it for, to read and write it by itself; 0: nothing
        self.ending: int = END_LAST  # END_*: who closes its numbers
        self.spare: bool = False  # it is as it was opened: another open may get it when nobody has it any more
        self.native: ffi.CData | None = None  # C's half since its first number (struct cn_file)
        self.dirents: bytes | None = None  # the listing that getdents goes through (sentry/vfs/listing.py)
        self.record_at: int = 0  # the byte in it where entry number record_pos starts
        self.record_pos: int = 0
        self.own_position: bool = False  # the host keeps the position of `hostfd`; `pos` means nothing
        self.records: bool = False  # a write is one record (datagrams): never split
        self.read_timeout: int = 0  # ns; SO_RCVTIMEO, 0: none
        self.write_timeout: int = 0  # ns; SO_SNDTIMEO
        self.counted: bool = False  # holds one of inode.writers
        self.epitems: list[EpollItem] | None = None  # epoll registrations of this description
        self.owner: int = 0  # F_SETOWN
        self.owner_type: int = 0
        self.sig: int = 0  # F_SETSIG
        self.signal_owner: Owner | None = None
        self.async_waiter: AsyncWaiter | None = None  # while O_ASYNC
        self.notifier: DirectoryNotifier | None = None  # F_NOTIFY
        if inode is not None:
            inode.opens += 1

    @property
    def readable(self) -> bool:
        return self.flags & (F.O_PATH | F.O_WRONLY) == 0

    @property
    def writable(self) -> bool:
        return 1 <= self.flags & F.O_ACCMODE <= 2 and not self.flags & F.O_PATH

    @property
    def nonblocking(self) -> bool:
        return bool(self.flags & F.O_NONBLOCK)

    @property
    def pos(self) -> int:
        """Where the next read or write goes, for files with positions."""
        native = self.native
        return self.position if native is None else lib.cn_file_pos(native)

    @pos.setter
    def pos(self, value: int) -> None:
        native = self.native
        if native is None:
            self.position = value
        else:
            lib.cn_file_set_pos(native, value)

    # C's half

    def mirror_flags(self) -> int:
        if self.mirror == MIRROR_PLACE:
            return 0
        flags = self.flags
        out = MIRROR_READ if not flags & (F.O_PATH | F.O_WRONLY) else 0
        if self.writable:
            out |= MIRROR_WRITE
            if flags & F.O_APPEND:
                out |= MIRROR_APPEND
        path = self.path
        if flags & F.O_NOATIME or path is None or path.mount.flags & (M.MS_NOATIME | M.MS_RDONLY):
            out |= MIRROR_NOATIME
        if flags & F.O_NONBLOCK:
            out |= MIRROR_NONBLOCK
        return out

    def published(self) -> ffi.CData:
        """C's half, made when it gets its first number; ENFILE."""
        native = self.native
        if native is None:
            native = lib.cn_file_new(self.position)
            if not native:
                raise Errno(E.ENFILE)
            self.native = native
            index: int = lib.cn_file_index(native)
            if index == len(FILES):
                FILES.append(self)
            else:
                FILES[index] = self
            self.remirror()
        return native

    def numbers(self) -> int:
        """How many descriptors lead to it."""
        native = self.native
        return 0 if native is None else lib.cn_file_numbers(native)

    def mirror_data(self) -> ffi.CData | None:
        """What its inode's descriptions share (struct cn_data); writing needs it, but for devices and MIRROR_OWN."""
        inode = self.inode
        if inode is None or self.mirror not in (MIRROR_HOST, MIRROR_MEM):
            return None
        if self.mirror == MIRROR_HOST and not self.writable:
            return None
        return inode.mirror_data()

    def remirror(self) -> None:
        """Kind, flags, `hostfd` or `mobj` have changed; no call of C's is at work on what they were when this returns."""
        native = self.native
        if native is not None:
            mobj = self.mobj
            data = self.mirror_data()
            lib.cn_file_set(
                native,
                self.mirror,
                self.mirror_flags(),
                self.hostfd,
                NULL if mobj is None else mobj.native,
                NULL if data is None else data,
                self.flags,
                self.ending,
            )

    def changed(self) -> None:
        """It is not any more as it was opened (flags, owner, locks...): no other open may get it, and its end matters."""
        self.spare = False
        if self.ending == END_LATER:
            self.ending = END_LAST
            self.remirror()

    # Data. `offset` is meaningful for seekable files, -1 for streams.

    @property
    def spliceable(self) -> bool:
        """Does splice(2) read and write it?"""
        return True

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        """Up to `count` bytes; b"" at the end of file; None when it would block."""
        raise Errno(E.EINVAL)

    def put_back(self, data: bytes, done: int) -> int:
        """The guest's memory took only `done` bytes of what was just read; the number that counts as read. Most files lose the
        rest, as Linux's do; a pipe keeps it."""
        return done

    def write(self, t: Task, data: bytes, offset: int) -> int:
        """Bytes taken; WOULD_BLOCK when none could be taken without blocking."""
        raise Errno(E.EINVAL)

    def reserve(self, t: Task, count: int, offset: int) -> int:
        """Before data goes directly into `mobj`: how many bytes may be written; EPERM (seals), ENOSPC."""
        return count

    def size(self) -> int:
        """The end for SEEK_END and O_APPEND."""
        return self.getattr().size

    def seek(self, t: Task, offset: int, whence: int) -> int:
        """SEEK_SET, CUR, END, DATA, HOLE: sets and returns the position. Default for seekable files with a size."""
        if not self.seekable:
            raise Errno(E.ESPIPE)
        if whence == F.SEEK_SET:
            new = offset
        elif whence == F.SEEK_CUR:
            new = self.pos + offset
        elif whence == F.SEEK_END:
            new = self.size() + offset
        elif whence in (F.SEEK_DATA, F.SEEK_HOLE):
            end = self.size()
            if offset < 0 or offset >= end:
                raise Errno(E.ENXIO)
            new = offset if whence == F.SEEK_DATA else end
        else:
            raise Errno(E.EINVAL)
        if new < 0 or new > 0x7FFFFFFFFFFFFFFF:
            raise Errno(E.EINVAL)
        self.pos = new
        return new

    # Readiness

    def poll(self) -> int:
        """POLL* bits that are ready now. Regular files are always ready."""
        return P.POLLIN | P.POLLOUT | P.POLLRDNORM | P.POLLWRNORM

    # Everything else

    def getattr(self) -> Attr:
        if self.inode is None:
            raise Errno(E.ENOSYS)
        return self.inode.getattr()

    def listing(self, t: Task) -> bytes:
        """Records of all entries, "." and ".." included, in a stable order."""
        raise Errno(E.ENOTDIR)

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        raise Errno(E.ENOTTY)

    def mapping(self, t: Task) -> MemoryObject | None:
        """The memory object for mmap(2); None: ENODEV."""
        return self.inode.mapping() if self.inode is not None else None

    def write_sealed(self) -> bool:
        """Is a new writable shared mapping forbidden (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE)?"""
        return False

    def truncate(self, t: Task, size: int) -> None:
        raise Errno(E.EINVAL)

    def fallocate(self, t: Task, mode: int, offset: int, length: int) -> None:
        raise Errno(E.ENODEV if self.inode is not None else E.ESPIPE)

    def fsync(self, t: Task, data_only: bool) -> None:
        raise Errno(E.EINVAL)

    def set_flags(self, flags: int) -> None:
        """F_SETFL: `flags` is the whole new status word."""
        self.flags = flags

    def flush(self, t: Task) -> None:
        """A descriptor was closed (once per close(2))."""

    def release(self) -> None:
        """The last reference is gone."""

    def describe(self) -> bytes:
        """What /proc/PID/fd/N links to when there is no path, such as b"pipe:[12]"."""
        return b"anon_inode:[file]"

    def fdinfo(self) -> bytes:
        """Extra lines of /proc/PID/fdinfo/N."""
        return b""

    def incref(self) -> None:
        self.refs += 1

    def decref(self) -> None:
        self.refs -= 1
        if self.refs == 0 and not self.numbers():
            self.unused()

    def unused(self) -> None:
        """Nobody has it any more: the next open of its name may get it, else it ends."""
        native = self.native
        if self.spare and native is not None:
            self.dirents = None
            self.record_at = self.record_pos = 0
            inode = self.inode
            if inode is not None and inode.locks is None and lib.cn_file_spare(native):
                return
        self.close()

    def close(self) -> None:
        """What the last reference's end means for every kind of file; then release()."""
        native = self.native
        if native is not None:
            self.native = None
            FILES[lib.cn_file_index(native)] = None
            lib.cn_file_free(native)
        epitems = self.epitems
        if epitems is not None:
            self.epitems = None
            for item in epitems:
                item.file_gone()
        if self.async_waiter is not None:
            self.waitq.remove(self.async_waiter)
            self.async_waiter = None
        if self.notifier is not None:
            self.notifier.end()
        inode = self.inode
        if inode is not None:
            if inode.locks is not None:
                inode.locks.file_gone(self)
            if self.counted:
                inode.writers -= 1
            path = self.path
            if path is not None and not self.flags & F.O_PATH:
                if notify.STATE.watches:
                    notify.closed(path, self.counted)
                    if inode.opens == 1 and inode.watches is not None and inode.getattr().nlink == 0:
                        notify.gone(inode)
            inode.opens -= 1
        self.release()


def end_closed() -> None:
    """Takes apart what was closed in C (native/run/reopen.h)."""
    while True:
        n: int = lib.cn_files_ended(ENDED, len(ENDED))
        for i in range(n):
            file = FILES[ENDED[i]]
            if file is not None and file.refs == 0 and not file.numbers():
                try:
                    file.unused()
                except Errno:
                    pass  # the guest was told that it is closed
        if n < len(ENDED):
            return


def settle() -> None:
    """Somebody is going to watch files: from now on C opens and ends none by itself, and what was closed before is no event."""
    lib.cn_files_watched(1)
    end_closed()


class DirFile(File):
    """A directory opened for reading, over Inode.listing."""

    def __init__(self, flags: int, path: Path | None, inode: Inode | None) -> None:
        super().__init__(flags, path, inode)
        self.mirror = MIRROR_PLACE
        self.ending = END_LATER

    @property
    def spliceable(self) -> bool:
        return False

    def listing(self, t: Task) -> bytes:
        inode = self.inode
        path = self.path
        if inode is None or path is None:
            raise Errno(E.ENOTDIR)
        above = path.dentry.parent
        up = above.inode if above is not None and above.inode is not None else inode
        dots = listing.record(inode.getattr().ino, 1, DT_DIR, b".") + listing.record(
            up.getattr().ino, 2, DT_DIR, b".."
        )
        return dots + inode.listing()

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        raise Errno(E.EISDIR)

    def seek(self, t: Task, offset: int, whence: int) -> int:
        if whence == F.SEEK_CUR:
            offset += self.pos
        elif whence != F.SEEK_SET:
            raise Errno(E.EINVAL)
        if offset < 0:
            raise Errno(E.EINVAL)
        if offset == 0:
            self.dirents = None  # rewinddir: read anew
        self.pos = offset
        return offset

    def fsync(self, t: Task, data_only: bool) -> None:
        pass
