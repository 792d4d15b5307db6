"""open(2), close(2), dup(2), fcntl(2) and kin: descriptors."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mman as MM
from sentry.abi import resource as R
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs import tmpfs
from sentry.fs.pipe import PipeFile
from sentry.syscalls import lock
from sentry.vfs import access, opening, sigio, walk
from sentry.vfs.file import File
from sentry.vfs.mount import anon_path

if TYPE_CHECKING:
    from sentry.kernel.task import Task

OPEN_HOW: Final = struct.Struct("<QQQ")
OWNER_EX: Final = struct.Struct("<ii")
SETTABLE: Final = F.O_APPEND | F.O_ASYNC | F.O_DIRECT | F.O_NOATIME | F.O_NONBLOCK
OPENAT2_FLAGS: Final = (
    F.O_ACCMODE | F.O_CREAT | F.O_EXCL | F.O_NOCTTY | F.O_TRUNC | F.O_APPEND | F.O_NONBLOCK | F.O_SYNC | F.O_ASYNC | F.O_DIRECT
    | F.O_LARGEFILE | F.O_DIRECTORY | F.O_NOFOLLOW | F.O_NOATIME | F.O_CLOEXEC | F.O_PATH | F.O_TMPFILE
)  # fmt: skip
SEALS: Final = F.F_SEAL_SEAL | F.F_SEAL_SHRINK | F.F_SEAL_GROW | F.F_SEAL_WRITE | F.F_SEAL_FUTURE_WRITE
MFD_NAME_MAX: Final = 249  # NAME_MAX less "memfd:"


def nofile(t: Task) -> int:
    return t.tg.limits.soft(R.RLIMIT_NOFILE)


def install(t: Task, file: File, cloexec: bool) -> int:
    """Gives a new description a number; it is gone again when there is none left."""
    try:
        return t.fds.install(file, cloexec, nofile(t))
    except Errno:
        file.close()
        raise


def openat(t: Task, dirfd: int, path: int, flags: int, mode: int) -> int:
    """openat(2)"""
    file = opening.open_file(t, dirfd, t.mm.read_path(path), flags, mode)
    fd = install(t, file, bool(flags & F.O_CLOEXEC))
    if file.spare:
        lib.cn_file_opened(t.native, file.published())
    return fd


def open(t: Task, path: int, flags: int, mode: int) -> int:
    """open(2)"""
    return openat(t, F.AT_FDCWD, path, flags, mode)


def creat(t: Task, path: int, mode: int) -> int:
    """creat(2)"""
    return openat(t, F.AT_FDCWD, path, F.O_CREAT | F.O_WRONLY | F.O_TRUNC, mode)


def openat2(t: Task, dirfd: int, path: int, how: int, size: int) -> int:
    """openat2(2)"""
    if size < OPEN_HOW.size:
        raise Errno(E.EINVAL)
    if size > 4096:
        raise Errno(E.E2BIG)
    raw = t.mm.read(how, size)
    if any(raw[OPEN_HOW.size :]):
        raise Errno(E.E2BIG)
    flags, mode, resolve = OPEN_HOW.unpack_from(raw)
    if flags & ~OPENAT2_FLAGS or mode & ~0o7777:
        raise Errno(E.EINVAL)
    if mode and not flags & (F.O_CREAT | opening.TMPFILE_BIT):
        raise Errno(E.EINVAL)
    if flags & F.O_PATH and flags & ~opening.PATH_FLAGS:
        raise Errno(E.EINVAL)
    if flags & opening.TMPFILE_BIT and not flags & F.O_DIRECTORY:
        raise Errno(E.EINVAL)
    return install(
        t,
        opening.open_file(t, dirfd, t.mm.read_path(path), flags, mode, resolve_flags(flags, resolve)),
        bool(flags & F.O_CLOEXEC),
    )


def resolve_flags(flags: int, resolve: int) -> int:
    """RESOLVE_* as walk flags."""
    how = 0
    for bit, flag in (
        (F.RESOLVE_NO_XDEV, walk.NO_XDEV),
        (F.RESOLVE_NO_MAGICLINKS, walk.NO_MAGICLINKS),
        (F.RESOLVE_NO_SYMLINKS, walk.NO_SYMLINKS | walk.NO_MAGICLINKS),
        (F.RESOLVE_BENEATH, walk.BENEATH),
        (F.RESOLVE_IN_ROOT, walk.IN_ROOT),
        (F.RESOLVE_CACHED, walk.CACHED),
    ):
        if resolve & bit:
            how |= flag
            resolve &= ~bit
    if resolve or how & (walk.BENEATH | walk.IN_ROOT) == walk.BENEATH | walk.IN_ROOT:
        raise Errno(E.EINVAL)
    if how & walk.CACHED and flags & (F.O_TRUNC | F.O_CREAT | opening.TMPFILE_BIT):
        raise Errno(E.EAGAIN)
    return how


def close(t: Task, fd: int) -> int:
    """close(2)"""
    t.fds.close(t, fd)
    return 0


def close_range(t: Task, first: int, last: int, flags: int) -> int:
    """close_range(2)"""
    if flags & ~(F.CLOSE_RANGE_UNSHARE | F.CLOSE_RANGE_CLOEXEC) or first > last:
        raise Errno(E.EINVAL)
    if flags & F.CLOSE_RANGE_UNSHARE and t.fds.users > 1:
        old = t.fds
        t.use_fds(old.copy())
        old.unref(t)
    if flags & F.CLOSE_RANGE_CLOEXEC:
        for fd in t.fds.fds(first):
            if fd <= last:
                t.fds.set_cloexec(fd, True)
    else:
        t.fds.close_range(t, first, last + 1)
    return 0


def dup(t: Task, fd: int) -> int:
    """dup(2)"""
    return t.fds.install(t.fds.get(fd), False, nofile(t))


def dup2(t: Task, oldfd: int, newfd: int) -> int:
    """dup2(2)"""
    if oldfd == newfd:
        t.fds.get(oldfd)
        return newfd
    return replace(t, oldfd, newfd, False)


def dup3(t: Task, oldfd: int, newfd: int, flags: int) -> int:
    """dup3(2)"""
    if flags & ~F.O_CLOEXEC or oldfd == newfd:
        raise Errno(E.EINVAL)
    return replace(t, oldfd, newfd, bool(flags & F.O_CLOEXEC))


def replace(t: Task, oldfd: int, newfd: int, cloexec: bool) -> int:
    if not 0 <= newfd < nofile(t):
        raise Errno(E.EBADF)
    t.fds.put(t, newfd, t.fds.get(oldfd), cloexec)
    return newfd


def fcntl(t: Task, fd: int, cmd: int, arg: int) -> int:
    """fcntl(2). Leases are refused."""
    file = t.fds.get(fd)
    if cmd == F.F_GETFD:
        return F.FD_CLOEXEC if t.fds.cloexec(fd) else 0
    if cmd == F.F_SETFD:
        t.fds.set_cloexec(fd, bool(arg & F.FD_CLOEXEC))
        return 0
    if cmd == F.F_DUPFD or cmd == F.F_DUPFD_CLOEXEC:
        lowest = arg & 0xFFFFFFFF
        if lowest >= nofile(t):
            raise Errno(E.EINVAL)
        return t.fds.install(file, cmd == F.F_DUPFD_CLOEXEC, nofile(t), lowest)
    if cmd == F.F_GETFL:
        return file.flags
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if cmd in (F.F_SETFL, F.F_SETOWN, F.F_SETOWN_EX, F.F_SETSIG, F.F_NOTIFY):
        file.changed()
    if cmd == F.F_SETFL:
        return set_flags(t, fd, file, arg & 0xFFFFFFFF)
    if cmd in (F.F_GETLK, F.F_OFD_GETLK):
        return lock.get(t, file, cmd == F.F_OFD_GETLK, arg)
    if cmd in (F.F_SETLK, F.F_SETLKW, F.F_OFD_SETLK, F.F_OFD_SETLKW):
        return lock.set(
            t, fd, file, cmd in (F.F_OFD_SETLK, F.F_OFD_SETLKW), cmd in (F.F_SETLKW, F.F_OFD_SETLKW), arg
        )
    if cmd in OWNER_COMMANDS:
        return owner(t, file, cmd, arg)
    if cmd == F.F_GET_SEALS or cmd == F.F_ADD_SEALS:
        return seals(t, file, cmd, arg & 0xFFFFFFFF)
    if cmd == F.F_GETPIPE_SZ or cmd == F.F_SETPIPE_SZ:
        if not isinstance(file, PipeFile):
            raise Errno(E.EBADF)
        return file.capacity() if cmd == F.F_GETPIPE_SZ else file.set_capacity(t, arg & 0xFFFFFFFF)
    if cmd == F.F_NOTIFY:
        sigio.notify_directory(t, file, fd, arg & 0xFFFFFFFF)
        return 0
    if cmd == F.F_GETLEASE:
        return F.F_UNLCK  # nobody can have one
    raise Errno(E.EINVAL)


OWNER_COMMANDS: Final = frozenset(
    (F.F_SETOWN, F.F_GETOWN, F.F_SETOWN_EX, F.F_GETOWN_EX, F.F_SETSIG, F.F_GETSIG)
)


def set_flags(t: Task, fd: int, file: File, flags: int) -> int:
    """F_SETFL"""
    if flags & F.O_NOATIME and not file.flags & F.O_NOATIME:
        inode = file.inode
        if inode is not None and not access.owner_or_capable(t.creds, inode):
            raise Errno(E.EPERM)
    if (
        flags & F.O_DIRECT
        and not file.flags & F.O_DIRECT
        and file.inode is not None
        and file.inode.mode & S.S_IFMT == S.S_IFREG
    ):
        raise Errno(E.EINVAL)  # no file system here does direct I/O
    if (flags ^ file.flags) & F.O_ASYNC:
        sigio.set_async(file, fd, bool(flags & F.O_ASYNC))
    file.set_flags((file.flags & ~SETTABLE) | (flags & SETTABLE))
    file.remirror()
    return 0


def owner(t: Task, file: File, cmd: int, arg: int) -> int:
    """Who gets SIGIO, and which signal instead."""
    if cmd == F.F_GETSIG:
        return file.sig
    if cmd == F.F_SETSIG:
        if not 0 <= arg <= 64:
            raise Errno(E.EINVAL)
        file.sig = arg
        return 0
    if cmd == F.F_GETOWN:
        # A group would look like an error from -4095 on; libc asks by F_GETOWN_EX, so the raw call does as Linux.
        return -file.owner if file.owner_type == F.F_OWNER_PGRP else file.owner
    if cmd == F.F_GETOWN_EX:
        t.mm.write(arg, OWNER_EX.pack(file.owner_type, file.owner))
        return 0
    if cmd == F.F_SETOWN:
        value = arg & 0xFFFFFFFF
        if value & 0x80000000:
            value -= 1 << 32
        if value == -(1 << 31):
            raise Errno(E.EINVAL)
        kind = F.F_OWNER_PGRP if value < 0 else F.F_OWNER_PID
        value = abs(value)
    else:
        kind, value = OWNER_EX.unpack(t.mm.read(arg, OWNER_EX.size))
        if kind not in (F.F_OWNER_TID, F.F_OWNER_PID, F.F_OWNER_PGRP) or value < 0:
            raise Errno(E.EINVAL)
    if value:
        known = value in t.pidns.pgroups if kind == F.F_OWNER_PGRP else value in t.pidns.tasks
        if not known:
            raise Errno(E.ESRCH)
    sigio.set_owner(t, file, kind, value)
    return 0


def seals(t: Task, file: File, cmd: int, arg: int) -> int:
    """F_GET_SEALS, F_ADD_SEALS of a memory file."""
    inode = file.inode
    if not isinstance(inode, tmpfs.TmpFile) or inode.sb.fstype != b"tmpfs":
        raise Errno(E.EINVAL)
    if cmd == F.F_GET_SEALS:
        return inode.seals
    if arg & ~SEALS:
        raise Errno(E.EINVAL)
    if not file.writable or inode.seals & F.F_SEAL_SEAL:
        raise Errno(E.EPERM)
    if arg & F.F_SEAL_WRITE and not inode.seals & F.F_SEAL_WRITE and shared_writable(t, inode):
        raise Errno(E.EBUSY)
    inode.seals |= arg
    inode.guard_writes()
    return 0


def shared_writable(t: Task, inode: tmpfs.TmpFile) -> bool:
    """Could some process write the file through a shared mapping?"""
    ident = inode.data.ident()
    seen: set[int] = set()
    for task in t.pidns.tasks.values():
        mm = task.mm
        if not task.alive or id(mm) in seen:
            continue
        seen.add(id(mm))
        for region in mm.regions():
            if (
                region.object == ident
                and region.flags & lib.CN_VMA_SHARED
                and region.file is not None
                and region.file.writable
            ):
                return True
    return False


def memfd_create(t: Task, name: int, flags: int) -> int:
    """memfd_create(2). Huge pages are refused."""
    if flags & ~(MM.MFD_CLOEXEC | MM.MFD_ALLOW_SEALING):
        raise Errno(E.EINVAL)
    try:
        label = t.mm.read_cstr(name, MFD_NAME_MAX + 1)
    except Errno as e:
        raise Errno(E.EINVAL if e.errno == E.ENAMETOOLONG else e.errno) from None
    sb = MEMFD.sb()
    inode = tmpfs.TmpFile(sb, sb.new_attr(S.S_IFREG | 0o777, t.creds.fsuid, t.creds.fsgid))
    inode.attr.nlink = 0
    if flags & MM.MFD_ALLOW_SEALING:
        inode.seals = 0
    path = anon_path(inode, b"/memfd:" + label)
    path.dentry.deleted = True
    file = inode.open(t, path, F.O_RDWR | F.O_LARGEFILE)
    inode.writers += 1
    file.counted = True
    return install(t, file, bool(flags & MM.MFD_CLOEXEC))


class MemfdMount:
    """The unmounted tmpfs in which memfd files live."""

    def __init__(self) -> None:
        self.super: tmpfs.TmpSuper | None = None

    def sb(self) -> tmpfs.TmpSuper:
        if self.super is None:
            self.super = tmpfs.TmpSuper(1)
        return self.super


MEMFD: Final = MemfdMount()


def name_to_handle_at(t: Task, dirfd: int, path: int, handle: int, mount_id: int, flags: int) -> int:
    """name_to_handle_at(2): no file system here has persistent handles."""
    how = walk.FOLLOW if flags & F.AT_SYMLINK_FOLLOW else 0
    if flags & ~(F.AT_SYMLINK_FOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    if flags & F.AT_EMPTY_PATH:
        how |= walk.EMPTY
    walk.resolve(t, dirfd, t.mm.read_path(path), how)
    raise Errno(E.EOPNOTSUPP)


def open_by_handle_at(t: Task, mountfd: int, handle: int, flags: int) -> int:
    """open_by_handle_at(2): see name_to_handle_at."""
    if not t.creds.has(C.CAP_DAC_READ_SEARCH):
        raise Errno(E.EPERM)
    raise Errno(E.EOPNOTSUPP)
