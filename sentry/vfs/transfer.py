"""Moving data between guest memory and open files: blocking, positions, limits, partial results.

Data of files with a host descriptor (`hostfd`) or a memory object (`mobj`) moves straight between it and guest memory in C; for
everything else a File gives and takes bytes. Results are byte counts; failure raises Errno or, interrupted with nothing moved, Restart.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import inotify as I
from sentry.abi import mount as M
from sentry.abi import poll as P
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.kernel import clock, signals
from sentry.kernel.wait import INTERRUPTED, NO_DEADLINE, TIMEOUT, TaskWaiter
from sentry.vfs import access, attrs, notify
from sentry.vfs.attr import SET_MODE, SetAttr
from sentry.vfs.file import MIRROR_HOST, WOULD_BLOCK, File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAX_RW: Final = 0x7FFFF000  # what one call moves at most (read(2), NOTES)
USER_END: Final = (1 << 47) - 4096  # TASK_SIZE_MAX of x86-64
MAX_POS: Final = 0x7FFFFFFFFFFFFFFF
CHUNK: Final = 1 << 20  # bytes handed to a File at a time
MAX_RECORD: Final = 1 << 24  # bytes of one write to a file that keeps records
TASK_SIZE: Final = 0x7FFF00000000  # CN_TASK_SIZE of native/cordon.h
READABLE: Final = P.POLLIN | P.POLLRDNORM | P.POLLHUP | P.POLLERR | P.POLLRDHUP | P.POLLPRI
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM | P.POLLHUP | P.POLLERR

# Per-call flags.
NOWAIT: Final = 1
APPEND: Final = 2


class Segment:
    """One iovec."""

    def __init__(self, addr: int, length: int) -> None:
        self.addr: int = addr
        self.length: int = length


# Reading


def read_once(t: Task, file: File, addr: int, count: int, offset: int) -> int:
    """One attempt to read; WOULD_BLOCK or a count."""
    if file.seekable:
        n = -1
        if file.mobj is not None:
            n = lib.cn_mm_mobj_read(t.mm.native, file.mobj.native, addr, count, offset)
        elif file.hostfd >= 0:
            n = lib.cn_mm_host_read(t.mm.native, file.hostfd, addr, count, offset)
        else:
            data = file.read(t, min(count, CHUNK), offset)
            return deliver(t, file, addr, data)
        if n < 0:
            raise Errno(-n)
        return n
    return deliver(t, file, addr, file.read(t, min(count, CHUNK), offset))


def deliver(t: Task, file: File, addr: int, data: bytes | None) -> int:
    """Hands what was read to the guest."""
    if data is None:
        return WOULD_BLOCK
    n = len(data)
    if n:
        done: int = lib.cn_mm_write_some(t.mm.native, addr, data, n)
        if done < n:
            done = file.put_back(data, max(done, 0))
            if done == 0:
                raise Errno(E.EFAULT)
        return done
    return 0


def read_at(t: Task, file: File, addr: int, count: int, offset: int, flags: int) -> int:
    """Reads at `offset` (-1 for a stream), waiting unless the description or the call says not to."""
    n = read_once(t, file, addr, count, offset)
    if n != WOULD_BLOCK:
        return n
    if file.flags & F.O_NONBLOCK or flags & NOWAIT:
        raise Errno(E.EAGAIN)
    deadline = NO_DEADLINE
    if file.read_timeout:
        deadline = clock.monotonic() + file.read_timeout
    waiter = TaskWaiter(t, READABLE)
    file.waitq.add(waiter)
    try:
        while True:
            n = read_once(t, file, addr, count, offset)
            if n != WOULD_BLOCK:
                return n
            why = t.block(deadline)
            if why == INTERRUPTED:
                n = read_once(t, file, addr, count, offset)
                if n != WOULD_BLOCK:
                    return n
                if deadline != NO_DEADLINE:
                    raise Errno(E.EINTR)
                raise Restart(ERESTARTSYS)
            if why == TIMEOUT:
                raise Errno(E.EAGAIN)
    finally:
        file.waitq.remove(waiter)


def bottomless(file: File) -> bool:
    """/dev/null, /dev/zero: take everything, and neither keep nor look at it; their nodes' times stay."""
    return 0 < file.mirror < MIRROR_HOST


def after_read(file: File) -> None:
    """Access time and IN_ACCESS."""
    inode = file.inode
    path = file.path
    if inode is None or path is None:
        return
    mount = path.mount
    if not bottomless(file) and not file.flags & F.O_NOATIME and not mount.flags & (M.MS_NOATIME | M.MS_RDONLY):
        inode.touch(True, False)
    if notify.STATE.watches:
        notify.at(path.dentry, I.IN_ACCESS)


def lock_position(file: File) -> int:
    """The position, which C's calls leave alone until unlock_position."""
    native = file.native
    return file.position if native is None else lib.cn_file_lock_pos(native)


def unlock_position(file: File, pos: int) -> None:
    native = file.native
    if native is None:
        file.position = pos
    else:
        lib.cn_file_unlock_pos(native, pos)


def check_positions(file: File) -> None:
    """ESPIPE for a call at a position on something without; before any look at the access mode, as Linux has it."""
    inode = file.inode
    if not file.seekable and not file.flags & F.O_PATH:
        if inode is None or inode.mode & S.S_IFMT != S.S_IFDIR:
            raise Errno(E.ESPIPE)


def at_most(addr: int, count: int) -> int:
    """How much of [addr, addr + count) one call may move. EFAULT when that is not all below the kernel's half."""
    if count > USER_END - addr:
        raise Errno(E.EFAULT)
    return min(count, MAX_RW)


def read(t: Task, file: File, addr: int, count: int, offset: int, flags: int) -> int:
    """read(2) and pread(2): `offset` -1 means at the description's position."""
    if offset >= 0:
        check_positions(file)
    if not file.readable:
        raise Errno(E.EBADF)
    count = at_most(addr, count)
    if not file.seekable:
        n = read_at(t, file, addr, count, -1, flags)
        if n and notify.STATE.watches:
            after_read(file)
        return n
    if offset > MAX_POS - count:
        raise Errno(E.EINVAL)
    if offset >= 0 or file.own_position:
        n = read_at(t, file, addr, count, offset, flags)
    else:
        pos = lock_position(file)
        try:
            n = read_at(t, file, addr, count, pos, flags)
            pos += n
        finally:
            unlock_position(file, pos)
    if n:
        after_read(file)
    return n


def readv(t: Task, file: File, iov: list[Segment], offset: int, flags: int) -> int:
    if offset >= 0:
        check_positions(file)
    if not file.readable:
        raise Errno(E.EBADF)
    if not file.seekable:
        return read_stream(t, file, iov, flags)
    at_host = file.own_position and offset < 0
    pos = lock_position(file) if offset < 0 else offset
    total = 0
    try:
        for seg in iov:
            while seg.length:
                n = read_at(t, file, seg.addr, seg.length, -1 if at_host else pos + total, flags)
                total += n
                if n < seg.length and (n == 0 or file.mobj is not None or file.hostfd >= 0):
                    return total
                seg.addr += n
                seg.length -= n
    except (Errno, Restart):
        if total == 0:
            raise
    finally:
        if offset < 0:
            unlock_position(file, pos + total)
        if total:
            after_read(file)
    return total


def read_stream(t: Task, file: File, iov: list[Segment], flags: int) -> int:
    """One read of a stream, scattered."""
    want = min(sum_of(iov), CHUNK)
    data = receive(t, file, want, -1, flags)
    total = 0
    for seg in iov:
        if total >= len(data):
            break
        part = data[total : total + seg.length]
        n: int = lib.cn_mm_write_some(t.mm.native, seg.addr, part, len(part)) if part else 0
        total += max(n, 0)
        if n < len(part):
            total = file.put_back(data, total)
            if total == 0:
                raise Errno(E.EFAULT)
            break
    return total


def receive(t: Task, file: File, count: int, offset: int, flags: int) -> bytes:
    """Waits for data like read_at, but returns the bytes (sendfile, splice, readv)."""
    waiter: TaskWaiter | None = None
    try:
        while True:
            data = file.read(t, count, offset)
            if data is not None:
                return data
            if file.flags & F.O_NONBLOCK or flags & NOWAIT:
                raise Errno(E.EAGAIN)
            if waiter is None:
                waiter = TaskWaiter(t, READABLE)
                file.waitq.add(waiter)
                continue
            if t.block() == INTERRUPTED:
                data = file.read(t, count, offset)
                if data is not None:
                    return data
                raise Restart(ERESTARTSYS)
    finally:
        if waiter is not None:
            file.waitq.remove(waiter)


# Writing


def clip_to_limit(t: Task, file: File, count: int, offset: int) -> int:
    """How much RLIMIT_FSIZE and the greatest file size let through; EFBIG with SIGXFSZ when nothing."""
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT != S.S_IFREG:
        return count
    limit = t.tg.limits.soft(R.RLIMIT_FSIZE)
    if offset + count > limit:
        if offset >= limit:
            signals.send_to_task(t, signals.kernel_info(SIG.SIGXFSZ))
            raise Errno(E.EFBIG)
        return limit - offset
    return count


def before_write(t: Task, file: File) -> None:
    """Set-ID bits and file capabilities end with a write."""
    inode = file.inode
    if inode is not None and inode.has_caps:
        inode.has_caps = False
        attrs.drop_file_caps(inode)
        inode.guard_writes()
    if inode is not None and inode.mode & (S.S_ISUID | S.S_ISGID):
        mode = access.without_privileges(t.creds, inode)
        if mode != inode.mode:
            change = SetAttr(SET_MODE)
            change.mode = mode & 0o7777
            inode.setattr(change)


def after_write(file: File) -> None:
    """Modification time and IN_MODIFY."""
    inode = file.inode
    if inode is not None:
        if not bottomless(file):
            inode.touch(False, True)
        modified(file)


def modified(file: File) -> None:
    """IN_MODIFY."""
    if notify.STATE.watches and file.path is not None:
        notify.at(file.path.dentry, I.IN_MODIFY)


def broken_pipe(t: Task, e: Errno) -> None:
    if e.errno == E.EPIPE:
        signals.send_to_task(t, signals.kernel_info(SIG.SIGPIPE))


def write_at(t: Task, file: File, addr: int, count: int, offset: int) -> int:
    """Writes part of a seekable file at `offset`; never waits."""
    mobj = file.mobj
    if mobj is not None:
        n: int = lib.cn_mm_mobj_write(t.mm.native, mobj.native, addr, file.reserve(t, count, offset), offset)
    elif file.hostfd >= 0:
        n = lib.cn_mm_host_write(t.mm.native, file.hostfd, addr, count, offset)
    elif bottomless(file) and addr + count <= TASK_SIZE:
        n = count  # what is written is not looked at
    else:
        data = t.mm.read_some(addr, min(count, CHUNK))
        n = file.write(t, data, offset)
    if n < 0:
        raise Errno(-n)
    return n


def write_seekable(t: Task, file: File, iov: list[Segment], offset: int, flags: int) -> int:
    """Nothing that C writes comes between."""
    inode = file.inode
    shared = None if inode is None else inode.native
    here = lock_position(file) if offset < 0 else offset
    after = here
    if shared is not None:
        lib.cn_data_lock(shared)
    try:
        if file.flags & F.O_APPEND or flags & APPEND:
            pos = file.size()
        elif file.own_position and offset < 0:
            pos = file.seek(t, 0, F.SEEK_CUR)
        else:
            pos = here
        total = write_segments(t, file, iov, offset, pos)
        if total:
            after = pos + total
        return total
    finally:
        if shared is not None:
            lib.cn_data_unlock(shared)
        if offset < 0:
            unlock_position(file, after)


def write_segments(t: Task, file: File, iov: list[Segment], offset: int, pos: int) -> int:
    at_host = file.own_position and offset < 0
    count = sum_of(iov)
    if pos > MAX_POS - count:
        raise Errno(E.EINVAL)
    count = clip_to_limit(t, file, count, pos)
    before_write(t, file)
    total = 0
    try:
        for seg in iov:
            addr = seg.addr
            rest = min(seg.length, count - total)
            while rest > 0:
                n = write_at(t, file, addr, rest, -1 if at_host else pos + total)
                if n == 0:
                    return total
                total += n
                addr += n
                rest -= n
    except Errno:
        if total == 0:
            raise
    finally:
        if total:
            after_write(file)
    return total


def write(t: Task, file: File, addr: int, count: int, offset: int, flags: int) -> int:
    """write(2) and pwrite(2): `offset` -1 means at the description's position."""
    if offset >= 0:
        check_positions(file)
    if not file.writable:
        raise Errno(E.EBADF)
    count = at_most(addr, count)
    if file.seekable:
        if count == 0:
            return 0
        return write_seekable(t, file, [Segment(addr, count)], offset, flags)
    return write_stream(t, file, [Segment(addr, count)], flags)


def writev(t: Task, file: File, iov: list[Segment], offset: int, flags: int) -> int:
    if offset >= 0:
        check_positions(file)
    if not file.writable:
        raise Errno(E.EBADF)
    if file.seekable:
        return write_seekable(t, file, iov, offset, flags)
    return write_stream(t, file, iov, flags)


def write_stream(t: Task, file: File, iov: list[Segment], flags: int) -> int:
    """Writes to something without positions. Up to CHUNK bytes reach the file in one piece (and files that keep records get
    all), so that what is atomic stays so."""
    wait = not (file.flags & F.O_NONBLOCK or flags & NOWAIT)
    size = sum_of(iov)
    if file.records and size > MAX_RECORD:
        raise Errno(E.EMSGSIZE)
    piece = size if file.records else CHUNK
    total = 0
    while True:
        try:
            data = gather(t, iov, total, piece)
        except Errno:
            if total:
                return total
            raise
        n = send(t, file, data, -1, wait, total)
        total += n
        if total >= size or n < len(data):
            return total


def send(t: Task, file: File, data: bytes, offset: int, wait: bool, before: int = 0) -> int:
    """Writes bytes, waiting for room for all of them if `wait`. `before`: bytes that this call has written already, which
    turn an error or interruption into a short count (0 here)."""
    waiter: TaskWaiter | None = None
    done = 0
    try:
        while True:
            n = file.write(t, data[done:] if done else data, offset)
            if n != WOULD_BLOCK:
                done += n
                if offset >= 0:
                    offset += n
                if done >= len(data) or not wait:
                    break
                if n:
                    continue
            if not wait:
                if done or before:
                    break
                raise Errno(E.EAGAIN)
            if waiter is None:
                waiter = TaskWaiter(t, WRITABLE)
                file.waitq.add(waiter)
                continue
            deadline = NO_DEADLINE
            if file.write_timeout:
                deadline = clock.monotonic() + file.write_timeout
            why = t.block(deadline)
            if why != INTERRUPTED and why != TIMEOUT:
                continue
            if done or before:
                break
            if why == TIMEOUT:
                raise Errno(E.EAGAIN)
            raise Restart(ERESTARTSYS)
    except Errno as e:
        broken_pipe(t, e)
        if not done and not before:
            raise
    finally:
        if waiter is not None:
            file.waitq.remove(waiter)
    if done and notify.STATE.watches:
        after_write(file)
    return done


def sum_of(iov: list[Segment]) -> int:
    total = 0
    for seg in iov:
        total += seg.length
    return total


def gather(t: Task, iov: list[Segment], skip: int, most: int) -> bytes:
    """Guest bytes of an iovec list, `most` at most, after the first `skip`. EFAULT only when nothing could be read."""
    parts: list[bytes] = []
    for seg in iov:
        if skip >= seg.length and seg.length:
            skip -= seg.length
            continue
        want = min(seg.length - skip, most)
        if want == 0:
            continue
        if parts:
            try:
                part = t.mm.read_some(seg.addr + skip, want)
            except Errno:
                break
        else:
            part = t.mm.read_some(seg.addr + skip, want)
        parts.append(part)
        most -= len(part)
        skip = 0
        if most == 0 or len(part) < want:
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


# Bytes in the sentry, for calls that move data between two files


def take(t: Task, file: File, count: int, offset: int) -> bytes | None:
    """Reads once, without waiting; `offset` as for File.read."""
    if file.seekable:
        if file.mobj is not None:
            return file.mobj.pread(count, offset)
        if file.hostfd >= 0:
            try:
                return os.read(file.hostfd, count) if offset < 0 else os.pread(file.hostfd, count, offset)
            except OSError as e:
                raise Errno(e.errno or E.EIO) from None
    return file.read(t, count, offset)


def put(t: Task, file: File, data: bytes, offset: int) -> int:
    """Writes once, without waiting: bytes or WOULD_BLOCK; `offset` as for File.write. Limits and set-ID bits are looked after."""
    if file.seekable:
        n = clip_to_limit(t, file, len(data), max(offset, 0))
        if n < len(data):
            data = data[:n]
        before_write(t, file)
        if file.mobj is None and file.hostfd >= 0:
            try:
                n = os.write(file.hostfd, data) if offset < 0 else os.pwrite(file.hostfd, data, offset)
            except OSError as failed:
                raise Errno(failed.errno or E.EIO) from None
        else:
            n = file.write(t, data, offset)
        if n > 0:
            after_write(file)
        return n
    try:
        return file.write(t, data, offset)
    except Errno as e:
        broken_pipe(t, e)
        raise


def wait_once(t: Task, file: File, mask: int) -> None:
    """Sleeps until the file may have become ready. Restart when interrupted; the caller looks again."""
    waiter = TaskWaiter(t, mask)
    file.waitq.add(waiter)
    try:
        if t.block() == INTERRUPTED:
            raise Restart(ERESTARTSYS)
    finally:
        file.waitq.remove(waiter)
