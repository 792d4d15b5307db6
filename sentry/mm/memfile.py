"""The memory file of this process (native/mm/memfile.h)."""

from __future__ import annotations

from native._core import lib


def start(fd: int, limit: int) -> int:
    """Takes `fd` as the memory file; `limit` in bytes, 0 for none. 0 or -errno."""
    return lib.cn_memfile_start(fd, limit)


def limit() -> int:
    """The limit in bytes that the file's file system has now, 0 for none. It counts from here on."""
    return lib.cn_memfile_limit()


def used() -> int:
    """Bytes of host memory that guest memory takes now."""
    return lib.cn_memfile_used()


def peak() -> int:
    """The greatest value `used` has seen."""
    return lib.cn_memfile_peak()


def denied() -> bool:
    """Could a page of guest memory not be had, in the guest or in a copy to it? The sandbox is out of memory."""
    return bool(lib.cn_memfile_denied())


def full() -> bool:
    """Has the limit been reached? A SIGBUS on guest memory then means out of memory."""
    return bool(lib.cn_memfile_full())
