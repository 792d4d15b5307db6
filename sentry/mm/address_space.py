"""A process's address space: the typed face of native/mm/mm.h."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.errors import Errno
from sentry.mm.objects import MemoryObject, checked

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.limits import Limits
    from sentry.vfs.file import File

NO_LIMIT: Final = 0xFFFFFFFFFFFFFFFF
PATH_MAX: Final = 4096  # with its NUL
PATH: Final = ffi.new("char[]", PATH_MAX)  # where paths come in (with K held)
PATH_VIEW: Final = ffi.buffer(PATH)


class Region:
    """One VMA, for /proc/PID/maps and for questions. `file` is what was mapped, None for anonymous memory."""

    def __init__(self, info: ffi.CData, file: File | None) -> None:
        self.start: int = info.start
        self.end: int = info.end
        self.offset: int = info.offset
        self.prot: int = info.prot
        self.flags: int = info.flags  # lib.CN_VMA_*
        self.object: int = info.object  # id of the memory object, 0: none
        self.anon_pages: int = info.anon_pages
        self.file: File | None = file


class Stats:
    """Sizes in bytes."""

    def __init__(self, s: ffi.CData) -> None:
        self.total: int = s.total
        self.data: int = s.data
        self.stack: int = s.stack
        self.locked: int = s.locked
        self.shared: int = s.shared
        self.anon: int = s.anon
        self.brk_start: int = s.brk_start
        self.brk: int = s.brk
        self.peak_total: int = s.peak_total


class Resident:
    """Memory that is really there, in bytes, by kind of page as /proc/PID/status tells it."""

    def __init__(self, rss: ffi.CData) -> None:
        self.anon: int = rss.anon
        self.file: int = rss.file
        self.shmem: int = rss.shmem
        self.total: int = self.anon + self.file + self.shmem
        self.peak: int = rss.peak


class AddressSpace:
    """Counted by the tasks that use it: `share` and `unref`. Reads and writes raise Errno(EFAULT)."""

    def __init__(self, kernel: Kernel, native: ffi.CData | None = None) -> None:
        self.kernel: Kernel = kernel
        if native is None:
            out = ffi.new("struct cn_mm **")
            checked(lib.cn_mm_new(out))
            native = out[0]
        self.native: ffi.CData = native
        self.users: int = 1
        self.files: dict[int, File] = {}  # cookie -> mapped file; the address space holds a reference on each
        self.cookies: dict[int, int] = {}  # id(file) -> cookie
        self.next_cookie: int = 1
        # Set by exec, shown by /proc and changed by prctl(PR_SET_MM)
        self.exe: File | None = None
        self.dumpable: int = 1
        self.start_code: int = 0
        self.end_code: int = 0
        self.start_data: int = 0
        self.end_data: int = 0
        self.start_stack: int = 0
        self.arg_start: int = 0
        self.arg_end: int = 0
        self.env_start: int = 0
        self.env_end: int = 0
        self.auxv: bytes = b""
        self.membarrier: int = 0  # commands that were registered
        self.segments: dict[int, int] = {}  # attached SysV shared memory: address -> object id
        self.thp_disabled: bool = False  # prctl(PR_SET_THP_DISABLE); nothing here uses huge pages anyway

    # Life

    def share(self) -> AddressSpace:
        """One more user (CLONE_VM)."""
        self.users += 1
        return self

    def fork(self, sp: int) -> AddressSpace:
        """A copy whose private pages are shared until written. `sp`: the caller's stack pointer."""
        out = ffi.new("struct cn_mm **")
        if self.users == 1:
            checked(lib.cn_mm_fork_alone(self.native, sp, out))
        else:
            checked(lib.cn_mm_fork(self.native, out))
        new = AddressSpace(self.kernel, out[0])
        new.files = self.files.copy()
        new.cookies = self.cookies.copy()
        for file in new.files.values():
            file.incref()
        new.next_cookie = self.next_cookie
        if self.exe is not None:
            new.set_exe(self.exe)
        new.dumpable = self.dumpable
        new.start_code, new.end_code = self.start_code, self.end_code
        new.start_data, new.end_data = self.start_data, self.end_data
        new.start_stack = self.start_stack
        new.arg_start, new.arg_end = self.arg_start, self.arg_end
        new.env_start, new.env_end = self.env_start, self.env_end
        new.auxv = self.auxv
        new.membarrier = self.membarrier
        new.segments = self.segments.copy()
        new.thp_disabled = self.thp_disabled
        return new

    def set_exe(self, file: File) -> None:
        """The program that runs here; while it does, nobody may open its file for writing (ETXTBSY)."""
        self.drop_exe()
        self.exe = file
        file.incref()
        if file.inode is not None:
            file.inode.writers -= 1

    def drop_exe(self) -> None:
        file = self.exe
        if file is not None:
            self.exe = None
            if file.inode is not None:
                file.inode.writers += 1
            file.decref()

    def unref(self) -> None:
        """A user leaves; the last one frees everything. Its task's context must be gone by then."""
        self.users -= 1
        if self.users > 0:
            return
        lib.cn_mm_unref(self.native)
        self.native = ffi.NULL
        files = list(self.files.values())
        self.files = {}
        self.drop_exe()
        for file in files:
            file.decref()

    # Layout

    def set_limits(self, limits: Limits) -> None:
        """RLIMIT_AS, DATA, STACK and MEMLOCK of the process (setrlimit tells of changes)."""
        native = ffi.new("struct cn_mm_limits *")
        native.address_space = limits.soft(R.RLIMIT_AS)
        native.data = limits.soft(R.RLIMIT_DATA)
        native.stack = limits.soft(R.RLIMIT_STACK)
        native.memlock = limits.soft(R.RLIMIT_MEMLOCK)
        lib.cn_mm_set_limits(self.native, native)

    def set_base(self, mmap_top: int, brk_start: int) -> None:
        """Where mappings are placed below, and where the heap begins."""
        lib.cn_mm_set_base(self.native, mmap_top, brk_start)

    def cookie_of(self, file: File) -> int:
        """The number that VMAs of this file carry."""
        cookie = self.cookies.get(id(file), 0)
        if cookie == 0:
            cookie = self.next_cookie
            self.next_cookie += 1
            self.cookies[id(file)] = cookie
            self.files[cookie] = file
            file.incref()
            if len(self.files) > 256:
                self.forget_unmapped(cookie)
        return cookie

    def forget_unmapped(self, keep: int) -> None:
        """Drops files that no VMA names any more."""
        used = {int(info.cookie) for info in self.infos()}
        used.add(keep)
        for cookie in [c for c in self.files if c not in used]:
            file = self.files.pop(cookie)
            del self.cookies[id(file)]
            file.decref()

    def mmap(
        self,
        addr: int,
        length: int,
        prot: int,
        flags: int,
        obj: MemoryObject | None = None,
        offset: int = 0,
        file: File | None = None,
        maxprot: int = 7,
        vma_flags: int = 0,
    ) -> int:
        """mmap(2): the address. obj None: anonymous. `file` names the mapping; `maxprot` bounds later mprotect."""
        cookie = self.cookie_of(file) if file is not None else 0
        native = obj.native if obj is not None else ffi.NULL
        return checked(
            lib.cn_mm_mmap(self.native, addr, length, prot, maxprot, flags, vma_flags, native, offset, cookie)
        )

    def munmap(self, addr: int, length: int) -> None:
        checked(lib.cn_mm_munmap(self.native, addr, length))

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        checked(lib.cn_mm_mprotect(self.native, addr, length, prot))

    def mremap(self, old: int, old_len: int, new_len: int, flags: int, new: int) -> int:
        return checked(lib.cn_mm_mremap(self.native, old, old_len, new_len, flags, new))

    def madvise(self, addr: int, length: int, advice: int) -> None:
        checked(lib.cn_mm_madvise(self.native, addr, length, advice))

    def brk(self, addr: int) -> int:
        """The break after trying to move it; 0 asks."""
        return lib.cn_mm_brk(self.native, addr)

    def msync(self, addr: int, length: int, flags: int) -> None:
        checked(lib.cn_mm_msync(self.native, addr, length, flags))

    def lock_freely(self, freely: bool) -> None:
        """Does RLIMIT_MEMLOCK not count for what is locked from now on (CAP_IPC_LOCK)?"""
        lib.cn_mm_lock_freely(self.native, int(freely))

    def mlock(self, addr: int, length: int, on_fault: bool) -> None:
        """`on_fault`: pages become resident when they are touched, not now."""
        checked(lib.cn_mm_mlock(self.native, addr, length, int(on_fault)))

    def munlock(self, addr: int, length: int) -> None:
        checked(lib.cn_mm_munlock(self.native, addr, length))

    def mlockall(self, flags: int) -> None:
        """`flags` MCL_*; 0 unlocks everything."""
        checked(lib.cn_mm_mlockall(self.native, flags))

    def mincore(self, addr: int, length: int) -> bytes:
        """One byte a page, 1 for resident; ENOMEM when a page is not mapped."""
        pages = (length + 4095) >> 12
        vec = ffi.new("uint8_t[]", max(1, pages))
        checked(lib.cn_mm_mincore(self.native, addr, length, vec))
        return bytes(ffi.buffer(vec, pages))

    # Copies

    def read(self, addr: int, count: int) -> bytes:
        """Exactly `count` bytes."""
        if count == 0:
            return b""
        buf = ffi.new("char[]", count)
        if lib.cn_mm_copy_in(self.native, addr, buf, count) < 0:
            raise Errno(E.EFAULT)
        return bytes(ffi.buffer(buf, count))

    def write(self, addr: int, data: bytes) -> None:
        """All of `data`."""
        if lib.cn_mm_copy_out(self.native, addr, data, len(data)) < 0:
            raise Errno(E.EFAULT)

    def read_some(self, addr: int, count: int) -> bytes:
        """As many of `count` bytes as can be read; EFAULT for none."""
        if count == 0:
            return b""
        buf = ffi.new("char[]", count)
        n = lib.cn_mm_read_some(self.native, addr, buf, count)
        if n <= 0:
            raise Errno(E.EFAULT)
        return bytes(ffi.buffer(buf, n))

    def write_some(self, addr: int, data: bytes) -> int:
        """Bytes written before the first that can't be; EFAULT for none."""
        if not data:
            return 0
        n = lib.cn_mm_write_some(self.native, addr, data, len(data))
        if n <= 0:
            raise Errno(E.EFAULT)
        return n

    def force_read(self, addr: int, count: int) -> bytes:
        """Like read, whatever the protection (ptrace, /proc/PID/mem)."""
        buf = ffi.new("char[]", max(1, count))
        if lib.cn_mm_force_in(self.native, addr, buf, count) < 0:
            raise Errno(E.EFAULT)
        return bytes(ffi.buffer(buf, count))

    def force_write(self, addr: int, data: bytes) -> None:
        """Like write, whatever the protection; private pages are copied."""
        if lib.cn_mm_force_out(self.native, addr, data, len(data)) < 0:
            raise Errno(E.EFAULT)

    def read_string(self, addr: int, limit: int) -> bytes:
        """A string without its NUL; E2BIG when `limit` bytes hold none (exec's rule)."""
        return self.string(addr, limit, E.E2BIG)

    def read_cstr(self, addr: int, limit: int) -> bytes:
        """A string without its NUL; ENAMETOOLONG when `limit` bytes hold none."""
        return self.string(addr, limit, E.ENAMETOOLONG)

    def read_path(self, addr: int) -> bytes:
        """A path name: at most 4095 bytes, ENAMETOOLONG."""
        n: int = lib.cn_mm_copy_str(self.native, addr, PATH, PATH_MAX)
        if n < 0:
            raise Errno(E.ENAMETOOLONG if n == -E.ENAMETOOLONG else E.EFAULT)
        path: bytes = PATH_VIEW[0:n]
        return path

    def string(self, addr: int, limit: int, too_long: int) -> bytes:
        size = min(limit, 4096)
        while True:
            buf = ffi.new("char[]", size)
            n = lib.cn_mm_copy_str(self.native, addr, buf, size)
            if n >= 0:
                return bytes(ffi.buffer(buf, n))
            if n != -E.ENAMETOOLONG:
                raise Errno(E.EFAULT)
            if size >= limit:
                raise Errno(too_long)
            size = min(limit, size * 8)

    def zero(self, addr: int, count: int) -> None:
        checked(lib.cn_mm_zero(self.native, addr, count))

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_i32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little", signed=True)

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def read_i64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little", signed=True)

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, (value & NO_LIMIT).to_bytes(8, "little"))

    # Words, for futexes

    def load32(self, addr: int) -> int:
        """EINVAL when not aligned."""
        out = ffi.new("uint32_t *")
        checked(lib.cn_mm_load32(self.native, addr, out))
        return int(out[0])

    def cmpxchg32(self, addr: int, expected: int, desired: int) -> int:
        """The value before; it was exchanged when that is `expected`."""
        out = ffi.new("uint32_t *")
        checked(lib.cn_mm_cmpxchg32(self.native, addr, expected, desired, out))
        return int(out[0])

    def op32(self, addr: int, op: int, arg: int) -> int:
        """FUTEX_OP_SET, ADD, OR, ANDN, XOR atomically; the value before."""
        out = ffi.new("uint32_t *")
        checked(lib.cn_mm_op32(self.native, addr, op, arg & 0xFFFFFFFF, out))
        return int(out[0])

    def futex_key(self, addr: int, shared: bool) -> tuple[int, int]:
        """What identifies a futex word: (object, offset) in shared mappings, (this address space, address) else."""
        out = ffi.new("uint64_t[2]")
        checked(lib.cn_mm_futex_key(self.native, addr, int(shared), out, out + 1))
        return int(out[0]), int(out[1])

    # Questions

    def infos(self) -> list[ffi.CData]:
        n = 64
        while True:
            out = ffi.new("struct cn_vma_info[]", n)
            have = lib.cn_mm_vmas(self.native, out, n)
            if have <= n:
                return [out[i] for i in range(have)]
            n = have + 16

    def regions(self) -> list[Region]:
        """All VMAs by ascending address."""
        return [Region(info, self.files.get(info.cookie)) for info in self.infos()]

    def attachments(self, ident: int) -> int:
        """How many of the attached SysV segments are this object."""
        return sum(1 for obj in self.segments.values() if obj == ident)

    def find(self, addr: int) -> Region | None:
        """The VMA that holds an address."""
        info = ffi.new("struct cn_vma_info *")
        if lib.cn_mm_find(self.native, addr, info) < 0:
            return None
        return Region(info, self.files.get(info.cookie))

    def resident(self, start: int = 0, end: int = NO_LIMIT) -> Resident:
        """What is resident of a range. Asks the host about every page: for /proc."""
        out = ffi.new("struct cn_mm_rss *")
        lib.cn_mm_get_rss(self.native, start, end, out)
        return Resident(out)

    def private_resident(self) -> int:
        """Bytes of private memory that are resident."""
        return lib.cn_mm_private_resident(self.native)

    def stats(self) -> Stats:
        out = ffi.new("struct cn_mm_stats *")
        lib.cn_mm_get_stats(self.native, out)
        return Stats(out)
