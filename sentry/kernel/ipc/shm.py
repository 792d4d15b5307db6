"""Shared memory segments (shm_overview of sysvipc(7))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import ipc as I
from sentry.abi import mman as MM
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.kernel.ipc import limits as L
from sentry.kernel.ipc.registry import READ, WRITE, IpcObject, Registry
from sentry.mm.objects import MemoryObject

if TYPE_CHECKING:
    from sentry.kernel.ipc.limits import Limits
    from sentry.kernel.task import Task

LARGEST: Final = 1 << 46  # what an object can be
DEST: Final = 0o1000
LOCKED: Final = 0o2000
PAGE: Final = 4096
TAIL: Final = struct.Struct("<QqqqiiQQQ")


class Segment(IpcObject):
    """Lives until it is removed and nobody has it attached."""

    def __init__(self, t: Task, key: int, mode: int, size: int) -> None:
        super().__init__(t, key, mode)
        self.size: int = size
        self.obj: MemoryObject = MemoryObject.memory()
        self.obj.truncate((size + PAGE - 1) & -PAGE)
        self.cpid: int = t.tg.pid
        self.lpid: int = 0
        self.atime: int = 0
        self.dtime: int = 0

    def ds(self, attached: int) -> bytes:
        """struct shmid64_ds."""
        return self.perm() + TAIL.pack(self.size, self.atime, self.dtime, self.ctime, self.cpid, self.lpid, attached, 0, 0)


class SharedMemory:
    """The segments of a namespace."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.registry: Registry[Segment] = Registry(limits, L.SHMMNI)
        self.dying: list[Segment] = []  # removed, still attached

    def attached(self, t: Task, seg: Segment) -> int:
        """How many mappings there are, in all address spaces."""
        ident = seg.obj.ident()
        spaces = {id(m.mm): m.mm for m in t.kernel.every_task() if m.alive}
        return sum(mm.attachments(ident) for mm in spaces.values())

    def pages(self) -> int:
        """Of all segments."""
        return sum((s.size + PAGE - 1) // PAGE for s in [*self.registry.slots.values(), *self.dying])

    def get(self, t: Task, key: int, size: int, flags: int) -> int:
        seg = self.registry.lookup(t, key, flags)
        if seg is None:
            if not 1 <= size <= self.limits.values[L.SHMMAX]:
                raise Errno(E.EINVAL)
            if self.pages() + (size + PAGE - 1) // PAGE > self.limits.values[L.SHMALL]:
                raise Errno(E.ENOSPC)
            if size > LARGEST:
                raise Errno(E.ENOMEM)
            return self.registry.add(Segment(t, key, flags, size))
        if size > seg.size:
            raise Errno(E.EINVAL)
        return seg.ident

    def find(self, ident: int) -> Segment:
        for seg in self.dying:
            if seg.ident == ident:
                return seg
        return self.registry.find(ident)

    def attach(self, t: Task, ident: int, addr: int, flags: int) -> int:
        seg = self.find(ident)
        prot = MM.PROT_READ if flags & I.SHM_RDONLY else MM.PROT_READ | MM.PROT_WRITE
        if flags & I.SHM_EXEC:
            prot |= MM.PROT_EXEC
        seg.permit(t, READ if flags & I.SHM_RDONLY else READ | WRITE)
        mmap_flags = MM.MAP_SHARED
        if addr:
            if addr % PAGE:
                if not flags & I.SHM_RND:
                    raise Errno(E.EINVAL)
                addr &= -PAGE
                if addr == 0 and flags & I.SHM_REMAP:
                    raise Errno(E.EINVAL)
            mmap_flags |= MM.MAP_FIXED if flags & I.SHM_REMAP else MM.MAP_FIXED_NOREPLACE
        elif flags & I.SHM_REMAP:
            raise Errno(E.EINVAL)
        maxprot = prot | MM.PROT_EXEC
        try:
            at = t.mm.mmap(addr, seg.size, prot, mmap_flags, seg.obj, 0, None, maxprot)
        except Errno as e:
            raise Errno(E.EINVAL if e.errno == E.EEXIST else e.errno) from None
        t.mm.segments[at] = seg.obj.ident()
        seg.atime = clock.realtime() // clock.NS
        seg.lpid = t.tg.pid
        return at

    def detach(self, t: Task, addr: int) -> None:
        ident = t.mm.segments.get(addr)
        if ident is None:
            raise Errno(E.EINVAL)
        for region in t.mm.regions():
            if region.object == ident and region.start - region.offset == addr:
                t.mm.munmap(region.start, region.end - region.start)
        del t.mm.segments[addr]
        for seg in [*self.registry.slots.values(), *self.dying]:
            if seg.obj.ident() == ident:
                seg.dtime = clock.realtime() // clock.NS
                seg.lpid = t.tg.pid
        self.bury(t)

    def bury(self, t: Task) -> None:
        """Forgets removed segments that nobody maps any more."""
        self.dying = [s for s in self.dying if self.attached(t, s)]

    def remove(self, t: Task, seg: Segment) -> None:
        seg.own(t)
        if not seg.removed:
            self.registry.remove(seg)
            seg.mode |= DEST
            self.dying.append(seg)
        self.bury(t)


