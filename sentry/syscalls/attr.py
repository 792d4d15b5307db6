"""stat(2), statx(2), access(2), chmod(2), chown(2), utimensat(2), statfs(2) and kin."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.abi import statfs as SF
from sentry.errors import Errno
from sentry.kernel.creds import Creds
from sentry.vfs import access as may
from sentry.vfs import attrs, walk
from sentry.vfs.attr import Attr
from sentry.vfs.file import File
from sentry.vfs.inode import SuperBlock
from sentry.vfs.mount import Mount, Path, anon_path
from sentry.vfs.special import major, minor

if TYPE_CHECKING:
    from sentry.kernel.task import Task

CWD: Final = F.AT_FDCWD
NS: Final = 1_000_000_000
FAR: Final = 1 << 62  # ns; times that a guest sets may be further away
# struct stat: dev ino nlink mode uid gid pad rdev size blksize blocks, then three timespecs and three unused words
STAT: Final = struct.Struct("<QQQIIIIQqqqqqqqqq24x")
# struct statx: mask blksize attributes nlink uid gid mode pad ino size blocks attributes_mask; 4 timestamps of sec, nsec, pad;
# rdev and dev as major, minor; mnt_id; dio alignments; spare
STATX: Final = struct.Struct("<IIQIIIHxxQQQQqIxxxxqIxxxxqIxxxxqIxxxxIIIIQ104x")
STATFS: Final = struct.Struct("<qqQQQQQiiqqq32x")
TIMES: Final = struct.Struct("<qqqq")
UTIMBUF: Final = struct.Struct("<qq")
ST_VALID: Final = 0x20
STATX_ATTRIBUTES: Final = S.STATX_ATTR_MOUNT_ROOT


def pack_stat(a: Attr) -> bytes:
    atime, mtime, ctime = a.atime, a.mtime, a.ctime
    return STAT.pack(
        a.dev,
        a.ino,
        a.nlink,
        a.mode,
        a.uid,
        a.gid,
        0,
        a.rdev,
        a.size,
        a.blksize,
        a.blocks,
        atime // NS,
        atime % NS,
        mtime // NS,
        mtime % NS,
        ctime // NS,
        ctime % NS,
    )


def put_stat(t: Task, buf: int, a: Attr, steady: bool) -> int:
    """Writes a struct stat; steady: it stays so until something changes (cn_names_changed)."""
    atime, mtime, ctime = a.atime, a.mtime, a.ctime
    if -FAR < atime < FAR and -FAR < mtime < FAR and -FAR < ctime < FAR:
        rc: int = lib.cn_names_stat(
            t.native,
            buf,
            steady,
            a.dev,
            a.ino,
            a.nlink,
            a.mode,
            a.uid,
            a.gid,
            a.rdev,
            a.size,
            a.blksize,
            a.blocks,
            atime,
            mtime,
            ctime,
        )
        return rc
    t.mm.write(buf, pack_stat(a))
    return 0


def stat_at(t: Task, dirfd: int, name: bytes, buf: int, how: int) -> int:
    w = walk.begin(t, dirfd, name, how)
    w.run(name, False)
    inode = walk.ended(w)
    return put_stat(t, buf, inode.getattr(), w.stable and inode.steady())


def stat(t: Task, path: int, buf: int) -> int:
    """stat(2)"""
    return stat_at(t, CWD, t.mm.read_path(path), buf, walk.FOLLOW)


def lstat(t: Task, path: int, buf: int) -> int:
    """lstat(2)"""
    return stat_at(t, CWD, t.mm.read_path(path), buf, 0)


def fstat(t: Task, fd: int, buf: int) -> int:
    """fstat(2)"""
    file = t.fds.get(fd)
    inode = file.inode
    return put_stat(t, buf, file.getattr(), inode is not None and inode.sb.stable and inode.steady())


def at_flags(flags: int, more: int = 0) -> int:
    """AT_* of the stat family as walk flags; EINVAL for others."""
    if flags & ~(F.AT_SYMLINK_NOFOLLOW | F.AT_NO_AUTOMOUNT | F.AT_EMPTY_PATH | more):
        raise Errno(E.EINVAL)
    how = 0 if flags & F.AT_SYMLINK_NOFOLLOW else walk.FOLLOW
    if flags & F.AT_EMPTY_PATH:
        how |= walk.EMPTY
    return how


def newfstatat(t: Task, dirfd: int, path: int, buf: int, flags: int) -> int:
    """fstatat(2)"""
    how = at_flags(flags)
    name = t.mm.read_path(path)
    if not name and how & walk.EMPTY and dirfd != CWD:
        return fstat(t, dirfd, buf)
    return stat_at(t, dirfd, name, buf, how)


def statx(t: Task, dirfd: int, path: int, flags: int, mask: int, buf: int) -> int:
    """statx(2)"""
    how = at_flags(flags, F.AT_STATX_SYNC_TYPE)
    if mask & S.STATX__RESERVED or flags & F.AT_STATX_SYNC_TYPE == F.AT_STATX_SYNC_TYPE:
        raise Errno(E.EINVAL)
    name = t.mm.read_path(path)
    place: Path | None = None
    if not name and how & walk.EMPTY and dirfd != CWD:
        file = t.fds.get(dirfd)
        a = file.getattr()
        place = file.path
    else:
        place = walk.resolve(t, dirfd, name, how)
        a = place.inode.getattr()
    attributes = 0
    mount_id = 0
    if place is not None:
        mount_id = place.mount.ident
        if place.dentry is place.mount.root:
            attributes |= S.STATX_ATTR_MOUNT_ROOT
    have = S.STATX_BASIC_STATS | S.STATX_MNT_ID | (S.STATX_BTIME if a.btime else 0)
    data = STATX.pack(
        have,
        a.blksize,
        attributes,
        a.nlink,
        a.uid,
        a.gid,
        a.mode,
        a.ino,
        a.size,
        a.blocks,
        STATX_ATTRIBUTES,
        a.atime // NS,
        a.atime % NS,
        a.btime // NS,
        a.btime % NS,
        a.ctime // NS,
        a.ctime % NS,
        a.mtime // NS,
        a.mtime % NS,
        major(a.rdev),
        minor(a.rdev),
        major(a.dev),
        minor(a.dev),
        mount_id,
    )
    t.mm.write(buf, data)
    return 0


# Access


def real_creds(creds: Creds) -> Creds:
    """The credentials that access(2) checks with: real ids, and the capabilities a real root would have."""
    c = creds.copy()
    c.fsuid = creds.ruid
    c.fsgid = creds.rgid
    c.effective = creds.permitted if creds.ruid == 0 else 0
    return c


def faccessat2(t: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    """faccessat2(2)"""
    if mode & ~7 or flags & ~(F.AT_EACCESS | F.AT_SYMLINK_NOFOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    name = t.mm.read_path(path)
    how = 0 if flags & F.AT_SYMLINK_NOFOLLOW else walk.FOLLOW
    if flags & F.AT_EMPTY_PATH:
        how |= walk.EMPTY
        if not name and dirfd != CWD:
            place = place_of(t.fds.get(dirfd))
            check_access(t, t.creds if flags & F.AT_EACCESS else real_creds(t.creds), place, mode)
            return 0
    w = walk.begin(t, dirfd, name, how)
    creds = t.creds
    if not flags & F.AT_EACCESS:
        creds = real_creds(creds)
        w.creds = creds
    w.run(name, False)
    stable = w.stable
    place = walk.finish(w)
    check_access(t, creds, place, mode)
    if stable and place.dentry.inode is not None and place.dentry.inode.steady():
        lib.cn_names_keep(t.native)
    return 0


def check_access(t: Task, creds: Creds, place: Path, mode: int) -> None:
    inode = place.inode
    kind = inode.mode & S.S_IFMT
    if mode & may.MAY_EXEC and kind == S.S_IFREG and place.mount.flags & M.MS_NOEXEC:
        raise Errno(E.EACCES)
    if mode and not may.permitted(creds, inode, mode):
        raise Errno(E.EACCES)
    if mode & may.MAY_WRITE and kind in (S.S_IFREG, S.S_IFDIR, S.S_IFLNK):
        may.want_write(place.mount)


def faccessat(t: Task, dirfd: int, path: int, mode: int) -> int:
    """faccessat(2)"""
    return faccessat2(t, dirfd, path, mode, 0)


def access(t: Task, path: int, mode: int) -> int:
    """access(2)"""
    return faccessat2(t, CWD, path, mode, 0)


# Mode and owner


def place_of(file: File) -> Path:
    """Where a description's inode is; one without a name gets a place outside all trees."""
    if file.path is not None:
        return file.path
    if file.inode is None:
        raise Errno(E.EINVAL)
    return anon_path(file.inode, b"")


def open_place(t: Task, fd: int) -> Path:
    file = t.fds.get(fd)
    if file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    return place_of(file)


def found(t: Task, dirfd: int, path: int, how: int) -> Path:
    """What dirfd and path name; an empty path is the descriptor itself if `how` allows it."""
    name = t.mm.read_path(path)
    if not name and how & walk.EMPTY and dirfd != CWD:
        return place_of(t.fds.get(dirfd))
    return walk.resolve(t, dirfd, name, how)


def fchmodat2(t: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    """fchmodat2(2)"""
    if flags & ~(F.AT_SYMLINK_NOFOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    attrs.chmod(t, found(t, dirfd, path, at_flags(flags)), mode)
    return 0


def fchmodat(t: Task, dirfd: int, path: int, mode: int) -> int:
    """fchmodat(2)"""
    attrs.chmod(t, found(t, dirfd, path, walk.FOLLOW), mode)
    return 0


def chmod(t: Task, path: int, mode: int) -> int:
    """chmod(2)"""
    return fchmodat(t, CWD, path, mode)


def fchmod(t: Task, fd: int, mode: int) -> int:
    """fchmod(2)"""
    attrs.chmod(t, open_place(t, fd), mode)
    return 0


def fchownat(t: Task, dirfd: int, path: int, uid: int, gid: int, flags: int) -> int:
    """fchownat(2)"""
    if flags & ~(F.AT_SYMLINK_NOFOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    attrs.chown(t, found(t, dirfd, path, at_flags(flags)), uid, gid)
    return 0


def chown(t: Task, path: int, uid: int, gid: int) -> int:
    """chown(2)"""
    return fchownat(t, CWD, path, uid, gid, 0)


def lchown(t: Task, path: int, uid: int, gid: int) -> int:
    """lchown(2)"""
    return fchownat(t, CWD, path, uid, gid, F.AT_SYMLINK_NOFOLLOW)


def fchown(t: Task, fd: int, uid: int, gid: int) -> int:
    """fchown(2)"""
    attrs.chown(t, open_place(t, fd), uid, gid)
    return 0


# Times


def one_time(sec: int, nsec: int) -> int:
    if nsec == S.UTIME_NOW:
        return attrs.NOW
    if nsec == S.UTIME_OMIT:
        return attrs.OMIT
    if not 0 <= nsec < NS:
        raise Errno(E.EINVAL)
    value = sec * NS + nsec
    # -1 and -2 ns before the epoch have other meanings in attrs.
    return value if value not in (attrs.OMIT, attrs.NOW) else 0


def utimensat(t: Task, dirfd: int, path: int, times: int, flags: int) -> int:
    """utimensat(2); path 0 means the descriptor itself."""
    if flags & ~(F.AT_SYMLINK_NOFOLLOW | F.AT_EMPTY_PATH):
        raise Errno(E.EINVAL)
    atime = mtime = attrs.NOW
    if times:
        asec, ansec, msec, mnsec = TIMES.unpack(t.mm.read(times, TIMES.size))
        atime, mtime = one_time(asec, ansec), one_time(msec, mnsec)
        if atime == attrs.OMIT and mtime == attrs.OMIT:
            return 0
    if path == 0 and dirfd != CWD:
        if flags:
            raise Errno(E.EINVAL)
        attrs.utimes(t, open_place(t, dirfd), atime, mtime)
    else:
        attrs.utimes(t, found(t, dirfd, path, at_flags(flags)), atime, mtime)
    return 0


def futimesat(t: Task, dirfd: int, path: int, times: int) -> int:
    """futimesat(2)"""
    atime = mtime = attrs.NOW
    if times:
        asec, ausec, msec, musec = TIMES.unpack(t.mm.read(times, TIMES.size))
        if not 0 <= ausec < 1_000_000 or not 0 <= musec < 1_000_000:
            raise Errno(E.EINVAL)
        atime, mtime = one_time(asec, ausec * 1000), one_time(msec, musec * 1000)
    place = open_place(t, dirfd) if path == 0 and dirfd != CWD else found(t, dirfd, path, walk.FOLLOW)
    attrs.utimes(t, place, atime, mtime)
    return 0


def utimes(t: Task, path: int, times: int) -> int:
    """utimes(2)"""
    return futimesat(t, CWD, path, times)


def utime(t: Task, path: int, times: int) -> int:
    """utime(2)"""
    atime = mtime = attrs.NOW
    if times:
        asec, msec = UTIMBUF.unpack(t.mm.read(times, UTIMBUF.size))
        atime, mtime = one_time(asec, 0), one_time(msec, 0)
    attrs.utimes(t, found(t, CWD, path, walk.FOLLOW), atime, mtime)
    return 0


# File systems


def pack_statfs(sb: SuperBlock, mount: Mount | None) -> bytes:
    magic, bsize, blocks, bfree, bavail, files, ffree, namelen = sb.statfs()
    flags = ST_VALID
    if mount is not None:
        for ms, st in (
            (M.MS_RDONLY, SF.ST_RDONLY),
            (M.MS_NOSUID, SF.ST_NOSUID),
            (M.MS_NODEV, SF.ST_NODEV),
            (M.MS_NOEXEC, SF.ST_NOEXEC),
            (M.MS_NOATIME, SF.ST_NOATIME),
            (M.MS_NODIRATIME, SF.ST_NODIRATIME),
            (M.MS_RELATIME, SF.ST_RELATIME),
        ):
            if mount.flags & ms:
                flags |= st
    if sb.readonly:
        flags |= SF.ST_RDONLY
    return STATFS.pack(
        magic, bsize, blocks, bfree, bavail, files, ffree, sb.dev & 0x7FFFFFFF, 0, namelen, bsize, flags
    )


def statfs(t: Task, path: int, buf: int) -> int:
    """statfs(2)"""
    place = walk.resolve(t, CWD, t.mm.read_path(path), walk.FOLLOW)
    t.mm.write(buf, pack_statfs(place.inode.sb, place.mount))
    return 0


def fstatfs(t: Task, fd: int, buf: int) -> int:
    """fstatfs(2)"""
    file = t.fds.get(fd)
    if file.inode is None:
        raise Errno(E.ENOSYS)
    t.mm.write(buf, pack_statfs(file.inode.sb, file.path.mount if file.path is not None else None))
    return 0
