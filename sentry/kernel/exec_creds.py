"""Credentials of a program being executed: set-user-ID bits, capabilities (capabilities(7), "Transformation of capabilities")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.kernel import tracing
from sentry.kernel.creds import Creds

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

SECBIT_NOROOT = 1
SECBIT_KEEP_CAPS = 16


def new_creds(t: Task, file: File) -> tuple[Creds, bool]:
    """(credentials of the new program, AT_SECURE)."""
    old = t.creds
    new = old.copy()
    path = file.path
    inode = file.inode
    assert path is not None and inode is not None
    may_gain = not old.no_new_privs and tracing.may_gain(t)
    if not path.mount.flags & M.MS_NOSUID and may_gain and inode.mode & (S.S_ISUID | S.S_ISGID):
        attr = inode.getattr()
        if inode.mode & S.S_ISUID:
            new.euid = attr.uid
        if inode.mode & (S.S_ISGID | S.S_IXGRP) == S.S_ISGID | S.S_IXGRP:
            new.egid = attr.gid
    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    setid = new.euid != old.euid or new.egid != old.egid
    if setid:
        new.ambient = 0
    permitted = 0
    effective = False
    if not old.securebits & SECBIT_NOROOT:
        if new.euid == 0 or new.ruid == 0:
            permitted = old.inheritable | old.bounding
        effective = new.euid == 0
    new.permitted = permitted | new.ambient
    new.effective = new.permitted if effective else new.ambient
    new.securebits &= ~SECBIT_KEEP_CAPS
    gained = new.ruid != 0 and effective and bool(new.permitted & ~new.ambient)
    secure = new.euid != new.ruid or new.egid != new.rgid or gained
    if new.equals(old):
        new = old  # one number, so what C knows for the one it knows for the other
    return new, secure
