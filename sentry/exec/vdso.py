"""The guest's vDSO image as something that address spaces map."""

from __future__ import annotations

from native._core import ffi, lib
from sentry.mm.objects import MemoryObject


class Cache:
    """The one object; made when the first program is loaded."""

    obj: MemoryObject | None = None
    size: int = 0


def vdso_object() -> tuple[MemoryObject, int]:
    """(memory object, bytes) of the image."""
    if Cache.obj is None:
        length = ffi.new("uint64_t *")
        image = lib.cn_vdso_image(length)
        Cache.size = int(length[0])
        Cache.obj = MemoryObject.memory()
        Cache.obj.pwrite(bytes(ffi.buffer(image, Cache.size)), 0)
    return Cache.obj, Cache.size
