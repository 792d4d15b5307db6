"""Loading an ELF program into a new address space: segments, interpreter, vDSO, stack (fs/binfmt_elf.c for the oddities)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import elf as ELF
from sentry.abi import errno as E
from sentry.abi import mman as MM
from sentry.abi import prctl as PR
from sentry.abi import resource as R
from sentry.errors import Errno
from sentry.exec import auxv, hwcap
from sentry.exec.elf import Image, Segment
from sentry.exec.vdso import vdso_object
from sentry.mm.address_space import AddressSpace

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.randomness import Randomness
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

PAGE: Final = 4096
PAGE_MASK: Final = ~4095
TASK_SIZE: Final = 0x7FFF00000000  # CN_TASK_SIZE
STACK_TOP: Final = TASK_SIZE - PAGE
PIE_BASE: Final = TASK_SIZE // 3 * 2 & PAGE_MASK
STACK_RANDOM: Final = 1 << 22  # pages
MMAP_RANDOM: Final = 1 << 28  # pages
BRK_RANDOM: Final = 1 << 13  # pages
STACK_SHIFT: Final = 8192
MIN_GAP: Final = 128 << 20  # between stack top and mappings
MAX_GAP: Final = TASK_SIZE // 6 * 5
STACK_GUARD: Final = 256 * PAGE
STACK_START: Final = 132 * 1024  # mapped from the start, beside what is on it
PRIVATE_FIXED: Final = MM.MAP_PRIVATE | MM.MAP_FIXED
PRIVATE: Final = MM.MAP_PRIVATE
ANON_FIXED: Final = MM.MAP_PRIVATE | MM.MAP_ANONYMOUS | MM.MAP_FIXED


class Program:
    """An ELF file and its parsed headers."""

    def __init__(self, file: File, image: Image) -> None:
        self.file: File = file
        self.image: Image = image


class Loaded:
    """A finished address space and where its first thread starts."""

    def __init__(self, mm: AddressSpace, inode: Inode) -> None:
        self.mm: AddressSpace = mm
        self.inode: Inode = inode
        self.entry: int = 0
        self.sp: int = 0


class Layout:
    """Where things go: random, unless the personality says ADDR_NO_RANDOMIZE."""

    def __init__(self, random: Randomness, on: bool, stack_limit: int) -> None:
        self.random: Randomness = random
        self.on: bool = on
        self.stack_top: int = STACK_TOP - self.pages(STACK_RANDOM)
        pad = STACK_GUARD + (STACK_RANDOM * PAGE if on else 0)
        gap = stack_limit if stack_limit + pad < stack_limit or stack_limit > MAX_GAP else stack_limit + pad
        gap = max(MIN_GAP, min(gap, MAX_GAP))
        self.mmap_top: int = (TASK_SIZE - gap - self.pages(MMAP_RANDOM)) & PAGE_MASK

    def pages(self, limit: int) -> int:
        """A random number of pages below `limit`, in bytes."""
        return self.random.below(limit) * PAGE if self.on else 0


def load(
    t: Task,
    program: Program,
    interp: Program | None,
    argv: list[bytes],
    envp: list[bytes],
    filename: bytes,
    creds: Creds,
    secure: bool,
) -> Loaded:
    """Builds the address space. Errno (ENOEXEC, EINVAL, ENOMEM) leaves nothing behind."""
    kernel = t.kernel
    inode = program.file.inode
    assert inode is not None
    mm = AddressSpace(kernel)
    try:
        limits = t.tg.limits
        mm.set_limits(limits)
        layout = Layout(
            kernel.random, not t.tg.personality & PR.ADDR_NO_RANDOMIZE, limits.soft(R.RLIMIT_STACK)
        )
        mm.set_base(layout.mmap_top, 0)
        image = program.image
        low, high = image.span()
        bias = 0
        if image.dynamic:
            if interp is not None:
                bias = PIE_BASE + layout.pages(MMAP_RANDOM)
                bias = (bias & -image.align) - low
            else:
                bias = place(mm, image, low, high) - low
        check_span(low + bias, high + bias)
        map_segments(t, mm, program, bias)
        mm.set_base(layout.mmap_top, high + bias + layout.pages(BRK_RANDOM))
        base = 0
        entry = image.entry + bias
        if interp is not None:
            ilow, ihigh = interp.image.span()
            base = place(mm, interp.image, ilow, ihigh) - ilow if interp.image.dynamic else 0
            check_span(ilow + base, ihigh + base)
            map_segments(t, mm, interp, base)
            entry = interp.image.entry + base
        elif image.dynamic:
            base = 0
        vdso = map_vdso(mm)
        new = Loaded(mm, inode)
        new.entry = entry
        aux = [
            (ELF.AT_SYSINFO_EHDR, vdso),
            (ELF.AT_MINSIGSTKSZ, lib.cn_signal_frame_max()),
            (ELF.AT_HWCAP, hwcap.hwcap()),
            (ELF.AT_PAGESZ, PAGE),
            (ELF.AT_CLKTCK, auxv.CLOCK_TICKS),
            (ELF.AT_PHDR, image.phdr + bias if image.phdr else 0),
            (ELF.AT_PHENT, 56),
            (ELF.AT_PHNUM, image.phnum),
            (ELF.AT_BASE, base),
            (ELF.AT_FLAGS, 0),
            (ELF.AT_ENTRY, image.entry + bias),
            (ELF.AT_UID, creds.ruid),
            (ELF.AT_EUID, creds.euid),
            (ELF.AT_GID, creds.rgid),
            (ELF.AT_EGID, creds.egid),
            (ELF.AT_SECURE, 1 if secure else 0),
            (ELF.AT_HWCAP2, hwcap.hwcap2()),
        ]
        build_stack(t, mm, layout, image, filename, argv, envp, aux, new)
        mm.set_exe(program.file)
        mm.start_code, mm.end_code, mm.start_data, mm.end_data = code_and_data(image, bias)
        return new
    except BaseException:
        mm.unref()
        raise


def check_span(low: int, high: int) -> None:
    if low < PAGE or high > TASK_SIZE or high <= low:
        raise Errno(E.ENOMEM if high > TASK_SIZE else E.EINVAL)


def place(mm: AddressSpace, image: Image, low: int, high: int) -> int:
    """An aligned free place for a whole image below the mmap top."""
    size = high - low
    if size > TASK_SIZE:
        raise Errno(E.ENOMEM)
    addr = mm.mmap(0, size + image.align - PAGE, MM.PROT_NONE, PRIVATE | MM.MAP_ANONYMOUS | MM.MAP_NORESERVE)
    mm.munmap(addr, size + image.align - PAGE)
    return (addr + image.align - PAGE) & -image.align


def protection(flags: int) -> int:
    """PROT_* of a segment's PF_*."""
    prot = MM.PROT_READ if flags & ELF.PF_R else 0
    if flags & ELF.PF_W:
        prot |= MM.PROT_WRITE
    if flags & ELF.PF_X:
        prot |= MM.PROT_EXEC
    return prot


def map_segments(t: Task, mm: AddressSpace, program: Program, bias: int) -> None:
    """Maps every segment at its address plus the bias: file pages, then zeros."""
    file = program.file
    obj = file.mapping(t)
    if obj is None:
        raise Errno(E.ENODEV)
    for s in program.image.segments:
        start = s.vaddr + bias & PAGE_MASK
        file_end = s.vaddr + bias + s.filesz
        mem_end = s.vaddr + bias + s.memsz
        prot = protection(s.flags)
        mapped_end = start
        if s.filesz:
            mapped_end = (file_end + PAGE - 1) & PAGE_MASK
            mm.mmap(start, mapped_end - start, prot, PRIVATE_FIXED, obj, s.offset & PAGE_MASK, file)
        if mem_end > file_end:
            if s.filesz and file_end < mapped_end and prot & MM.PROT_WRITE:
                mm.zero(file_end, mapped_end - file_end)  # the whole page: ld.so allocates behind its bss
            top = (mem_end + PAGE - 1) & PAGE_MASK
            if top > mapped_end:
                mm.mmap(mapped_end, top - mapped_end, prot, ANON_FIXED)


def map_vdso(mm: AddressSpace) -> int:
    """Maps our vDSO; its address."""
    obj, size = vdso_object()
    return mm.mmap(0, size, MM.PROT_READ | MM.PROT_EXEC, PRIVATE, obj, 0, vma_flags=lib.CN_VMA_VDSO)


def build_stack(
    t: Task,
    mm: AddressSpace,
    layout: Layout,
    image: Image,
    filename: bytes,
    argv: list[bytes],
    envp: list[bytes],
    aux: list[tuple[int, int]],
    new: Loaded,
) -> None:
    """Maps the stack and writes its first contents."""
    stack = auxv.Stack(layout.stack_top)
    shift = layout.random.below(STACK_SHIFT) if layout.on else 0
    where = auxv.build(stack, filename, argv, envp, aux, t.kernel.random.get(16), shift)
    size = (stack.top - stack.sp + STACK_START + PAGE - 1) & PAGE_MASK
    prot = MM.PROT_READ | MM.PROT_WRITE | (MM.PROT_EXEC if image.exec_stack else 0)
    flags = ANON_FIXED | MM.MAP_GROWSDOWN
    mm.mmap(stack.top - size, size, prot, flags, vma_flags=lib.CN_VMA_STACK)
    mm.write(stack.sp, stack.data())
    mm.arg_start = where.arg_start
    mm.arg_end = where.arg_end
    mm.env_start = where.env_start
    mm.env_end = where.env_end
    mm.auxv = where.auxv
    mm.start_stack = stack.sp
    new.sp = stack.sp


def code_and_data(image: Image, bias: int) -> tuple[int, int, int, int]:
    """(start_code, end_code, start_data, end_data) as /proc/PID/stat shows them."""
    code = [s for s in image.segments if s.flags & ELF.PF_X]
    start_code = min(s.vaddr for s in image.segments)
    end_code = max([s.vaddr + s.filesz for s in code], default=0)
    last = max(image.segments, key=start_of)
    end_data = max(s.vaddr + s.filesz for s in image.segments)
    return start_code + bias, end_code + bias, last.vaddr + bias, end_data + bias


def start_of(s: Segment) -> int:
    return s.vaddr
