"""Extended attributes: who may read and write which name space (xattr(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import inotify as I
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, notify
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Path

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.task import Task

USER: Final = b"user."
TRUSTED: Final = b"trusted."
SECURITY: Final = b"security."
CAPABILITY: Final = b"security.capability"
CAP_REVISION_SHIFT: Final = 24  # of the magic word of struct vfs_cap_data; revision 2 has 20 bytes, 3 has 24


def check(creds: Creds, inode: Inode, name: bytes, writing: bool) -> None:
    """May the attribute be read or changed? EPERM, ENODATA, EACCES, EOPNOTSUPP."""
    if name.startswith(USER):
        if len(name) == len(USER):
            raise Errno(E.EINVAL)
        kind = inode.mode & S.S_IFMT
        if kind not in (S.S_IFREG, S.S_IFDIR):
            raise Errno(E.EPERM if writing else E.ENODATA)
        if (
            writing
            and kind == S.S_IFDIR
            and inode.mode & S.S_ISVTX
            and not access.owner_or_capable(creds, inode)
        ):
            raise Errno(E.EPERM)
        access.require(creds, inode, access.MAY_WRITE if writing else access.MAY_READ)
    elif name.startswith(TRUSTED):
        if len(name) == len(TRUSTED):
            raise Errno(E.EINVAL)
        if not creds.has(C.CAP_SYS_ADMIN):
            raise Errno(E.EPERM if writing else E.ENODATA)
    elif name.startswith(SECURITY):
        if len(name) == len(SECURITY):
            raise Errno(E.EINVAL)
        if writing and not creds.has(C.CAP_SETFCAP if name == CAPABILITY else C.CAP_SYS_ADMIN):
            raise Errno(E.EPERM)
    else:
        raise Errno(E.EOPNOTSUPP)  # system.*: no file system here has ACLs


def get(t: Task, place: Path, name: bytes) -> bytes:
    inode = place.inode
    check(t.creds, inode, name, False)
    return inode.getxattr(name)


def set_value(t: Task, place: Path, name: bytes, value: bytes, flags: int) -> None:
    inode = place.inode
    access.want_write(place.mount)
    check(t.creds, inode, name, True)
    if name == CAPABILITY:
        if inode.mode & S.S_IFMT != S.S_IFREG or len(value) < 4:
            raise Errno(E.EINVAL)
        revision = int.from_bytes(value[:4], "little") >> CAP_REVISION_SHIFT
        if (revision, len(value)) not in ((2, 20), (3, 24)):
            raise Errno(E.EINVAL)
        inode.has_caps = True
        inode.guard_writes()
    inode.setxattr(name, value, flags)
    notify.at(place.dentry, I.IN_ATTRIB)


def remove(t: Task, place: Path, name: bytes) -> None:
    inode = place.inode
    access.want_write(place.mount)
    check(t.creds, inode, name, True)
    inode.removexattr(name)
    notify.at(place.dentry, I.IN_ATTRIB)


def names(t: Task, place: Path) -> list[bytes]:
    """The names the caller may know of."""
    admin = t.creds.has(C.CAP_SYS_ADMIN)
    return [n for n in place.inode.listxattr() if admin or not n.startswith(TRUSTED)]
