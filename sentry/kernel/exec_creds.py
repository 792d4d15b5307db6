"""Credentials of a program being executed: set-user-ID bits, file capabilities (capabilities(7), "Transformation of
capabilities"; cap_bprm_creds_from_file of Linux' security/commoncap.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.kernel import tracing
from sentry.kernel.creds import Creds
from sentry.vfs.xattr import CAP_REVISION_SHIFT, CAPABILITY

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

SECBIT_NOROOT: Final = 1
SECBIT_KEEP_CAPS: Final = 16
EFFECTIVE: Final = 1  # of the magic word of struct vfs_cap_data: what is gained is effective at once
VFS_CAP_DATA: Final = struct.Struct("<5I")  # magic, permitted, inheritable, permitted >> 32, inheritable >> 32


class FileCaps:
    """What security.capability of a program says."""

    def __init__(self, value: bytes) -> None:
        magic, low, low_inheritable, high, high_inheritable = VFS_CAP_DATA.unpack_from(value)
        self.permitted: int = low | high << 32
        self.inheritable: int = low_inheritable | high_inheritable << 32
        self.effective: bool = bool(magic & EFFECTIVE)


def file_caps(inode: Inode) -> FileCaps | None:
    """None when there are none, or none for this user name space (revision 3 names the one whose root it is meant for)."""
    try:
        value = inode.getxattr(CAPABILITY)
    except Errno:
        return None
    if len(value) < VFS_CAP_DATA.size:
        return None
    revision = int.from_bytes(value[:4], "little") >> CAP_REVISION_SHIFT
    rootid = int.from_bytes(value[20:24], "little")
    if revision == 2 or (revision == 3 and len(value) >= 24 and rootid == 0):
        return FileCaps(value)
    return None


def new_creds(t: Task, file: File) -> tuple[Creds, bool]:
    """(credentials of the new program, AT_SECURE). EPERM when the program could not do what its capabilities are for."""
    old = t.creds
    new = old.copy()
    path = file.path
    inode = file.inode
    assert path is not None and inode is not None
    may_gain = not old.no_new_privs and tracing.may_gain(t)
    nosuid = bool(path.mount.flags & M.MS_NOSUID)
    if not nosuid and may_gain and inode.mode & (S.S_ISUID | S.S_ISGID):
        attr = inode.getattr()
        if inode.mode & S.S_ISUID:
            new.euid = attr.uid
        if inode.mode & (S.S_ISGID | S.S_IXGRP) == S.S_ISGID | S.S_IXGRP:
            new.egid = attr.gid
    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    root = not old.securebits & SECBIT_NOROOT
    caps = None if nosuid or (root and new.euid == new.ruid == 0) else file_caps(inode)  # root has them all
    permitted = 0
    effective = False
    if caps is not None:
        permitted = old.bounding & caps.permitted | old.inheritable & caps.inheritable
        effective = caps.effective
        if effective and caps.permitted & ~permitted:
            raise Errno(E.EPERM)
    if root and not (caps is not None and new.euid == 0):  # a set-user-ID program with capabilities has just these
        if new.euid == 0 or new.ruid == 0:
            permitted = old.inheritable | old.bounding
        effective = effective or new.euid == 0
    if not may_gain:
        permitted &= old.permitted
    if caps is not None or new.euid != old.euid or new.egid != old.egid:
        new.ambient = 0
    new.permitted = permitted | new.ambient
    new.effective = new.permitted if effective else new.ambient
    new.securebits &= ~SECBIT_KEEP_CAPS
    gained = new.ruid != 0 and (effective or bool(new.permitted & ~new.ambient))
    secure = new.euid != new.ruid or new.egid != new.rgid or gained
    if new.equals(old):
        new = old  # one number, so what C knows for the one it knows for the other
    return new, secure


def stays_dumpable(old: Creds, new: Creds) -> bool:
    """May others of the same user look into the program, which has gained nothing (prctl(2), PR_SET_DUMPABLE)?"""
    same = (old.euid, old.egid, old.fsuid, old.fsgid) == (new.euid, new.egid, new.fsuid, new.fsgid)
    own = new.euid == new.ruid and new.egid == new.rgid
    return same and own and new.permitted & ~old.permitted == 0
