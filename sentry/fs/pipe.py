"""Pipes and FIFOs (pipe(7), fifo(7)).

A pipe holds pages' worth of bytes in slots as Linux's does: a write fills whole slots, a short one joins the last slot when it fits
there, and a slot is free again when all of it was read. That makes capacity, PIPE_BUF atomicity and poll bits those of Linux. What is
kept is one chunk for each write, so that large writes are never cut up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IO
from sentry.abi import poll as P
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.anon import PIPEFS, AnonInode
from sentry.kernel.wait import WaitQueue, wait_for
from sentry.vfs import special
from sentry.vfs.file import WOULD_BLOCK, File

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

PAGE: Final = 4096
PIPE_BUF: Final = 4096
DEFAULT_SLOTS: Final = 16
MAX_SIZE: Final = 1 << 20  # /proc/sys/fs/pipe-max-size
READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM
EVERYTHING: Final = READABLE | WRITABLE | P.POLLHUP | P.POLLERR


class Limits:
    """/proc/sys/fs/pipe-max-size, writable."""

    def __init__(self) -> None:
        self.max_size: int = MAX_SIZE


LIMITS: Final = Limits()


class Chunk:
    """What one write left: bytes, and whether a read stops at its end (packet mode)."""

    def __init__(self, data: bytes | bytearray, packet: bool) -> None:
        self.data: bytes | bytearray = data
        self.packet: bool = packet


class Pipe:
    """The buffer between readers and writers."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.start: int = 0  # bytes of chunks[0] that were read
        self.bytes: int = 0  # bytes to be read
        self.used: int = 0  # slots
        self.slots: int = DEFAULT_SLOTS
        self.readers: int = 0  # open descriptions
        self.writers: int = 0
        self.reader_opens: int = 0  # how often it was opened for reading and for writing (FIFOs wait for a change)
        self.writer_opens: int = 0
        self.waitq: WaitQueue = WaitQueue()

    def push(self, data: bytes, packet: bool = False) -> int:
        """Appends what fits; the number of bytes taken. At most PIPE_BUF bytes are taken as a whole or not at all."""
        n = len(data)
        if n == 0:
            return 0
        chunks = self.chunks
        done = 0
        tail = n & (PAGE - 1)
        if packet:
            while done < n and self.used < self.slots:
                piece = data[done : done + PAGE] if n > PAGE else data
                chunks.append(Chunk(piece, True))
                self.used += 1
                done += len(piece)
        else:
            if tail and chunks:
                last = chunks[-1]
                held = len(last.data) & (PAGE - 1)
                if held and held + tail <= PAGE and not last.packet:
                    old = last.data
                    joined = old if isinstance(old, bytearray) else bytearray(old)
                    joined += data[:tail] if tail < n else data
                    last.data = joined
                    done = tail
            free = self.slots - self.used
            if done < n and free > 0:
                rest = n - done
                room = free * PAGE
                if rest > room:
                    rest = room
                chunks.append(Chunk(data if rest == n else data[done : done + rest], False))
                self.used += (rest + PAGE - 1) // PAGE
                done += rest
        if done:
            self.bytes += done
            self.waitq.notify(READABLE)
        return done

    def pull(self, count: int) -> bytes:
        """Takes up to `count` bytes out."""
        chunks = self.chunks
        parts: list[bytes] = []
        full = self.used >= self.slots
        while count > 0 and chunks:
            chunk = chunks[0]
            data = chunk.data
            size = len(data)
            start = self.start
            if count >= size - start or chunk.packet:
                part = bytes(data) if start == 0 and count >= size else bytes(data[start : start + count])
                del chunks[0]
                self.used -= (size + PAGE - 1) // PAGE - start // PAGE
                self.bytes -= size - start
                self.start = 0
                parts.append(part)
                count -= len(part)
                if chunk.packet:
                    break
            else:
                parts.append(bytes(data[start : start + count]))
                self.start = start + count
                self.used -= (start + count) // PAGE - start // PAGE
                self.bytes -= count
                count = 0
        if full and self.used < self.slots:
            self.waitq.notify(WRITABLE)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put_back(self, data: bytes) -> None:
        """Puts what was just taken out, and found no place, in front of the rest."""
        if self.start:
            chunk = self.chunks[0]
            size = len(chunk.data)
            rest = chunk.data[self.start :]
            self.used += (len(rest) + PAGE - 1) // PAGE - ((size + PAGE - 1) // PAGE - self.start // PAGE)
            self.start = 0
            chunk.data = rest
        self.chunks.insert(0, Chunk(data, False))
        self.used += (len(data) + PAGE - 1) // PAGE
        self.bytes += len(data)
        self.waitq.notify(READABLE)

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes without taking them (tee(2))."""
        parts: list[bytes] = []
        start = self.start
        for chunk in self.chunks:
            if count <= 0:
                break
            part = bytes(chunk.data[start : start + count])
            start = 0
            parts.append(part)
            count -= len(part)
            if chunk.packet:
                break
        return b"".join(parts)

    def resize(self, slots: int) -> None:
        """F_SETPIPE_SZ; EBUSY when what is in the pipe does not fit."""
        if slots < self.used:
            raise Errno(E.EBUSY)
        grew = slots > self.slots
        self.slots = slots
        if grew:
            self.waitq.notify(WRITABLE)

    def empty(self) -> bool:
        return not self.chunks

    def full(self) -> bool:
        """No write of PIPE_BUF bytes would be taken."""
        return self.used >= self.slots


class PipeFile(File):
    """An end of a pipe, or an open FIFO; opened for both it is reader and writer."""

    def __init__(self, pipe: Pipe, flags: int, path: Path | None, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.pipe: Pipe = pipe
        self.waitq = pipe.waitq
        self.seen_writers: int = -1  # opened for reading without waiting: no POLLHUP until there was a writer
        access = flags & F.O_ACCMODE
        self.reads: bool = access != F.O_WRONLY
        self.writes: bool = access != F.O_RDONLY
        if self.reads:
            pipe.readers += 1
            pipe.reader_opens += 1
        if self.writes:
            pipe.writers += 1
            pipe.writer_opens += 1

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        pipe = self.pipe
        if pipe.chunks:
            return pipe.pull(count)
        if count == 0 or pipe.writers == 0:
            return b""
        return None

    def put_back(self, data: bytes, done: int) -> int:
        whole = done & -PAGE  # a page is read as a whole or not at all
        self.pipe.put_back(data[whole:])
        return whole

    def write(self, t: Task, data: bytes, offset: int) -> int:
        pipe = self.pipe
        if not data:
            return 0
        if pipe.readers == 0:
            raise Errno(E.EPIPE)
        n = pipe.push(data, bool(self.flags & F.O_DIRECT))
        return n if n else WOULD_BLOCK

    def poll(self) -> int:
        pipe = self.pipe
        events = 0
        if self.reads:
            if pipe.chunks:
                events |= READABLE
            if pipe.writers == 0 and self.seen_writers != pipe.writer_opens:
                events |= P.POLLHUP
        if self.writes:
            if not pipe.full():
                events |= WRITABLE
            if pipe.readers == 0:
                events |= P.POLLERR
        return events

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == IO.FIONREAD:
            t.mm.write_u32(arg, self.pipe.bytes)
            return 0
        raise Errno(E.ENOTTY)

    def capacity(self) -> int:
        """F_GETPIPE_SZ."""
        return self.pipe.slots * PAGE

    def set_capacity(self, t: Task, size: int) -> int:
        """F_SETPIPE_SZ: rounded up to a power of two of pages; the new capacity. EPERM, EBUSY, EINVAL."""
        if size > 1 << 31:
            raise Errno(E.EINVAL)
        slots = 1
        while slots * PAGE < size:
            slots *= 2
        if slots > self.pipe.slots and slots * PAGE > LIMITS.max_size and not t.creds.has(C.CAP_SYS_RESOURCE):
            raise Errno(E.EPERM)
        self.pipe.resize(slots)
        return slots * PAGE

    def mapping(self, t: Task) -> None:
        return None

    def release(self) -> None:
        pipe = self.pipe
        if self.reads:
            pipe.readers -= 1
        if self.writes:
            pipe.writers -= 1
        if pipe.readers == 0 and pipe.writers == 0:
            inode = self.inode
            if inode is not None:
                inode.fifo = None
        elif (self.reads and pipe.readers == 0) or (self.writes and pipe.writers == 0):
            pipe.waitq.notify(EVERYTHING)

    def describe(self) -> bytes:
        assert self.inode is not None
        return b"pipe:[%d]" % self.inode.getattr().ino


def make_pipe(creds: Creds, flags: int) -> tuple[PipeFile, PipeFile]:
    """pipe2(2): (read end, write end); flags O_NONBLOCK and O_DIRECT."""
    inode = AnonInode(PIPEFS, S.S_IFIFO | 0o600, creds)
    pipe = Pipe()
    inode.fifo = pipe
    kept = flags & (F.O_NONBLOCK | F.O_DIRECT)
    return PipeFile(pipe, F.O_RDONLY | kept, None, inode), PipeFile(pipe, F.O_WRONLY | kept, None, inode)


class Partner:
    """Waits until a FIFO was opened from the other side."""

    def __init__(self, pipe: Pipe, reader: bool) -> None:
        self.pipe: Pipe = pipe
        self.reader: bool = reader  # whose partner is waited for
        self.seen: int = pipe.writer_opens if reader else pipe.reader_opens

    def came(self) -> bool:
        pipe = self.pipe
        return self.seen != (pipe.writer_opens if self.reader else pipe.reader_opens)


def open_fifo(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """fifo(7): opening waits for the other end. Also reopens a pipe through /proc/PID/fd."""
    access = flags & F.O_ACCMODE
    if access == F.O_ACCMODE:
        raise Errno(E.EINVAL)
    held = inode.fifo
    pipe = held if isinstance(held, Pipe) else Pipe()
    if access == F.O_WRONLY and flags & F.O_NONBLOCK and pipe.readers == 0:
        raise Errno(E.ENXIO)
    inode.fifo = pipe
    file = PipeFile(pipe, flags, path, inode)
    pipe.waitq.notify(EVERYTHING)
    if inode.sb is PIPEFS:  # a pipe, through /proc/PID/fd: never waits
        return file
    if access == F.O_RDONLY and pipe.writers == 0:
        if flags & F.O_NONBLOCK:
            file.seen_writers = pipe.writer_opens
            return file
    elif access != F.O_WRONLY or pipe.readers > 0:
        return file
    partner = Partner(pipe, access == F.O_RDONLY)
    try:
        wait_for(t, pipe.waitq, EVERYTHING, partner.came)
    except BaseException:
        inode.opens -= 1
        file.release()
        raise
    return file


def register() -> None:
    """Makes FIFOs openable."""
    special.DRIVERS.fifo = open_fifo
