"""Credentials: user and group ids, capabilities (credentials(7), capabilities(7))."""

from __future__ import annotations

from typing import Final

from sentry.abi import capability as C

ALL_CAPS: Final = (1 << (C.CAP_LAST_CAP + 1)) - 1


class Numbers:
    def __init__(self) -> None:
        self.last: int = 0


NUMBERS: Final = Numbers()


class Creds:
    """Immutable by convention: a change makes a copy (`copy()`), so that threads and open files may share one. `number` is no
    other's: C tells by it who asks."""

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        NUMBERS.last += 1
        self.number: int = NUMBERS.last
        self.ruid: int = uid
        self.euid: int = uid
        self.suid: int = uid
        self.fsuid: int = uid
        self.rgid: int = gid
        self.egid: int = gid
        self.sgid: int = gid
        self.fsgid: int = gid
        self.groups: list[int] = groups
        self.permitted: int = ALL_CAPS if uid == 0 else 0
        self.effective: int = self.permitted
        self.inheritable: int = 0
        self.bounding: int = ALL_CAPS
        self.ambient: int = 0
        self.securebits: int = 0
        self.no_new_privs: bool = False

    def copy(self) -> Creds:
        c = Creds(self.ruid, self.rgid, self.groups)
        c.euid = self.euid
        c.suid = self.suid
        c.fsuid = self.fsuid
        c.egid = self.egid
        c.sgid = self.sgid
        c.fsgid = self.fsgid
        c.permitted = self.permitted
        c.effective = self.effective
        c.inheritable = self.inheritable
        c.bounding = self.bounding
        c.ambient = self.ambient
        c.securebits = self.securebits
        c.no_new_privs = self.no_new_privs
        return c

    def equals(self, other: Creds) -> bool:
        """Do both say the same?"""
        return (
            (self.ruid, self.euid, self.suid, self.fsuid) == (other.ruid, other.euid, other.suid, other.fsuid)
            and (self.rgid, self.egid, self.sgid, self.fsgid) == (other.rgid, other.egid, other.sgid, other.fsgid)
            and self.groups == other.groups
            and (self.permitted, self.effective, self.inheritable) == (other.permitted, other.effective, other.inheritable)
            and (self.bounding, self.ambient, self.securebits) == (other.bounding, other.ambient, other.securebits)
            and self.no_new_privs == other.no_new_privs
        )

    def has(self, cap: int) -> bool:
        """Is the capability (CAP_*) in the effective set?"""
        return bool(self.effective >> cap & 1)

    def in_group(self, gid: int) -> bool:
        """For file access: the file-system group or a supplementary one."""
        return gid == self.fsgid or gid in self.groups
