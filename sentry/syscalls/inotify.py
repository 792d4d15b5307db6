"""inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import inotify as I
from sentry.errors import Errno
from sentry.syscalls.file import install
from sentry.vfs import access, walk
from sentry.vfs.inotify import Inotify

if TYPE_CHECKING:
    from sentry.kernel.task import Task

KNOWN: Final = (
    I.IN_ALL_EVENTS
    | I.IN_UNMOUNT
    | I.IN_Q_OVERFLOW
    | I.IN_IGNORED
    | I.IN_ONLYDIR
    | I.IN_DONT_FOLLOW
    | I.IN_EXCL_UNLINK
    | I.IN_MASK_CREATE
    | I.IN_MASK_ADD
    | I.IN_ISDIR
    | I.IN_ONESHOT
)


def inotify_init1(t: Task, flags: int) -> int:
    """inotify_init1(2)"""
    if flags & ~(I.IN_CLOEXEC | I.IN_NONBLOCK):
        raise Errno(E.EINVAL)
    return install(t, Inotify(F.O_RDONLY | flags & F.O_NONBLOCK), bool(flags & I.IN_CLOEXEC))


def inotify_init(t: Task) -> int:
    """inotify_init(2)"""
    return inotify_init1(t, 0)


def instance(t: Task, fd: int) -> Inotify:
    file = t.fds.get(fd)
    if not isinstance(file, Inotify):
        raise Errno(E.EINVAL)
    return file


def inotify_add_watch(t: Task, fd: int, path: int, mask: int) -> int:
    """inotify_add_watch(2)"""
    if mask & ~KNOWN or not mask & (I.IN_ALL_EVENTS | I.IN_ONESHOT | I.IN_EXCL_UNLINK):
        raise Errno(E.EINVAL)
    file = instance(t, fd)
    if mask & I.IN_MASK_ADD and mask & I.IN_MASK_CREATE:
        raise Errno(E.EINVAL)
    how = 0 if mask & I.IN_DONT_FOLLOW else walk.FOLLOW
    if mask & I.IN_ONLYDIR:
        how |= walk.DIRECTORY
    inode = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(path), how).inode
    access.require(t.creds, inode, access.MAY_READ)
    return file.events.add(inode, mask)


def inotify_rm_watch(t: Task, fd: int, wd: int) -> int:
    """inotify_rm_watch(2)"""
    instance(t, fd).events.remove(wd)
    return 0
