"""Who may do what with an inode: mode bits and capabilities (path_resolution(7), capabilities(7))."""

from __future__ import annotations

from typing import Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.kernel.creds import Creds
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Mount

MAY_EXEC: Final = 1  # for directories: search
MAY_WRITE: Final = 2
MAY_READ: Final = 4


def permitted(creds: Creds, inode: Inode, mask: int) -> bool:
    """May the bearer do all of `mask` (MAY_*), by mode bits or by capability?"""
    mode = inode.mode
    if creds.effective >> C.CAP_DAC_OVERRIDE & 1:
        return not mask & MAY_EXEC or bool(mode & 0o111) or mode & S.S_IFMT == S.S_IFDIR
    if (mode >> 6) & (mode >> 3) & mode & mask == mask:
        return True
    attr = inode.getattr()
    mode = attr.mode
    if creds.fsuid == attr.uid:
        bits = mode >> 6
    elif creds.in_group(attr.gid):
        bits = mode >> 3
    else:
        bits = mode
    if bits & mask == mask:
        return True
    if creds.effective >> C.CAP_DAC_READ_SEARCH & 1:
        if mode & S.S_IFMT == S.S_IFDIR:
            return not mask & MAY_WRITE
        return mask == MAY_READ
    return False


def require(creds: Creds, inode: Inode, mask: int) -> None:
    """EACCES unless permitted."""
    if not permitted(creds, inode, mask):
        raise Errno(E.EACCES)


def owner_or_capable(creds: Creds, inode: Inode) -> bool:
    """May the bearer change what only an owner changes (mode, times, sticky entries)?"""
    return bool(creds.effective >> C.CAP_FOWNER & 1) or creds.fsuid == inode.getattr().uid


def readonly(mount: Mount) -> bool:
    return bool(mount.flags & M.MS_RDONLY) or mount.sb.readonly


def want_write(mount: Mount) -> None:
    """EROFS on a read-only mount or file system."""
    if mount.flags & M.MS_RDONLY or mount.sb.readonly:
        raise Errno(E.EROFS)


def may_create(creds: Creds, mount: Mount, parent: Inode) -> None:
    """May an entry be added to the directory? (The caller has found that the name is free.)"""
    want_write(mount)
    require(creds, parent, MAY_WRITE | MAY_EXEC)


def may_delete(creds: Creds, mount: Mount, parent: Inode, victim: Inode, directory: bool) -> None:
    """May the entry be taken away, and is it of the kind (directory or not) that the call is about?"""
    want_write(mount)
    require(creds, parent, MAY_WRITE | MAY_EXEC)
    if parent.mode & S.S_ISVTX and not creds.effective >> C.CAP_FOWNER & 1:
        if creds.fsuid != victim.getattr().uid and creds.fsuid != parent.getattr().uid:
            raise Errno(E.EPERM)
    is_dir = victim.mode & S.S_IFMT == S.S_IFDIR
    if directory and not is_dir:
        raise Errno(E.ENOTDIR)
    if not directory and is_dir:
        raise Errno(E.EISDIR)


def new_owner(creds: Creds, parent: Inode, mode: int) -> tuple[int, int, int]:
    """(mode, uid, gid) of something made in a directory: the set-group-ID bit of the directory hands down its group."""
    pmode = parent.mode
    gid = creds.fsgid
    if pmode & S.S_ISGID:
        gid = parent.getattr().gid
        if mode & S.S_IFMT == S.S_IFDIR:
            mode |= S.S_ISGID
        elif mode & (S.S_ISGID | S.S_IXGRP) == S.S_ISGID | S.S_IXGRP:
            if not creds.in_group(gid) and not creds.effective >> C.CAP_FSETID & 1:
                mode &= ~S.S_ISGID
    return mode, creds.fsuid, gid


def without_privileges(creds: Creds, inode: Inode) -> int:
    """The mode after a write or truncation: without set-user-ID, and set-group-ID where the group may execute, unless the
    writer has CAP_FSETID."""
    mode = inode.mode
    if (
        mode & (S.S_ISUID | S.S_ISGID)
        and mode & S.S_IFMT == S.S_IFREG
        and not creds.effective >> C.CAP_FSETID & 1
    ):
        mode &= ~S.S_ISUID
        if mode & S.S_IXGRP:
            mode &= ~S.S_ISGID
    return mode
