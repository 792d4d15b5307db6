"""read(2), write(2) and kin, lseek(2), fsync(2), fallocate(2), sync(2), fadvise(2), ioctl(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IOC
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.abi import uio as U
from sentry.errors import Errno
from sentry.kernel import signals
from sentry.vfs import attrs, opening, sigio, transfer, walk
from sentry.vfs.file import File
from sentry.vfs.transfer import Segment

if TYPE_CHECKING:
    from sentry.kernel.task import Task

IOVEC: Final = struct.Struct("<QQ")
SSIZE_MAX: Final = 0x7FFFFFFFFFFFFFFF


def read(t: Task, fd: int, buf: int, count: int) -> int:
    """read(2)"""
    return transfer.read(t, t.fds.get(fd), buf, count, -1, 0)


def write(t: Task, fd: int, buf: int, count: int) -> int:
    """write(2)"""
    return transfer.write(t, t.fds.get(fd), buf, count, -1, 0)


def pread64(t: Task, fd: int, buf: int, count: int, offset: int) -> int:
    """pread(2)"""
    file = t.fds.get(fd)
    if offset < 0:
        raise Errno(E.EINVAL)
    return transfer.read(t, file, buf, count, offset, 0)


def pwrite64(t: Task, fd: int, buf: int, count: int, offset: int) -> int:
    """pwrite(2)"""
    file = t.fds.get(fd)
    if offset < 0:
        raise Errno(E.EINVAL)
    return transfer.write(t, file, buf, count, offset, 0)


def read_iov(t: Task, iov: int, count: int) -> list[Segment]:
    """The segments of an iovec array, cut off at what one call may move. EINVAL for too many or a negative length."""
    if count > U.UIO_MAXIOV:
        raise Errno(E.EINVAL)
    raw = t.mm.read(iov, count * IOVEC.size)
    out: list[Segment] = []
    room = transfer.MAX_RW
    for addr, length in IOVEC.iter_unpack(raw):
        if length > SSIZE_MAX:
            raise Errno(E.EINVAL)
        out.append(Segment(addr, min(length, room)))
        room -= min(length, room)
    return out


def readv(t: Task, fd: int, iov: int, count: int) -> int:
    """readv(2)"""
    file = t.fds.get(fd)
    return transfer.readv(t, file, read_iov(t, iov, count), -1, 0)


def writev(t: Task, fd: int, iov: int, count: int) -> int:
    """writev(2)"""
    file = t.fds.get(fd)
    return transfer.writev(t, file, read_iov(t, iov, count), -1, 0)


def position(low: int) -> int:
    """The offset of preadv(2): on a 64-bit machine the low half is all of it. EINVAL when negative."""
    if low > SSIZE_MAX:
        raise Errno(E.EINVAL)
    return low


def preadv(t: Task, fd: int, iov: int, count: int, low: int, high: int) -> int:
    """preadv(2)"""
    file = t.fds.get(fd)
    offset = position(low)
    return transfer.readv(t, file, read_iov(t, iov, count), offset, 0)


def pwritev(t: Task, fd: int, iov: int, count: int, low: int, high: int) -> int:
    """pwritev(2)"""
    file = t.fds.get(fd)
    offset = position(low)
    return transfer.writev(t, file, read_iov(t, iov, count), offset, 0)


def rwf(flags: int) -> int:
    """Per-call flags. RWF_HIPRI is a hint; the sync ones are met because nothing is buffered here."""
    if flags & ~F.RWF_SUPPORTED:
        raise Errno(E.EOPNOTSUPP)
    out = 0
    if flags & F.RWF_NOWAIT:
        out |= transfer.NOWAIT
    if flags & F.RWF_APPEND:
        out |= transfer.APPEND
    return out


def preadv2(t: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> int:
    """preadv2(2); offset -1 is the file position."""
    file = t.fds.get(fd)
    offset = -1 if low == 0xFFFFFFFFFFFFFFFF else position(low)
    return transfer.readv(t, file, read_iov(t, iov, count), offset, rwf(flags))


def pwritev2(t: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> int:
    """pwritev2(2)"""
    file = t.fds.get(fd)
    offset = -1 if low == 0xFFFFFFFFFFFFFFFF else position(low)
    n = transfer.writev(t, file, read_iov(t, iov, count), offset, rwf(flags))
    if flags & (F.RWF_DSYNC | F.RWF_SYNC):
        file.fsync(t, not flags & F.RWF_SYNC)
    return n


def lseek(t: Task, fd: int, offset: int, whence: int) -> int:
    """lseek(2)"""
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if whence > F.SEEK_MAX:
        raise Errno(E.EINVAL)
    return file.seek(t, offset, whence)


# Size and storage


def check_size(t: Task, size: int) -> None:
    if size < 0:
        raise Errno(E.EINVAL)
    if size > t.tg.limits.soft(R.RLIMIT_FSIZE):
        signals.send_to_task(t, signals.kernel_info(SIG.SIGXFSZ))
        raise Errno(E.EFBIG)


def truncate(t: Task, path: int, length: int) -> int:
    """truncate(2)"""
    if length < 0:
        raise Errno(E.EINVAL)
    place = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(path), walk.FOLLOW)
    if length > place.inode.getattr().size:
        check_size(t, length)
    attrs.truncate(t, place, length)
    return 0


def ftruncate(t: Task, fd: int, length: int) -> int:
    """ftruncate(2)"""
    if length < 0:
        raise Errno(E.EINVAL)
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    inode = file.inode
    if not file.writable or inode is None or inode.mode & S.S_IFMT != S.S_IFREG:
        raise Errno(E.EINVAL)
    if length > inode.getattr().size:
        check_size(t, length)
    opening.truncate_inode(t, inode, length)
    transfer.modified(file)
    return 0


def fallocate(t: Task, fd: int, mode: int, offset: int, length: int) -> int:
    """fallocate(2)"""
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if offset < 0 or length <= 0:
        raise Errno(E.EINVAL)
    if mode & F.FALLOC_FL_PUNCH_HOLE and not mode & F.FALLOC_FL_KEEP_SIZE:
        raise Errno(E.EOPNOTSUPP)
    if not file.writable:
        raise Errno(E.EBADF)
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT == S.S_IFIFO:
        raise Errno(E.ESPIPE)
    if inode.mode & S.S_IFMT != S.S_IFREG:
        raise Errno(E.ENODEV)
    if offset + length > SSIZE_MAX:
        raise Errno(E.EFBIG)
    if not mode & F.FALLOC_FL_KEEP_SIZE and offset + length > inode.getattr().size:
        check_size(t, offset + length)
    file.fallocate(t, mode, offset, length)
    transfer.before_write(t, file)
    transfer.after_write(file)
    return 0


def opened(t: Task, fd: int) -> File:
    """A description that is more than a path; EBADF."""
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    return file


def fsync(t: Task, fd: int) -> int:
    """fsync(2)"""
    opened(t, fd).fsync(t, False)
    return 0


def fdatasync(t: Task, fd: int) -> int:
    """fdatasync(2)"""
    opened(t, fd).fsync(t, True)
    return 0


def sync_file_range(t: Task, fd: int, offset: int, length: int, flags: int) -> int:
    """sync_file_range(2): writes all of the file."""
    file = opened(t, fd)
    if flags & ~F.SYNC_FILE_RANGE_WRITE_AND_WAIT or offset < 0 or length < 0 or offset + length > SSIZE_MAX:
        raise Errno(E.EINVAL)
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT not in (S.S_IFREG, S.S_IFBLK, S.S_IFDIR, S.S_IFLNK):
        raise Errno(E.ESPIPE)
    if flags:
        file.fsync(t, True)
    return 0


def sync(t: Task) -> int:
    """sync(2)"""
    ns = t.fs.root.mount.ns
    if ns is not None:
        for mount in ns.mounts:
            mount.sb.sync()
    return 0


def syncfs(t: Task, fd: int) -> int:
    """syncfs(2)"""
    file = opened(t, fd)
    if file.path is not None:
        file.path.mount.sb.sync()
    return 0


def readahead(t: Task, fd: int, offset: int, count: int) -> int:
    """readahead(2): the host's page cache does it by itself."""
    file = t.fds.get(fd)
    if not file.readable:
        raise Errno(E.EBADF)
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT not in (S.S_IFREG, S.S_IFBLK):
        raise Errno(E.EINVAL)
    return 0


def fadvise64(t: Task, fd: int, offset: int, length: int, advice: int) -> int:
    """posix_fadvise(2): advice on caching, which is the host's business."""
    file = opened(t, fd)
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT == S.S_IFIFO:
        raise Errno(E.ESPIPE)
    if length < 0 or not F.POSIX_FADV_NORMAL <= advice <= F.POSIX_FADV_NOREUSE:
        raise Errno(E.EINVAL)
    return 0


def ioctl(t: Task, fd: int, cmd: int, arg: int) -> int:
    """ioctl(2): the generic requests here, the rest is the file's."""
    file = opened(t, fd)
    if cmd == IOC.FIOCLEX:
        t.fds.set_cloexec(fd, True)
        return 0
    if cmd == IOC.FIONCLEX:
        t.fds.set_cloexec(fd, False)
        return 0
    if cmd == IOC.FIONBIO or cmd == IOC.FIOASYNC:
        bit = F.O_NONBLOCK if cmd == IOC.FIONBIO else F.O_ASYNC
        on = t.mm.read_i32(arg) != 0
        if cmd == IOC.FIOASYNC:
            sigio.set_async(file, fd, on)
        file.set_flags(file.flags | bit if on else file.flags & ~bit)
        file.remirror()
        return 0
    inode = file.inode
    if inode is not None and inode.mode & S.S_IFMT in (S.S_IFREG, S.S_IFDIR):
        if cmd == IOC.FIOQSIZE:
            t.mm.write_u64(arg, inode.getattr().size)
            return 0
        if cmd == F.FIGETBSZ:
            t.mm.write_u32(arg, inode.getattr().blksize)
            return 0
        if cmd == IOC.FIONREAD and inode.mode & S.S_IFMT == S.S_IFREG:
            t.mm.write_u32(arg, max(0, min(file.size() - file.pos, 0x7FFFFFFF)))
            return 0
    return file.ioctl(t, cmd, arg)
