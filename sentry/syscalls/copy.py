"""Moving data between descriptors: sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import Errno, Restart
from sentry.fs.pipe import PAGE, PipeFile
from sentry.kernel import signals
from sentry.syscalls.io import read_iov
from sentry.vfs import transfer
from sentry.vfs.file import WOULD_BLOCK, File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

CHUNK: Final = 1 << 18
SPLICE_FLAGS: Final = F.SPLICE_F_MOVE | F.SPLICE_F_NONBLOCK | F.SPLICE_F_MORE | F.SPLICE_F_GIFT


class Cursor:
    """Where one side reads or writes: an offset of the caller's, the description's position, or none (a stream)."""

    def __init__(self, t: Task, file: File, addr: int) -> None:
        self.file: File = file
        self.addr: int = addr
        self.at_host: bool = False
        if addr:
            if not file.seekable:
                raise Errno(E.ESPIPE)
            self.pos: int = t.mm.read_i64(addr)
            if self.pos < 0:
                raise Errno(E.EINVAL)
        elif file.seekable:
            self.at_host = file.own_position
            self.pos = file.pos
        else:
            self.pos = -1

    def offset(self) -> int:
        return -1 if self.at_host else self.pos

    def advance(self, n: int) -> None:
        if self.pos >= 0:
            self.pos += n

    def store(self, t: Task) -> None:
        """Tells the caller or the description how far it went."""
        if self.addr:
            t.mm.write_u64(self.addr, self.pos)
        elif self.file.seekable and not self.at_host:
            self.file.pos = self.pos


def opened(t: Task, fd: int, writing: bool) -> File:
    file = t.fds.get(fd)
    if not (file.writable if writing else file.readable):
        raise Errno(E.EBADF)
    return file


def room(file: PipeFile) -> int:
    """Bytes that the pipe takes for sure; EPIPE without readers (the caller sends SIGPIPE)."""
    if file.pipe.readers == 0:
        raise Errno(E.EPIPE)
    return (file.pipe.slots - file.pipe.used) * PAGE


def pump(t: Task, source: Cursor, target: Cursor, count: int) -> int:
    """Copies until `count` bytes moved, the source ends or the target would block (and does not wait)."""
    total = 0
    try:
        while total < count:
            data = transfer.take(t, source.file, min(CHUNK, count - total), source.offset())
            if data is None:
                if total or source.file.nonblocking:
                    break
                transfer.wait_once(t, source.file, transfer.READABLE)
                continue
            if not data:
                break
            n = write_all(t, target, data)
            if source.at_host and n < len(data):
                source.file.seek(t, n - len(data), F.SEEK_CUR)
            source.advance(n)
            total += n
            if n < len(data):
                if total == 0:
                    raise Errno(E.EAGAIN)
                break
    except (Errno, Restart):
        if total == 0:
            raise
    source.store(t)
    target.store(t)
    if total:
        transfer.after_read(source.file)
    return total


def write_all(t: Task, target: Cursor, data: bytes) -> int:
    """Writes, waiting where the target may wait; a short count when it may not or was interrupted."""
    file = target.file
    if not file.seekable:
        try:
            return transfer.send(t, file, data, -1, not file.nonblocking)
        except Errno as e:
            if e.errno == E.EAGAIN:
                return 0
            raise
    done = 0
    while done < len(data):
        n = transfer.put(t, file, data[done:] if done else data, target.offset())
        if n <= 0:
            break
        done += n
        target.advance(n)
    return done


def sendfile(t: Task, out: int, src: int, offset: int, count: int) -> int:
    """sendfile(2). The source must be seekable."""
    source_file = opened(t, src, False)
    target_file = opened(t, out, True)
    if target_file.flags & F.O_APPEND:
        raise Errno(E.EINVAL)
    if not source_file.seekable:
        raise Errno(E.ESPIPE if offset else E.EINVAL)
    return pump(t, Cursor(t, source_file, offset), Cursor(t, target_file, 0), min(count, transfer.MAX_RW))


def copy_file_range(t: Task, src: int, off_in: int, out: int, off_out: int, length: int, flags: int) -> int:
    """copy_file_range(2), also between file systems."""
    source_file = opened(t, src, False)
    target_file = opened(t, out, True)
    if flags:
        raise Errno(E.EINVAL)
    if target_file.flags & F.O_APPEND:
        raise Errno(E.EBADF)
    for file in (source_file, target_file):
        inode = file.inode
        if inode is None or inode.mode & S.S_IFMT != S.S_IFREG:
            directory = inode is not None and inode.mode & S.S_IFMT == S.S_IFDIR
            raise Errno(E.EISDIR if directory else E.EINVAL)
    source = Cursor(t, source_file, off_in)
    target = Cursor(t, target_file, off_out)
    if length > 0x7FFFFFFFFFFFFFFF - max(source.pos, target.pos):
        raise Errno(E.EOVERFLOW)
    count = min(length, transfer.MAX_RW)
    if source_file.inode is target_file.inode:
        count = min(count, max(0, source_file.size() - source.pos))
        if source.pos < target.pos + count and target.pos < source.pos + count:
            raise Errno(E.EINVAL)
    return pump(t, source, target, count)


# Pipes


def broken(t: Task, e: Errno) -> None:
    if e.errno == E.EPIPE:
        signals.send_to_task(t, signals.kernel_info(SIG.SIGPIPE))


def splice(t: Task, src: int, off_in: int, out: int, off_out: int, length: int, flags: int) -> int:
    """splice(2): one side is a pipe. Pages are copied, never moved."""
    if flags & ~SPLICE_FLAGS:
        raise Errno(E.EINVAL)
    if length == 0:
        return 0
    source_file = opened(t, src, False)
    target_file = opened(t, out, True)
    if not source_file.spliceable or not target_file.spliceable:
        raise Errno(E.EINVAL)
    wait = not flags & F.SPLICE_F_NONBLOCK
    count = min(length, transfer.MAX_RW)
    if isinstance(source_file, PipeFile):
        if off_in:
            raise Errno(E.ESPIPE)
        if isinstance(target_file, PipeFile):
            if off_out:
                raise Errno(E.ESPIPE)
            if source_file.pipe is target_file.pipe:
                raise Errno(E.EINVAL)
        if target_file.flags & F.O_APPEND:
            raise Errno(E.EINVAL)
        return from_pipe(t, source_file, Cursor(t, target_file, off_out), count, wait)
    if isinstance(target_file, PipeFile):
        if off_out:
            raise Errno(E.ESPIPE)
        return to_pipe(t, Cursor(t, source_file, off_in), target_file, count, wait)
    raise Errno(E.EINVAL)


def from_pipe(t: Task, source: PipeFile, target: Cursor, count: int, wait: bool) -> int:
    pipe = source.pipe
    file = target.file
    while True:
        if pipe.empty():
            if pipe.writers == 0:
                return 0
            if not wait or source.nonblocking:
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, source, transfer.READABLE)
            continue
        data = pipe.peek(min(count, CHUNK))
        n = transfer.put(t, file, data, target.offset())
        if n == WOULD_BLOCK:
            if file.nonblocking or (isinstance(file, PipeFile) and not wait):
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, file, transfer.WRITABLE)
            continue
        pipe.pull(n)
        target.advance(n)
        target.store(t)
        return n


def to_pipe(t: Task, source: Cursor, target: PipeFile, count: int, wait: bool) -> int:
    file = source.file
    while True:
        try:
            space = room(target)
        except Errno as e:
            broken(t, e)
            raise
        if space == 0:
            if not wait or target.nonblocking:
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, target, transfer.WRITABLE)
            continue
        data = transfer.take(t, file, min(count, space), source.offset())
        if data is None:
            if not wait or file.nonblocking:
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, file, transfer.READABLE)
            continue
        if data:
            target.pipe.push(data)
            source.advance(len(data))
            transfer.after_read(file)
        source.store(t)
        return len(data)


def tee(t: Task, src: int, out: int, length: int, flags: int) -> int:
    """tee(2)"""
    if flags & ~SPLICE_FLAGS:
        raise Errno(E.EINVAL)
    if length == 0:
        return 0
    source = opened(t, src, False)
    target = opened(t, out, True)
    if not isinstance(source, PipeFile) or not isinstance(target, PipeFile) or source.pipe is target.pipe:
        raise Errno(E.EINVAL)
    wait = not flags & F.SPLICE_F_NONBLOCK
    while True:
        try:
            space = room(target)
        except Errno as e:
            broken(t, e)
            raise
        if source.pipe.empty():
            if source.pipe.writers == 0:
                return 0
            if not wait or source.nonblocking:
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, source, transfer.READABLE)
        elif space == 0:
            if not wait or target.nonblocking:
                raise Errno(E.EAGAIN)
            transfer.wait_once(t, target, transfer.WRITABLE)
        else:
            return target.pipe.push(source.pipe.peek(min(length, space, transfer.MAX_RW)))


def vmsplice(t: Task, fd: int, iov: int, count: int, flags: int) -> int:
    """vmsplice(2): copies, so that SPLICE_F_GIFT has no effect."""
    if flags & ~SPLICE_FLAGS:
        raise Errno(E.EINVAL)
    file = t.fds.get(fd)
    if not isinstance(file, PipeFile):
        raise Errno(E.EBADF)
    segments = read_iov(t, iov, count)
    how = transfer.NOWAIT if flags & F.SPLICE_F_NONBLOCK else 0
    if file.writable:
        while not how and not file.nonblocking and not file.poll() & (P.POLLOUT | P.POLLERR):
            transfer.wait_once(t, file, transfer.WRITABLE)  # only for room to begin
        return transfer.writev(t, file, segments, -1, transfer.NOWAIT)
    return transfer.readv(t, file, segments, -1, how)
