"""Memory syscalls, thin over sentry/mm; and reads and writes of other processes' memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mman as MM
from sentry.abi import mount as M
from sentry.abi import resource as R
from sentry.errors import Errno
from sentry.kernel.pidfd import PidFile
from sentry.syscalls.process import may_inspect

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.address_space import AddressSpace

PAGE: Final = 4096
PROT_MASK: Final = MM.PROT_READ | MM.PROT_WRITE | MM.PROT_EXEC
PROT_KNOWN: Final = PROT_MASK | MM.PROT_GROWSDOWN | MM.PROT_GROWSUP | MM.PROT_SEM
SHARED_KNOWN: Final = (
    MM.MAP_SHARED
    | MM.MAP_FIXED
    | MM.MAP_ANONYMOUS
    | MM.MAP_FIXED_NOREPLACE
    | MM.MAP_DENYWRITE
    | MM.MAP_EXECUTABLE
    | MM.MAP_LOCKED
    | MM.MAP_NORESERVE
    | MM.MAP_POPULATE
    | MM.MAP_NONBLOCK
    | MM.MAP_STACK
    | MM.MAP_GROWSDOWN
    | MM.MAP_32BIT
)
IOV_MAX: Final = 1024
CHUNK: Final = 1 << 20
MAX_TRANSFER: Final = 0x7FFFF000
IOVEC: Final = struct.Struct("<QQ")


def mmap(t: Task, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    """mmap(2). MAP_HUGETLB is refused: there are no huge pages."""
    flags &= 0xFFFFFFFF
    if offset % PAGE:
        raise Errno(E.EINVAL)
    if flags & MM.MAP_LOCKED:
        may_lock(t)
    file = None if flags & MM.MAP_ANONYMOUS else t.fds.get(fd)
    if file is not None and file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if length == 0:
        raise Errno(E.EINVAL)
    kind = flags & MM.MAP_TYPE
    if kind == MM.MAP_SHARED_VALIDATE:
        if flags & ~(SHARED_KNOWN | MM.MAP_SHARED_VALIDATE):
            raise Errno(E.EOPNOTSUPP)
        flags = flags & ~MM.MAP_TYPE | MM.MAP_SHARED
    elif kind not in (MM.MAP_SHARED, MM.MAP_PRIVATE):
        raise Errno(E.EINVAL)
    if file is None:
        if flags & MM.MAP_HUGETLB:
            raise Errno(E.ENOMEM)
        return t.mm.mmap(addr, length, prot & PROT_MASK, flags)
    if flags & MM.MAP_HUGETLB or not file.readable:
        raise Errno(E.EINVAL if file.readable else E.EACCES)
    maxprot = PROT_MASK
    if flags & MM.MAP_SHARED and not file.writable:
        if prot & MM.PROT_WRITE:
            raise Errno(E.EACCES)
        maxprot &= ~MM.PROT_WRITE
    if flags & MM.MAP_SHARED and file.write_sealed():
        if prot & MM.PROT_WRITE:
            raise Errno(E.EPERM)
        maxprot &= ~MM.PROT_WRITE
    if file.path is not None and file.path.mount.flags & M.MS_NOEXEC:
        if prot & MM.PROT_EXEC:
            raise Errno(E.EPERM)
        maxprot &= ~MM.PROT_EXEC
    if offset + length > 1 << 63:
        raise Errno(E.EOVERFLOW)
    obj = file.mapping(t)
    if obj is None:
        raise Errno(E.ENODEV)
    return t.mm.mmap(addr, length, prot & PROT_MASK, flags, obj, offset, file, maxprot)


def munmap(t: Task, addr: int, length: int) -> int:
    """munmap(2)."""
    t.mm.munmap(addr, length)
    return 0


def mprotect(t: Task, addr: int, length: int, prot: int) -> int:
    """mprotect(2)."""
    if prot & ~PROT_KNOWN or (prot & MM.PROT_GROWSDOWN and prot & MM.PROT_GROWSUP):
        raise Errno(E.EINVAL)
    if prot & (MM.PROT_GROWSDOWN | MM.PROT_GROWSUP):
        if addr % PAGE:
            raise Errno(E.EINVAL)
        if not length:
            return 0
        if (addr + length) >> 64:  # C, which has no more bits, could not tell
            raise Errno(E.ENOMEM)
        region = t.mm.find(addr)
        if region is None:
            raise Errno(E.ENOMEM)
        if prot & MM.PROT_GROWSUP:
            raise Errno(E.EINVAL)
        length += addr - region.start
        addr = region.start
    t.mm.mprotect(addr, length, prot & PROT_MASK)
    return 0


def brk(t: Task, addr: int) -> int:
    """brk(2)."""
    return t.mm.brk(addr)


def mremap(t: Task, old: int, old_len: int, new_len: int, flags: int, new: int) -> int:
    """mremap(2)."""
    return t.mm.mremap(old, old_len, new_len, flags, new)


def msync(t: Task, addr: int, length: int, flags: int) -> int:
    """msync(2)."""
    t.mm.msync(addr, length, flags)
    return 0


def mincore(t: Task, addr: int, length: int, vec: int) -> int:
    """mincore(2)."""
    if addr % PAGE:
        raise Errno(E.EINVAL)
    if length > 1 << 47:
        raise Errno(E.ENOMEM)
    end = addr + length
    while addr < end:
        n = min(end - addr, CHUNK * 16)
        data = t.mm.mincore(addr, n)
        t.mm.write(vec, data)
        vec += len(data)
        addr += n
    return 0


def madvise(t: Task, addr: int, length: int, advice: int) -> int:
    """madvise(2)."""
    t.mm.madvise(addr, length, advice)
    return 0


def may_lock(t: Task) -> None:
    """Is the caller allowed to lock memory? EPERM when nothing may be locked at all (mlock(2), Limits and permissions)."""
    privileged = t.creds.has(CAP.CAP_IPC_LOCK)
    if not privileged and t.tg.limits.soft(R.RLIMIT_MEMLOCK) == 0:
        raise Errno(E.EPERM)
    t.mm.lock_freely(privileged)


def mlock(t: Task, addr: int, length: int) -> int:
    """mlock(2)."""
    return mlock2(t, addr, length, 0)


def mlock2(t: Task, addr: int, length: int, flags: int) -> int:
    """mlock2(2)."""
    if flags & ~MM.MLOCK_ONFAULT:
        raise Errno(E.EINVAL)
    may_lock(t)
    t.mm.mlock(addr, length, flags != 0)
    return 0


def munlock(t: Task, addr: int, length: int) -> int:
    """munlock(2)."""
    t.mm.munlock(addr, length)
    return 0


def mlockall(t: Task, flags: int) -> int:
    """mlockall(2)."""
    if flags == 0 or flags & ~(MM.MCL_CURRENT | MM.MCL_FUTURE | MM.MCL_ONFAULT) or flags == MM.MCL_ONFAULT:
        raise Errno(E.EINVAL)
    may_lock(t)
    t.mm.mlockall(flags)
    return 0


def munlockall(t: Task) -> int:
    """munlockall(2)."""
    t.mm.mlockall(0)
    return 0


# Other processes' memory


def read_iovecs(t: Task, addr: int, count: int) -> list[tuple[int, int]]:
    """(address, length) pairs; EINVAL for too many or too long ones."""
    if count > IOV_MAX:
        raise Errno(E.EINVAL)
    data = t.mm.read(addr, count * IOVEC.size)
    out: list[tuple[int, int]] = []
    total = 0
    for i in range(count):
        base, length = IOVEC.unpack_from(data, i * IOVEC.size)
        if length >= 1 << 63:
            raise Errno(E.EINVAL)
        length = min(length, MAX_TRANSFER - total)
        total += length
        out.append((base, length))
    return out


def other_memory(t: Task, pid: int) -> AddressSpace:
    """The memory of another process, if the caller may see it. ESRCH, EPERM."""
    task = t.pidns.tasks.get(pid)
    if task is None or not task.alive:
        raise Errno(E.ESRCH)
    may_inspect(t, task)
    return task.mm


def copy_between(
    source: AddressSpace, src: list[tuple[int, int]], target: AddressSpace, dst: list[tuple[int, int]]
) -> int:
    """Moves bytes from one list of ranges to another, in order; bytes moved before the first bad address, EFAULT for none."""
    done = 0
    si = di = 0
    so = do = 0
    while si < len(src) and di < len(dst):
        n = min(src[si][1] - so, dst[di][1] - do, CHUNK)
        if n > 0:
            try:
                data = source.read_some(src[si][0] + so, n)
                moved = target.write_some(dst[di][0] + do, data)
            except Errno:
                if done:
                    return done
                raise
            done += moved
            so += moved
            do += moved
            if moved < n:
                return done
        if so >= src[si][1]:
            si += 1
            so = 0
        if do >= dst[di][1]:
            di += 1
            do = 0
    return done


def process_vm_readv(
    t: Task, pid: int, local: int, liovcnt: int, remote: int, riovcnt: int, flags: int
) -> int:
    """process_vm_readv(2)."""
    if flags:
        raise Errno(E.EINVAL)
    mine = read_iovecs(t, local, liovcnt)
    theirs = read_iovecs(t, remote, riovcnt)
    return copy_between(other_memory(t, pid), theirs, t.mm, mine)


def process_vm_writev(
    t: Task, pid: int, local: int, liovcnt: int, remote: int, riovcnt: int, flags: int
) -> int:
    """process_vm_writev(2)."""
    if flags:
        raise Errno(E.EINVAL)
    mine = read_iovecs(t, local, liovcnt)
    theirs = read_iovecs(t, remote, riovcnt)
    return copy_between(t.mm, mine, other_memory(t, pid), theirs)


ADVICE_FOR_OTHERS: Final = (MM.MADV_COLD, MM.MADV_PAGEOUT, MM.MADV_WILLNEED, MM.MADV_COLLAPSE)


def process_madvise(t: Task, pidfd: int, iov: int, count: int, advice: int, flags: int) -> int:
    """process_madvise(2): bytes advised on."""
    if flags:
        raise Errno(E.EINVAL)
    ranges = read_iovecs(t, iov, count)
    file = t.fds.get(pidfd)
    if not isinstance(file, PidFile):
        raise Errno(E.EBADF)
    if advice not in ADVICE_FOR_OTHERS:
        raise Errno(E.EINVAL)
    other = file.tg.main
    if file.tg.dead or not other.alive:
        raise Errno(E.ESRCH)
    may_inspect(t, other)
    if other.mm is not t.mm and not t.creds.has(CAP.CAP_SYS_NICE):
        raise Errno(E.EPERM)
    done = 0
    for base, length in ranges:
        try:
            other.mm.madvise(base, length, advice)
        except Errno:
            if done:
                return done
            raise
        done += length
    return done


def pkey_mprotect(t: Task, addr: int, length: int, prot: int, pkey: int) -> int:
    """pkey_mprotect(2) on a machine without protection keys: only the key -1 exists."""
    if pkey != -1:
        raise Errno(E.EINVAL)
    return mprotect(t, addr, length, prot)


def pkey_alloc(t: Task, flags: int, rights: int) -> int:
    """pkey_alloc(2): no keys."""
    raise Errno(E.EINVAL if flags or rights & ~3 else E.ENOSPC)


def pkey_free(t: Task, pkey: int) -> int:
    """pkey_free(2): none was given."""
    raise Errno(E.EINVAL)
