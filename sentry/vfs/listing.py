"""Directory listings as getdents64(2) has them: records that are made once and handed out in pieces."""

from __future__ import annotations

import struct
from typing import Final

from sentry.vfs.attr import DirEntry

DIRENT64: Final = struct.Struct("<QqHB")  # d_ino, d_off, d_reclen, d_type; then the name and NUL
DOTS: Final = 2  # "." and ".." come first


def record(ino: int, off: int, dtype: int, name: bytes) -> bytes:
    length = (20 + len(name) + 7) & ~7
    return DIRENT64.pack(ino, off, length, dtype) + name + bytes(length - 19 - len(name))


def pack(entries: list[DirEntry], first: int) -> bytes:
    """Records of entries; `first` is how many stand before them in the directory. d_off is the number of the entry after each."""
    out = bytearray()
    off = first
    for e in entries:
        off += 1
        name = e.name
        length = (20 + len(name) + 7) & ~7
        out += DIRENT64.pack(e.ino, off, length, e.dtype)
        out += name
        out += bytes(length - 19 - len(name))
    return bytes(out)
