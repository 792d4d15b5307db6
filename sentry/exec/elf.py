"""ELF files of x86-64: headers, read from bounded copies of hostile bytes (elf(5))."""

from __future__ import annotations

import struct
from typing import Final

from sentry.abi import elf as ELF
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.errors import Errno

EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR: Final = struct.Struct("<IIQQQQQQ")
MAGIC: Final = b"\x7fELF"
MAX_PHDRS_SIZE: Final = 65536
ADDRESS_LIMIT: Final = 1 << 47


class Segment:
    """A program header of type PT_LOAD."""

    def __init__(self, flags: int, offset: int, vaddr: int, filesz: int, memsz: int, align: int) -> None:
        self.flags: int = flags  # PF_*
        self.offset: int = offset
        self.vaddr: int = vaddr
        self.filesz: int = filesz
        self.memsz: int = memsz
        self.align: int = align


class Image:
    """What exec needs of an ELF file. Addresses are as in the file, before any bias."""

    def __init__(self) -> None:
        self.dynamic: bool = False  # ET_DYN: may be placed anywhere
        self.entry: int = 0
        self.phdr: int = 0  # address of the program headers in memory, 0 when no segment has them
        self.phnum: int = 0
        self.segments: list[Segment] = []
        self.interp_offset: int = 0
        self.interp_size: int = 0  # 0: no interpreter
        self.exec_stack: bool = False
        self.align: int = 4096  # of the whole image

    def span(self) -> tuple[int, int]:
        """First and one past the last address, page-aligned."""
        low = min(s.vaddr for s in self.segments)
        high = max(s.vaddr + s.memsz for s in self.segments)
        return low & ~4095, (high + 4095) & ~4095


def table(head: bytes) -> tuple[int, int]:
    """(offset, size) of the program headers, from the ELF header. ENOEXEC when it is no x86-64 program or library."""
    if len(head) < EHDR.size or head[:4] != MAGIC:
        raise Errno(E.ENOEXEC)
    ident, kind, machine, _, _, phoff, _, _, _, phentsize, phnum, _, _, _ = EHDR.unpack_from(head, 0)
    if (
        kind not in (ELF.ET_EXEC, ELF.ET_DYN)
        or machine != ELF.EM_X86_64
        or ident[ELF.EI_CLASS] != ELF.ELFCLASS64
    ):
        raise Errno(E.ENOEXEC)
    size = phnum * PHDR.size
    if phentsize != PHDR.size or size == 0 or size > MAX_PHDRS_SIZE or phoff >= 1 << 62:
        raise Errno(E.ENOEXEC)
    return phoff, size


def parse(head: bytes, headers: bytes) -> Image:
    """The image of a file from its ELF header and its program headers (`table` says where they are)."""
    _, kind, _, _, entry, phoff, _, _, _, _, phnum, _, _, _ = EHDR.unpack_from(head, 0)
    image = Image()
    image.dynamic = kind == ELF.ET_DYN
    image.entry = entry
    image.phnum = phnum
    if len(headers) < phnum * PHDR.size:
        raise Errno(E.ENOEXEC)
    for i in range(phnum):
        kind, flags, offset, vaddr, _, filesz, memsz, align = PHDR.unpack_from(headers, i * PHDR.size)
        if kind == ELF.PT_LOAD:
            add_segment(image, Segment(flags, offset, vaddr, filesz, memsz, align))
        elif kind == ELF.PT_INTERP and image.interp_size == 0:
            if not 2 <= filesz <= F.PATH_MAX or offset >= 1 << 62:
                raise Errno(E.ENOEXEC)
            image.interp_offset = offset
            image.interp_size = filesz
        elif kind == ELF.PT_GNU_STACK:
            image.exec_stack = bool(flags & ELF.PF_X)
    if not image.segments:
        raise Errno(E.ENOEXEC)
    for s in image.segments:
        if s.offset <= phoff < s.offset + s.filesz:
            image.phdr = phoff - s.offset + s.vaddr
            break
    return image


def add_segment(image: Image, s: Segment) -> None:
    """ENOEXEC for one that can't be mapped."""
    if s.memsz == 0:
        return
    if s.filesz > s.memsz or s.vaddr + s.memsz > ADDRESS_LIMIT or s.offset + s.filesz > 1 << 62:
        raise Errno(E.ENOEXEC)
    if s.filesz and (s.vaddr ^ s.offset) & 4095:
        raise Errno(E.ENOEXEC)
    if s.align & (s.align - 1) == 0 and 4096 < s.align <= 1 << 30:
        image.align = max(image.align, s.align)
    image.segments.append(s)
