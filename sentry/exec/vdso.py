"""The guest's vDSO image as something that address spaces map."""

from __future__ import annotations

from typing import Final

from native._core import ffi, lib
from sentry.mm.objects import MemoryObject


class Cache:
    """The one object; made when the first program is loaded."""

    def __init__(self) -> None:
        self.obj: MemoryObject | None = None
        self.size: int = 0


CACHE: Final = Cache()


def vdso_object() -> tuple[MemoryObject, int]:
    """(memory object, bytes) of the image."""
    if CACHE.obj is None:
        length = ffi.new("uint64_t *")
        image = lib.cn_vdso_image(length)
        CACHE.size = int(length[0])
        CACHE.obj = MemoryObject.memory()
        CACHE.obj.pwrite(bytes(ffi.buffer(image, CACHE.size)), 0)
    return CACHE.obj, CACHE.size


def ask_for_cpu() -> None:
    """From now on getcpu(3) is a system call in all programs: affinities say what it may tell, and the host's vDSO knows of none."""
    obj, _ = vdso_object()
    obj.pwrite(bytes(8), lib.cn_vdso_getcpu())
