"""The 9P codec: reading and writing the fields of one message, every bound checked."""

from __future__ import annotations

from struct import Struct
from typing import Final

from gofer.p9 import const as C

U8: Final = Struct("<B")
U16: Final = Struct("<H")
U32: Final = Struct("<I")
U64: Final = Struct("<Q")
HEAD: Final = Struct("<IBH")
QID: Final = Struct("<BIQ")
ATTR: Final = Struct("<QBIQIIIQQQQQqQqQqQqQQQ")
ENTRY: Final = Struct(
    "<13xQ116xQ8xQBH"
)  # of an attribute record and what follows: path, dev, offset, type, length of name
SECOND: Final = 1_000_000_000
S_IFMT: Final = 0o170000
TYPES: Final = frozenset((0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000))


class ProtocolError(Exception):
    """What the peer sent is not 9P; the text says where."""


class Attr:
    """Attributes of a file as the server gave them; times in ns since the epoch."""

    def __init__(self, path: int, dev: int, mode: int) -> None:
        self.path: int = path  # inode number; with dev an identity within the export
        self.dev: int = dev  # device number on the server's host, 0 when it doesn't tell
        self.mode: int = mode  # type and permissions
        self.uid: int = 0
        self.gid: int = 0
        self.nlink: int = 1
        self.rdev: int = 0
        self.size: int = 0
        self.blksize: int = 4096
        self.blocks: int = 0
        self.atime: int = 0
        self.mtime: int = 0
        self.ctime: int = 0
        self.btime: int = 0


class Entry:
    """One entry of a directory, with the place of its attribute record, which is read when it is needed."""

    def __init__(self, name: bytes, path: int, dev: int, dtype: int, data: bytes, pos: int) -> None:
        self.name: bytes = name
        self.path: int = path
        self.dev: int = dev
        self.dtype: int = dtype  # DT_*
        self.data: bytes = data
        self.pos: int = pos

    def attr(self) -> Attr | None:
        """Its attributes, None when the server gave none; ProtocolError when they make no sense."""
        return Reader(self.data, self.pos).attr()


class Reader:
    """Takes the fields of one message (without what is not asked for); ProtocolError past its end."""

    def __init__(self, data: bytes, pos: int = C.HEADER) -> None:
        self.data: bytes = data
        self.pos: int = pos

    def short(self) -> ProtocolError:
        return ProtocolError(f"message of {len(self.data)} bytes ends within a field at {self.pos}")

    def u8(self) -> int:
        pos = self.pos
        if pos >= len(self.data):
            raise self.short()
        self.pos = pos + 1
        return self.data[pos]

    def u16(self) -> int:
        pos = self.pos
        if pos + 2 > len(self.data):
            raise self.short()
        self.pos = pos + 2
        return int(U16.unpack_from(self.data, pos)[0])

    def u32(self) -> int:
        pos = self.pos
        if pos + 4 > len(self.data):
            raise self.short()
        self.pos = pos + 4
        return int(U32.unpack_from(self.data, pos)[0])

    def u64(self) -> int:
        pos = self.pos
        if pos + 8 > len(self.data):
            raise self.short()
        self.pos = pos + 8
        return int(U64.unpack_from(self.data, pos)[0])

    def take(self, count: int) -> bytes:
        pos = self.pos
        if count > len(self.data) - pos:
            raise self.short()
        self.pos = pos + count
        return self.data[pos : pos + count]

    def string(self) -> bytes:
        return self.take(self.u16())

    def names(self) -> bytes:
        """n[2] n*(name[s]), as it stands behind n."""
        n = self.u16()
        start = self.pos
        for _ in range(n):
            self.string()
        return self.data[start : self.pos]

    def name(self) -> bytes:
        """A file name as a reply holds it: one component, never "." or ".."."""
        name = self.string()
        if not 0 < len(name) <= C.MAX_NAME or b"/" in name or b"\0" in name or name == b"." or name == b"..":
            raise ProtocolError("a name is not a single path component")
        return name

    def qid(self) -> tuple[int, int, int]:
        """(type, version, path)"""
        pos = self.pos
        if pos + C.QID > len(self.data):
            raise self.short()
        self.pos = pos + C.QID
        q = QID.unpack_from(self.data, pos)
        return int(q[0]), int(q[1]), int(q[2])

    def attr(self) -> Attr | None:
        """An attribute record (None if it says that nothing in it is valid), checked to make sense."""
        pos = self.pos
        if pos + C.ATTR > len(self.data):
            raise self.short()
        self.pos = pos + C.ATTR
        (valid, _, _, path, mode, uid, gid, nlink, rdev, size, blksize, blocks, asec, ansec, msec, mnsec, csec, cnsec, bsec, bnsec,
            dev, _) = ATTR.unpack_from(self.data, pos)  # fmt: skip
        if not valid & C.GETATTR_BASIC:
            return None
        if valid & C.GETATTR_BASIC != C.GETATTR_BASIC or mode & S_IFMT not in TYPES or mode > 0o177777:
            raise ProtocolError("attributes without a proper file type")
        if (
            size >> 63
            or blocks >> 55
            or ansec >= SECOND
            or mnsec >= SECOND
            or cnsec >= SECOND
            or bnsec >= SECOND
        ):
            raise ProtocolError("attributes out of range")
        a = Attr(path, dev, mode)
        a.uid = uid
        a.gid = gid
        a.nlink = nlink
        a.rdev = rdev
        a.size = size
        a.blksize = blksize if 512 <= blksize <= 1 << 24 else 4096
        a.blocks = blocks
        a.atime = asec * SECOND + ansec
        a.mtime = msec * SECOND + mnsec
        a.ctime = csec * SECOND + cnsec
        a.btime = bsec * SECOND + bnsec
        return a

    def entry(self) -> tuple[Entry, int]:
        """An entry of a listing with attributes, and its offset."""
        data = self.data
        pos = self.pos
        start = pos + ENTRY.size
        if start > len(data):
            raise self.short()
        path, dev, offset, dtype, _length = ENTRY.unpack_from(data, pos)
        self.pos = start - 2
        return Entry(self.name(), path, dev, dtype & 15, data, pos), offset

    def end(self) -> None:
        """Nothing may follow."""
        if self.pos != len(self.data):
            raise ProtocolError(f"{len(self.data) - self.pos} bytes too many in a message")


class Writer:
    """Builds one message after the other; each is taken with `done`."""

    def __init__(self) -> None:
        self.buf: bytearray = bytearray()
        self.start: int = 0

    def begin(self, kind: int, tag: int) -> None:
        self.start = len(self.buf)
        self.buf += HEAD.pack(0, kind, tag)

    def u8(self, v: int) -> None:
        self.buf.append(v)

    def u16(self, v: int) -> None:
        self.buf += U16.pack(v)

    def u32(self, v: int) -> None:
        self.buf += U32.pack(v)

    def u64(self, v: int) -> None:
        self.buf += U64.pack(v)

    def string(self, s: bytes) -> None:
        self.buf += U16.pack(len(s))
        self.buf += s

    def raw(self, b: bytes) -> None:
        self.buf += b

    def qid(self, kind: int, version: int, path: int) -> None:
        self.buf += QID.pack(kind, version, path)

    def end(self) -> None:
        """Completes the message begun last; another may be begun behind it."""
        U32.pack_into(self.buf, self.start, len(self.buf) - self.start)

    def take(self) -> bytes:
        """All complete messages; the writer is empty then."""
        data = bytes(self.buf)
        self.buf.clear()
        return data
