"""Names: mkdir(2), unlink(2), rename(2), link(2), symlink(2), readlink(2), getdents(2), getcwd(2), chdir(2), umask(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, namei, walk
from sentry.vfs.file import File
from sentry.vfs.listing import DIRENT64
from sentry.vfs.mount import Path
from sentry.vfs.special import major, makedev, minor

if TYPE_CHECKING:
    from sentry.kernel.task import Task

DIRENT: Final = struct.Struct(
    "<QqH"
)  # d_ino, d_off, d_reclen; then the name, NUL, padding and d_type in the last byte
CWD: Final = F.AT_FDCWD
MAX_LISTED: Final = 1 << 20  # bytes of one call
CURSOR: Final = ffi.new("uint64_t[2]")  # byte and number of the next record (with K held)


def mkdirat(t: Task, dirfd: int, path: int, mode: int) -> int:
    """mkdirat(2)"""
    namei.mkdir(t, dirfd, t.mm.read_path(path), mode)
    return 0


def mkdir(t: Task, path: int, mode: int) -> int:
    """mkdir(2)"""
    return mkdirat(t, CWD, path, mode)


def mknodat(t: Task, dirfd: int, path: int, mode: int, dev: int) -> int:
    """mknodat(2)"""
    namei.mknod(t, dirfd, t.mm.read_path(path), mode, makedev(major(dev), minor(dev)))
    return 0


def mknod(t: Task, path: int, mode: int, dev: int) -> int:
    """mknod(2)"""
    return mknodat(t, CWD, path, mode, dev)


def unlinkat(t: Task, dirfd: int, path: int, flags: int) -> int:
    """unlinkat(2)"""
    if flags & ~F.AT_REMOVEDIR:
        raise Errno(E.EINVAL)
    name = t.mm.read_path(path)
    if flags & F.AT_REMOVEDIR:
        namei.rmdir(t, dirfd, name)
    else:
        namei.unlink(t, dirfd, name)
    return 0


def unlink(t: Task, path: int) -> int:
    """unlink(2)"""
    namei.unlink(t, CWD, t.mm.read_path(path))
    return 0


def rmdir(t: Task, path: int) -> int:
    """rmdir(2)"""
    namei.rmdir(t, CWD, t.mm.read_path(path))
    return 0


def renameat2(t: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    """renameat2(2). RENAME_WHITEOUT is refused."""
    namei.rename(t, olddirfd, t.mm.read_path(old), newdirfd, t.mm.read_path(new), flags)
    return 0


def renameat(t: Task, olddirfd: int, old: int, newdirfd: int, new: int) -> int:
    """renameat(2)"""
    return renameat2(t, olddirfd, old, newdirfd, new, 0)


def rename(t: Task, old: int, new: int) -> int:
    """rename(2)"""
    return renameat2(t, CWD, old, CWD, new, 0)


def linkat(t: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    """linkat(2)"""
    if flags & ~(F.AT_SYMLINK_FOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    namei.link(t, olddirfd, t.mm.read_path(old), newdirfd, t.mm.read_path(new), flags)
    return 0


def link(t: Task, old: int, new: int) -> int:
    """link(2)"""
    return linkat(t, CWD, old, CWD, new, 0)


def symlinkat(t: Task, target: int, dirfd: int, link: int) -> int:
    """symlinkat(2)"""
    namei.symlink(t, t.mm.read_path(target), dirfd, t.mm.read_path(link))
    return 0


def symlink(t: Task, target: int, link: int) -> int:
    """symlink(2)"""
    return symlinkat(t, target, CWD, link)


def readlinkat(t: Task, dirfd: int, path: int, buf: int, size: int) -> int:
    """readlinkat(2)"""
    if size <= 0:
        raise Errno(E.EINVAL)
    name = t.mm.read_path(path)
    place = walk.resolve(t, dirfd, name, walk.EMPTY)
    inode = place.inode
    if inode.mode & S.S_IFMT != S.S_IFLNK:
        raise Errno(E.EINVAL if name else E.ENOENT)
    target = inode.readlink_for(t)[:size]
    t.mm.write(buf, target)
    inode.touch(True, False)
    return len(target)


def readlink(t: Task, path: int, buf: int, size: int) -> int:
    """readlink(2)"""
    return readlinkat(t, CWD, path, buf, size)


# Listing


def directory(t: Task, fd: int) -> File:
    file = t.fds.get(fd)
    if not file.readable:
        raise Errno(E.EBADF)
    if file.inode is None or file.inode.mode & S.S_IFMT != S.S_IFDIR:
        raise Errno(E.ENOTDIR)
    if file.dirents is None:
        if file.path is not None and file.path.dentry.deleted:
            raise Errno(E.ENOENT)
        file.dirents = file.listing(t)
        file.record_at = file.record_pos = 0
        if file.pos == 0:
            file.inode.touch(True, False)
    if file.pos != file.record_pos:
        file.record_at = lib.cn_dirents_seek(file.dirents, len(file.dirents), file.pos)
    return file


def list_entries(t: Task, file: File, buf: int, count: int) -> int:
    """Hands out records from the description's position on; d_off is the position after each."""
    records = file.dirents
    assert records is not None
    CURSOR[0] = file.record_at
    CURSOR[1] = file.pos
    n: int = lib.cn_dirents_out(
        t.mm.native, buf, min(count, MAX_LISTED), records, len(records), CURSOR, CURSOR + 1
    )
    if n < 0:
        raise Errno(-n)
    if n:
        file.record_at = CURSOR[0]
        file.pos = file.record_pos = CURSOR[1]
    return n


def getdents64(t: Task, fd: int, buf: int, count: int) -> int:
    """getdents64(2)"""
    return list_entries(t, directory(t, fd), buf, count)


def getdents(t: Task, fd: int, buf: int, count: int) -> int:
    """getdents(2): records of the same length, with the type in the last byte."""
    file = directory(t, fd)
    records = file.dirents
    assert records is not None
    out = bytearray()
    at = file.record_at
    pos = file.pos
    while at < len(records):
        ino, off, length, dtype = DIRENT64.unpack_from(records, at)
        if len(out) + length > min(count, MAX_LISTED):
            if not out:
                raise Errno(E.EINVAL)
            break
        out += DIRENT.pack(ino, off, length)
        out += records[at + DIRENT64.size : at + length]
        out.append(dtype)
        at += length
        pos += 1
    t.mm.write(buf, bytes(out))
    file.record_at = at
    file.pos = file.record_pos = pos
    return len(out)


# Where a task is


def getcwd(t: Task, buf: int, size: int) -> int:
    """getcwd(2): returns the length with NUL. "(unreachable)" when the directory does not lie below the root."""
    cwd = t.fs.cwd
    if cwd.dentry.deleted:
        raise Errno(E.ENOENT)
    text = walk.path_bytes(cwd, t.fs.root) + b"\0"
    if len(text) > F.PATH_MAX:
        raise Errno(E.ENAMETOOLONG)
    if len(text) > size:
        raise Errno(E.ERANGE)
    t.mm.write(buf, text)
    return len(text)


def enter(t: Task, place: Path) -> None:
    access.require(t.creds, place.inode, access.MAY_EXEC)
    t.fs.set_cwd(place)


def chdir(t: Task, path: int) -> int:
    """chdir(2)"""
    enter(t, walk.resolve(t, CWD, t.mm.read_path(path), walk.FOLLOW | walk.DIRECTORY))
    return 0


def fchdir(t: Task, fd: int) -> int:
    """fchdir(2)"""
    place = t.fds.get(fd).path
    if place is None or not namei.is_dir(place.inode):
        raise Errno(E.ENOTDIR)
    enter(t, place)
    return 0


def chroot(t: Task, path: int) -> int:
    """chroot(2)"""
    place = walk.resolve(t, CWD, t.mm.read_path(path), walk.FOLLOW | walk.DIRECTORY)
    access.require(t.creds, place.inode, access.MAY_EXEC)
    if not t.creds.has(C.CAP_SYS_CHROOT):
        raise Errno(E.EPERM)
    t.fs.set_root(place)
    return 0


def umask(t: Task, mask: int) -> int:
    """umask(2)"""
    old = t.fs.umask
    t.fs.umask = mask & 0o777
    return old
