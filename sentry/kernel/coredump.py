"""Core files (core(5)): what a fatal signal leaves in the working directory when RLIMIT_CORE allows it.

An ELF file of type CORE: notes about the thread that got the signal, then the memory. Other threads are not in it. As with the
default /proc/PID/coredump_filter, pages that can be read from their file again are left out, but for the first of an ELF file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import elf as ELF
from sentry.abi import fcntl as F
from sentry.abi import mman as MM
from sentry.abi import resource as R
from sentry.errors import Errno, Restart
from sentry.exec.elf import EHDR, PHDR
from sentry.kernel.signals import SigInfo
from sentry.vfs import opening, walk

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.address_space import Region
    from sentry.vfs.file import File

PAGE: Final = 4096
CHUNK: Final = 1 << 18
NAME: Final = b"core"
LEGACY_SIZE: Final = 512
XCR0: Final = 464
ARGS_SIZE: Final = 80
NHDR: Final = struct.Struct("<III")
PRSTATUS_HEAD: Final = struct.Struct("<iiihxxQQiiii8q")
PRPSINFO: Final = struct.Struct("<bcbb4xQIIiiii16s80s")
NS: Final = 1_000_000_000


class TooBig(Exception):
    """RLIMIT_CORE is reached: the file ends here, as Linux truncates it."""


class Writer:
    """The file being written; holes stay holes."""

    def __init__(self, t: Task, file: File, limit: int) -> None:
        self.t: Task = t
        self.file: File = file
        self.limit: int = limit

    def put(self, data: bytes, offset: int) -> None:
        while data:
            room = self.limit - offset
            if room <= 0:
                raise TooBig
            n = self.file.write(self.t, data[:room], offset)
            if n <= 0:
                raise TooBig
            data = data[n:]
            offset += n


def dump(t: Task, info: SigInfo) -> bool:
    """Writes the core file of a process that dies of the signal; False when there is to be none or it can't be written."""
    limit = t.tg.limits.soft(R.RLIMIT_CORE)
    if limit < PAGE or t.mm.dumpable != 1 or t.tg.exiting:
        return False
    flags = F.O_CREAT | F.O_WRONLY | F.O_TRUNC | F.O_NOFOLLOW
    try:
        file = opening.open_file(t, F.AT_FDCWD, NAME, flags, 0o600)
    except (Errno, Restart):
        return False
    file.incref()
    try:
        if not file.seekable or walk.path_bytes(t.fs.cwd, t.fs.root).startswith(b"(unreachable)"):
            return False
        write_core(t, info, Writer(t, file, limit))
    except TooBig:
        pass
    except Errno:
        return False
    finally:
        file.decref()
    return True


def write_core(t: Task, info: SigInfo, out: Writer) -> None:
    regions = [r for r in t.mm.regions() if not r.flags & lib.CN_VMA_DONTDUMP]
    notes = b"".join(all_notes(t, info, regions))
    notes_at = EHDR.size + PHDR.size * (len(regions) + 1)
    offset = (notes_at + len(notes) + PAGE - 1) & ~(PAGE - 1)
    headers = [PHDR.pack(ELF.PT_NOTE, 0, notes_at, 0, 0, len(notes), 0, 4)]
    places: list[tuple[Region, int, int]] = []
    for r in regions:
        size = dumped_size(r)
        headers.append(
            PHDR.pack(ELF.PT_LOAD, elf_flags(r.prot), offset, r.start, 0, size, r.end - r.start, PAGE)
        )
        places.append((r, offset, size))
        offset += size
    ident = bytes(
        [ELF.ELFMAG0, ELF.ELFMAG1, ELF.ELFMAG2, ELF.ELFMAG3, ELF.ELFCLASS64, ELF.ELFDATA2LSB, 1]
    ).ljust(16, b"\0")
    head = EHDR.pack(
        ident, ELF.ET_CORE, ELF.EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, len(headers), 0, 0, 0
    )
    out.put(head + b"".join(headers) + notes, 0)
    for r, at, size in places:
        write_region(t, r, at, size, out)


def dumped_size(r: Region) -> int:
    """Bytes of a region that go into the file."""
    if r.flags & lib.CN_VMA_VDSO or r.file is None or r.anon_pages:
        return r.end - r.start
    return PAGE if r.offset == 0 and r.prot & MM.PROT_READ else 0


def elf_flags(prot: int) -> int:
    flags = ELF.PF_R if prot & MM.PROT_READ else 0
    if prot & MM.PROT_WRITE:
        flags |= ELF.PF_W
    return flags | ELF.PF_X if prot & MM.PROT_EXEC else flags


def write_region(t: Task, r: Region, at: int, size: int, out: Writer) -> None:
    """Pages of zeros, and those that can't be read, are left out."""
    done = 0
    while done < size:
        n = min(CHUNK, size - done)
        try:
            data = t.mm.force_read(r.start + done, n)
        except Errno:
            data = b""
        for i in range(0, len(data), PAGE):
            page = data[i : i + PAGE]
            if page.count(0) != len(page):
                out.put(page, at + done + i)
        done += n


def note(kind: int, data: bytes, name: bytes = b"CORE\0") -> bytes:
    return (
        NHDR.pack(len(name), len(data), kind)
        + name.ljust((len(name) + 3) & ~3, b"\0")
        + data.ljust((len(data) + 3) & ~3, b"\0")
    )


def all_notes(t: Task, info: SigInfo, regions: list[Region]) -> list[bytes]:
    size: int = lib.cn_xstate_size()
    image = ffi.new("unsigned char[]", size)
    lib.cn_task_get_xstate(t.native, image, size)
    area = ffi.buffer(image)
    area[XCR0 : XCR0 + 8] = int(lib.cn_xstate_features()).to_bytes(8, "little")  # where debuggers look for the layout
    xstate = bytes(area)
    return [
        note(ELF.NT_PRSTATUS, prstatus(t, info)),
        note(ELF.NT_PRPSINFO, prpsinfo(t)),
        note(ELF.NT_SIGINFO, info.pack()),
        note(ELF.NT_AUXV, t.mm.auxv),
        note(ELF.NT_FILE, mapped_files(t, regions)),
        note(ELF.NT_PRFPREG, xstate[:LEGACY_SIZE]),
        note(ELF.NT_X86_XSTATE, xstate, b"LINUX\0"),
    ]


def prstatus(t: Task, info: SigInfo) -> bytes:
    """struct elf_prstatus."""
    tg = t.tg
    parent = tg.parent.pid if tg.parent is not None else 0
    times: list[int] = []
    for ns in (*t.cpu_ns(), tg.children_utime, tg.children_stime):
        times += [ns // NS, ns % NS // 1000]
    head = PRSTATUS_HEAD.pack(
        info.signo, info.code, info.errno, info.signo, t.pending.set, t.sigmask, t.tid, parent, tg.pgrp.pgid,
        tg.pgrp.session.sid, *times,
    )  # fmt: skip
    return head + bytes(ffi.buffer(t.regs, ffi.sizeof("struct cn_regs"))) + (1).to_bytes(8, "little")


def prpsinfo(t: Task) -> bytes:
    """struct elf_prpsinfo."""
    tg = t.tg
    parent = tg.parent.pid if tg.parent is not None else 0
    try:
        length = max(0, min(ARGS_SIZE - 1, t.mm.arg_end - t.mm.arg_start))
        args = t.mm.force_read(t.mm.arg_start, length).replace(b"\0", b" ")
    except Errno:
        args = b""
    c = t.creds
    return PRPSINFO.pack(
        0, b"R", 0, t.nice, 0, c.ruid, c.rgid, tg.pid, parent, tg.pgrp.pgid, tg.pgrp.session.sid, t.comm, args
    )


def mapped_files(t: Task, regions: list[Region]) -> bytes:
    """NT_FILE: count, page size, then (start, end, page offset) of each mapping, then the names."""
    words: list[int] = []
    names = bytearray()
    count = 0
    for r in regions:
        if r.file is not None and r.file.path is not None:
            count += 1
            words += [r.start, r.end, r.offset // PAGE]
            names += walk.path_bytes(r.file.path, t.fs.root) + b"\0"
    return struct.pack(f"<{len(words) + 2}Q", count, PAGE, *words) + bytes(names)
