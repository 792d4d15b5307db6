"""setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their l and f forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import xattr as X
from sentry.errors import Errno
from sentry.syscalls.attr import open_place
from sentry.vfs import walk
from sentry.vfs import xattr as xattrs
from sentry.vfs.mount import Path

if TYPE_CHECKING:
    from sentry.kernel.task import Task


def place(t: Task, path: int, how: int) -> Path:
    return walk.resolve(t, F.AT_FDCWD, t.mm.read_path(path), how)


def read_name(t: Task, name: int) -> bytes:
    try:
        text = t.mm.read_cstr(name, X.XATTR_NAME_MAX + 1)
    except Errno as e:
        raise Errno(E.ERANGE if e.errno == E.ENAMETOOLONG else e.errno) from None
    if not text:
        raise Errno(E.ERANGE)
    return text


def do_set(t: Task, where: Path, name: int, value: int, size: int, flags: int) -> int:
    if flags & ~(X.XATTR_CREATE | X.XATTR_REPLACE):
        raise Errno(E.EINVAL)
    text = read_name(t, name)
    if size > X.XATTR_SIZE_MAX:
        raise Errno(E.E2BIG)
    xattrs.set_value(t, where, text, t.mm.read(value, size), flags)
    return 0


def deliver(t: Task, addr: int, size: int, data: bytes) -> int:
    """The length, and the data if there is room for it; size 0 asks for the length only."""
    if size:
        if size < len(data):
            raise Errno(E.ERANGE)
        t.mm.write(addr, data)
    return len(data)


def do_get(t: Task, where: Path, name: int, value: int, size: int) -> int:
    return deliver(t, value, size, xattrs.get(t, where, read_name(t, name)))


def do_list(t: Task, where: Path, addr: int, size: int) -> int:
    return deliver(t, addr, size, b"".join([n + b"\0" for n in xattrs.names(t, where)]))


def setxattr(t: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    """setxattr(2)"""
    return do_set(t, place(t, path, walk.FOLLOW), name, value, size, flags)


def lsetxattr(t: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    """lsetxattr(2)"""
    return do_set(t, place(t, path, 0), name, value, size, flags)


def fsetxattr(t: Task, fd: int, name: int, value: int, size: int, flags: int) -> int:
    """fsetxattr(2)"""
    return do_set(t, open_place(t, fd), name, value, size, flags)


def getxattr(t: Task, path: int, name: int, value: int, size: int) -> int:
    """getxattr(2)"""
    return do_get(t, place(t, path, walk.FOLLOW), name, value, size)


def lgetxattr(t: Task, path: int, name: int, value: int, size: int) -> int:
    """lgetxattr(2)"""
    return do_get(t, place(t, path, 0), name, value, size)


def fgetxattr(t: Task, fd: int, name: int, value: int, size: int) -> int:
    """fgetxattr(2)"""
    return do_get(t, open_place(t, fd), name, value, size)


def listxattr(t: Task, path: int, list: int, size: int) -> int:
    """listxattr(2)"""
    return do_list(t, place(t, path, walk.FOLLOW), list, size)


def llistxattr(t: Task, path: int, list: int, size: int) -> int:
    """llistxattr(2)"""
    return do_list(t, place(t, path, 0), list, size)


def flistxattr(t: Task, fd: int, list: int, size: int) -> int:
    """flistxattr(2)"""
    return do_list(t, open_place(t, fd), list, size)


def removexattr(t: Task, path: int, name: int) -> int:
    """removexattr(2)"""
    xattrs.remove(t, place(t, path, walk.FOLLOW), read_name(t, name))
    return 0


def lremovexattr(t: Task, path: int, name: int) -> int:
    """lremovexattr(2)"""
    xattrs.remove(t, place(t, path, 0), read_name(t, name))
    return 0


def fremovexattr(t: Task, fd: int, name: int) -> int:
    """fremovexattr(2)"""
    xattrs.remove(t, open_place(t, fd), read_name(t, name))
    return 0
