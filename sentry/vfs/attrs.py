"""Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2) on something that was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import inotify as I
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, clock, notify, opening
from sentry.vfs.attr import SET_ATIME, SET_CTIME, SET_GID, SET_MODE, SET_MTIME, SET_UID, SetAttr
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Path

if TYPE_CHECKING:
    from sentry.kernel.task import Task

KEEP: Final = 0xFFFFFFFF  # (uid_t)-1
OMIT: Final = -1
NOW: Final = -2


def chmod(t: Task, path: Path, mode: int) -> None:
    inode = path.inode
    access.want_write(path.mount)
    if inode.mode & S.S_IFMT == S.S_IFLNK:
        raise Errno(E.EOPNOTSUPP)
    if not access.owner_or_capable(t.creds, inode):
        raise Errno(E.EPERM)
    change = SetAttr(SET_MODE | SET_CTIME)
    change.mode = mode & 0o7777
    change.ctime = clock.now()
    if mode & S.S_ISGID and not t.creds.has(C.CAP_FSETID) and not t.creds.in_group(inode.getattr().gid):
        change.mode &= ~S.S_ISGID
    inode.setattr(change)
    notify.at(path.dentry, I.IN_ATTRIB)


def chown(t: Task, path: Path, uid: int, gid: int) -> None:
    """uid and gid KEEP leave the id as it is."""
    inode = path.inode
    access.want_write(path.mount)
    creds = t.creds
    attr = inode.getattr()
    if not creds.has(C.CAP_CHOWN):
        owner = creds.fsuid == attr.uid
        if uid != KEEP and not (owner and uid == attr.uid):
            raise Errno(E.EPERM)
        if gid != KEEP and not (owner and (creds.in_group(gid) or gid == attr.gid)):
            raise Errno(E.EPERM)
    change = SetAttr(SET_CTIME)
    change.ctime = clock.now()
    if uid != KEEP:
        change.valid |= SET_UID
        change.uid = uid
    if gid != KEEP:
        change.valid |= SET_GID
        change.gid = gid
    mode = inode.mode
    if mode & S.S_IFMT != S.S_IFDIR and mode & (S.S_ISUID | S.S_ISGID):
        # Also for root (chown(2), NOTES).
        change.mode = mode & 0o7777 & ~S.S_ISUID
        if mode & S.S_IXGRP:
            change.mode &= ~S.S_ISGID
        change.valid |= SET_MODE
    inode.setattr(change)
    if mode & S.S_IFMT == S.S_IFREG:
        drop_file_caps(inode)
    notify.at(path.dentry, I.IN_ATTRIB)


def drop_file_caps(inode: Inode) -> None:
    """A change of owner takes the file's capabilities away."""
    try:
        inode.removexattr(b"security.capability")
    except Errno:
        pass


def utimes(t: Task, path: Path, atime: int, mtime: int) -> None:
    """Times in ns since the epoch, or OMIT, or NOW."""
    inode = path.inode
    if atime == OMIT and mtime == OMIT:
        return
    access.want_write(path.mount)
    creds = t.creds
    if not access.owner_or_capable(creds, inode):
        if atime != NOW or mtime != NOW:
            raise Errno(E.EPERM)
        access.require(creds, inode, access.MAY_WRITE)
    change = SetAttr(SET_CTIME)
    now = clock.now()
    change.ctime = now
    if atime != OMIT:
        change.valid |= SET_ATIME
        change.atime = now if atime == NOW else atime
    if mtime != OMIT:
        change.valid |= SET_MTIME
        change.mtime = now if mtime == NOW else mtime
    inode.setattr(change)
    notify.at(path.dentry, I.IN_ATTRIB)


def truncate(t: Task, path: Path, size: int) -> None:
    """truncate(2) by name; the caller has looked at RLIMIT_FSIZE."""
    inode = path.inode
    kind = inode.mode & S.S_IFMT
    if kind == S.S_IFDIR:
        raise Errno(E.EISDIR)
    if kind != S.S_IFREG:
        raise Errno(E.EINVAL)
    access.want_write(path.mount)
    access.require(t.creds, inode, access.MAY_WRITE)
    if inode.writers < 0:
        raise Errno(E.ETXTBSY)
    opening.truncate_inode(t, inode, size)
    notify.at(path.dentry, I.IN_MODIFY)
