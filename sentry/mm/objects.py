"""Memory objects: the data of a memory file system's file, shared memory, or a host file that can be mapped."""

from __future__ import annotations

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.errors import Errno


def checked(rc: int) -> int:
    """A native result; Errno when it is negative."""
    if rc < 0:
        raise Errno(-rc)
    return rc


class MemoryObject:
    """A reference to a native object (native/mm/mobj.h); dropped with the Python object."""

    def __init__(self, native: ffi.CData) -> None:
        if native == ffi.NULL:
            raise Errno(E.ENOMEM)
        self.native: ffi.CData = ffi.gc(native, lib.cn_mobj_unref)

    @staticmethod
    def memory() -> MemoryObject:
        """An empty object in the memory file."""
        return MemoryObject(lib.cn_mobj_new_mem())

    @staticmethod
    def from_host_fd(fd: int) -> MemoryObject:
        """The object of a host file; the descriptor is duplicated."""
        return MemoryObject(lib.cn_mobj_new_host(fd))

    def ident(self) -> int:
        """A number no other living object has."""
        return lib.cn_mobj_id(self.native)

    def size(self) -> int:
        return checked(lib.cn_mobj_size(self.native))

    def allocated(self) -> int:
        """Bytes of memory it holds."""
        return lib.cn_mobj_allocated(self.native)

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes; b"" at the end."""
        end = self.size()
        count = min(count, max(0, end - offset))
        if count == 0:
            return b""
        buf = ffi.new("char[]", count)
        n = checked(lib.cn_mobj_pread(self.native, buf, count, offset))
        return bytes(ffi.buffer(buf, n))

    def pwrite(self, data: bytes, offset: int) -> int:
        """Bytes written; grows the object."""
        return checked(lib.cn_mobj_pwrite(self.native, data, len(data), offset))

    def truncate(self, size: int) -> None:
        """Sets the size; mapped pages beyond it raise SIGBUS from now on."""
        checked(lib.cn_mobj_truncate(self.native, size))

    def punch(self, offset: int, count: int) -> None:
        """The range reads as zeros and gives its memory back."""
        checked(lib.cn_mobj_punch(self.native, offset, count))

    def allocate(self, offset: int, count: int) -> None:
        """Makes the range's memory exist; the size stays."""
        checked(lib.cn_mobj_allocate(self.native, offset, count))

    def seek(self, offset: int, hole: bool) -> int:
        """The next data or hole at or after `offset`; ENXIO."""
        return checked(lib.cn_mobj_seek(self.native, offset, int(hole)))
