"""Addresses of AF_UNIX sockets: paths, abstract names, none (unix(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import socket as SO
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, namei, walk

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.unix.sockets import UnixSocket
    from sentry.vfs.inode import Inode

FAMILY: Final = SO.AF_UNIX.to_bytes(2, "little")
MAX_LENGTH: Final = 110  # struct sockaddr_un
AUTOBIND: Final = 0x100000  # number of names that autobind may choose


class Registry:
    """The sandbox's abstract names, and all its sockets for /proc/net/unix."""

    def __init__(self) -> None:
        self.abstract: dict[tuple[int, bytes], UnixSocket] = {}  # by kind and name without the leading NUL
        self.sockets: dict[int, UnixSocket] = {}  # by inode number
        self.next: int = 0  # where autobind looks


REGISTRY: Final = Registry()


def parse(addr: bytes) -> bytes:
    """The name in a sockaddr_un: a path without NUL, an abstract name with its leading NUL, b"" for none. EINVAL."""
    if not 2 <= len(addr) <= MAX_LENGTH or addr[:2] != FAMILY:
        raise Errno(E.EINVAL)
    name = addr[2:]
    if not name or name[0] == 0:
        return name
    return name.partition(b"\0")[0]


def sockaddr(name: bytes) -> bytes:
    """The address as calls return it: a path with its NUL."""
    if name and name[0]:
        return FAMILY + name + b"\0"
    return FAMILY + name


def claim(t: Task, socket: UnixSocket, name: bytes) -> Inode | None:
    """Gives the socket a name; for a path its new inode. EADDRINUSE."""
    if name[0] == 0:
        if (socket.kind, name[1:]) in REGISTRY.abstract:
            raise Errno(E.EADDRINUSE)
        REGISTRY.abstract[(socket.kind, name[1:])] = socket
        return None
    try:
        place = namei.mknod(t, F.AT_FDCWD, name, S.S_IFSOCK | 0o777, 0)
    except Errno as e:
        raise Errno(E.EADDRINUSE if e.errno == E.EEXIST else e.errno) from None
    inode = place.inode
    inode.socket = socket
    return inode


def taken(t: Task, name: bytes) -> bool:
    """Is there a file of this name? (bind(2) looks for that before it finds the socket bound already.)"""
    if name[0] == 0:
        return False
    try:
        walk.resolve(t, F.AT_FDCWD, name, 0)
    except Errno:
        return False
    return True


def autobind(socket: UnixSocket) -> bytes:
    """An abstract name of five hexadecimal digits that is free."""
    for _ in range(AUTOBIND):
        name = b"%05x" % REGISTRY.next
        REGISTRY.next = (REGISTRY.next + 1) % AUTOBIND
        if (socket.kind, name) not in REGISTRY.abstract:
            REGISTRY.abstract[(socket.kind, name)] = socket
            return b"\0" + name
    raise Errno(E.ENOSPC)


def find(t: Task, name: bytes, kind: int) -> UnixSocket:
    """The socket of that name, when t may write to it. ECONNREFUSED, EACCES, EPROTOTYPE and errors of the path."""
    from sentry.net.unix.sockets import UnixSocket

    if not name:
        raise Errno(E.EINVAL)
    found: object | None
    if name[0] == 0:
        found = REGISTRY.abstract.get((kind, name[1:]))
    else:
        place = walk.resolve(t, F.AT_FDCWD, name, walk.FOLLOW)
        inode = place.inode
        access.require(t.creds, inode, access.MAY_WRITE)
        found = inode.socket if inode.mode & S.S_IFMT == S.S_IFSOCK else None
    if not isinstance(found, UnixSocket) or found.dead:
        raise Errno(E.ECONNREFUSED)
    if found.kind != kind:
        raise Errno(E.EPROTOTYPE)
    return found
