"""Attributes of inodes, and changes to them."""

from __future__ import annotations

from typing import Final


class Attr:
    """What stat(2) and statx(2) tell of an inode. Times are nanoseconds since the epoch."""

    def __init__(self, ino: int, mode: int, uid: int = 0, gid: int = 0, nlink: int = 1) -> None:
        self.dev: int = 0  # device number in the guest's view (makedev form)
        self.ino: int = ino
        self.mode: int = mode  # type and permission bits
        self.nlink: int = nlink
        self.uid: int = uid
        self.gid: int = gid
        self.rdev: int = 0
        self.size: int = 0
        self.blksize: int = 4096
        self.blocks: int = 0  # of 512 bytes
        self.atime: int = 0
        self.mtime: int = 0
        self.ctime: int = 0
        self.btime: int = 0


SET_MODE: Final = 1
SET_UID: Final = 2
SET_GID: Final = 4
SET_SIZE: Final = 8
SET_ATIME: Final = 16
SET_MTIME: Final = 32
SET_CTIME: Final = 64


class SetAttr:
    """A change of attributes: `valid` says which fields count. Times are absolute nanoseconds (never UTIME_NOW)."""

    def __init__(self, valid: int) -> None:
        self.valid: int = valid
        self.mode: int = 0  # permission bits only
        self.uid: int = 0
        self.gid: int = 0
        self.size: int = 0
        self.atime: int = 0
        self.mtime: int = 0
        self.ctime: int = 0


class DirEntry:
    """One entry of a directory listing."""

    def __init__(self, name: bytes, ino: int, dtype: int) -> None:
        self.name: bytes = name
        self.ino: int = ino
        self.dtype: int = dtype  # DT_* (mode >> 12)
