"""A task's memory in /proc: maps, smaps, cmdline, environ, auxv, mem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import mman as M
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.generated import GenNode, GenSuper
from sentry.fs.proc.base import INO_SHIFT, TaskRef, may_inspect
from sentry.fs.proc.status import has_memory
from sentry.vfs.file import File
from sentry.vfs.special import major, minor
from sentry.vfs.walk import path_bytes

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.address_space import AddressSpace, Region, Resident
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

PAGE: Final = 4096
ARGS_LIMIT: Final = 1 << 21
NAME_COLUMN: Final = 73


def region_name(t: Task, r: Region) -> bytes:
    file = r.file
    if file is not None:
        if file.path is not None:
            return path_bytes(file.path, t.fs.root)
        return file.describe()
    flags = r.flags
    if flags & lib.CN_VMA_HEAP:
        return b"[heap]"
    if flags & lib.CN_VMA_STACK:
        return b"[stack]"
    if flags & lib.CN_VMA_VDSO:
        return b"[vdso]" if r.prot & M.PROT_EXEC else b"[vvar]"
    if flags & lib.CN_VMA_SHARED:
        return b"/dev/zero (deleted)"
    return b""


def map_line(t: Task, r: Region) -> bytes:
    """One line of maps (proc(5)), without the newline."""
    prot = r.prot
    dev = ino = 0
    if r.file is not None and r.file.inode is not None:
        attr = r.file.inode.getattr()
        dev, ino = attr.dev, attr.ino
    line = b"%08x-%08x %s%s%s%s %08x %02x:%02x %d " % (
        r.start,
        r.end,
        b"r" if prot & M.PROT_READ else b"-",
        b"w" if prot & M.PROT_WRITE else b"-",
        b"x" if prot & M.PROT_EXEC else b"-",
        b"s" if r.flags & lib.CN_VMA_SHARED else b"p",
        r.offset if r.file is not None else 0,
        major(dev),
        minor(dev),
        ino,
    )
    name = region_name(t, r)
    return line.ljust(NAME_COLUMN) + name.replace(b"\n", b"\\012") if name else line


def maps(reader: Task, t: Task) -> bytes:
    if not has_memory(t):
        return b""
    return b"".join(map_line(t, r) + b"\n" for r in t.mm.regions())


def vm_flags(r: Region) -> bytes:
    prot, flags = r.prot, r.flags
    names = [
        (prot & M.PROT_READ, b"rd"), (prot & M.PROT_WRITE, b"wr"), (prot & M.PROT_EXEC, b"ex"),
        (flags & lib.CN_VMA_SHARED, b"sh"), (1, b"mr"), (1, b"mw"), (1, b"me"), (flags & lib.CN_VMA_SHARED, b"ms"),
        (flags & lib.CN_VMA_GROWSDOWN, b"gd"), (flags & lib.CN_VMA_LOCKED, b"lo"), (flags & lib.CN_VMA_DONTFORK, b"dc"),
        (flags & lib.CN_VMA_NORESERVE, b"nr"), (flags & lib.CN_VMA_DONTDUMP, b"dd"),
        (flags & lib.CN_VMA_WIPEONFORK, b"wf"),
    ]  # fmt: skip
    return b" ".join(name for on, name in names if on)


def smap_fields(there: Resident, locked: int) -> list[tuple[bytes, int]]:
    """Bytes by name. Who else maps a page is not known: file pages count as shared and clean, others as private and dirty."""
    anon, file, shmem, rss = there.anon, there.file, there.shmem, there.total
    zero = (b"Shared_Hugetlb", b"Private_Hugetlb", b"Swap", b"SwapPss")
    fields = [
        (b"Rss", rss), (b"Pss", rss), (b"Pss_Dirty", anon + shmem), (b"Shared_Clean", file), (b"Shared_Dirty", shmem),
        (b"Private_Clean", 0), (b"Private_Dirty", anon), (b"Referenced", rss), (b"Anonymous", anon), (b"LazyFree", 0),
        (b"AnonHugePages", 0), (b"ShmemPmdMapped", 0), (b"FilePmdMapped", 0),
    ]  # fmt: skip
    return fields + [(name, 0) for name in zero] + [(b"Locked", locked)]


def smaps(reader: Task, t: Task) -> bytes:
    if not has_memory(t):
        return b""
    out: list[bytes] = []
    for r in t.mm.regions():
        size = r.end - r.start
        there = t.mm.resident(r.start, r.end)
        out.append(map_line(t, r))
        for name, value in [(b"Size", size), (b"KernelPageSize", PAGE), (b"MMUPageSize", PAGE)]:
            out.append(b"%-16s%8d kB" % (name + b":", value >> 10))
        for name, value in smap_fields(there, size if r.flags & lib.CN_VMA_LOCKED else 0):
            out.append(b"%-16s%8d kB" % (name + b":", value >> 10))
        out.append(b"THPeligible:%8d" % 0)
        out.append(b"VmFlags: %s " % vm_flags(r))
    return b"\n".join(out) + b"\n"


def smaps_rollup(reader: Task, t: Task) -> bytes:
    if not has_memory(t):
        return b""
    regions = t.mm.regions()
    if not regions:
        return b""
    locked = sum(r.end - r.start for r in regions if r.flags & lib.CN_VMA_LOCKED)
    head = b"%08x-%08x ---p 00000000 00:00 0 " % (regions[0].start, regions[-1].end)
    out = [head.ljust(NAME_COLUMN) + b"[rollup]"]
    for name, value in smap_fields(t.mm.resident(), locked):
        out.append(b"%-16s%8d kB" % (name + b":", value >> 10))
    return b"\n".join(out) + b"\n"


def some(mm: AddressSpace, start: int, end: int) -> bytes:
    """Memory from start up to end, as much of it as is there."""
    if end <= start:
        return b""
    try:
        return mm.read_some(start, min(end - start, ARGS_LIMIT))
    except Errno:
        return b""


def cmdline(reader: Task, t: Task) -> bytes:
    """The arguments as they are in memory now. A program that overwrote the NUL at their end has written a title (setproctitle):
    then up to the first NUL, into the environment's space."""
    if not has_memory(t):
        return b""
    mm = t.mm
    data = some(mm, mm.arg_start, mm.arg_end)
    if data and data[-1] and mm.env_start == mm.arg_end:
        data = (data + some(mm, mm.env_start, mm.env_end)).partition(b"\0")[0]
    return data


def environ(reader: Task, t: Task) -> bytes:
    if not has_memory(t):
        return b""
    return some(t.mm, t.mm.env_start, t.mm.env_end)


def auxv(reader: Task, t: Task) -> bytes:
    return t.mm.auxv if has_memory(t) else b""


class MemNode(GenNode):
    """/proc/PID/mem."""

    def __init__(self, sb: GenSuper, ref: TaskRef, kind: int) -> None:
        super().__init__(sb, S.S_IFREG | 0o600, ref.tid << INO_SHIFT | kind)
        self.ref: TaskRef = ref

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(False)

    def open(self, t: Task, path: Path, flags: int) -> File:
        other = self.ref.get()
        if not may_inspect(t, other):
            raise Errno(E.EACCES)
        return MemFile(flags, path, self, other.mm)


class MemFile(File):
    """Memory of the program that ran when the file was opened, whatever its protection."""

    def __init__(self, flags: int, path: Path, inode: Inode, mm: AddressSpace) -> None:
        super().__init__(flags, path, inode)
        self.mm: AddressSpace = mm
        self.seekable = True

    def size(self) -> int:
        return 0

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if self.mm.users <= 0:
            return b""
        parts: list[bytes] = []
        while count > 0:
            n = min(count, PAGE - offset % PAGE)
            try:
                parts.append(self.mm.force_read(offset, n))
            except Errno:
                break
            offset += n
            count -= n
        if count and not parts:
            raise Errno(E.EIO)
        return b"".join(parts)

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if self.mm.users <= 0:
            return 0
        done = 0
        while done < len(data):
            n = min(len(data) - done, PAGE - (offset + done) % PAGE)
            try:
                self.mm.force_write(offset + done, data[done : done + n])
            except Errno:
                break
            done += n
        if data and not done:
            raise Errno(E.EIO)
        return done

    def mapping(self, t: Task) -> None:
        return None
