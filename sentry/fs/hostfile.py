"""Files over inherited host descriptors: the sandbox's stdin, stdout and stderr.

Pipes, terminals, sockets and character devices are streams; their descriptor is opened anew where the host allows it, so that
O_NONBLOCK stays our own affair. A regular file keeps the host's file position, because other host processes share it.
A terminal's settings are carried over by meaning: the guest's structures are decoded, applied to the host's terminal and encoded again.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IOC
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.anon import ANON_INODEFS
from sentry.fs.tty.host import HostTTY
from sentry.kernel.fdnotify import HostWaitQueue
from sentry.mm.objects import MemoryObject
from sentry.vfs.attr import SET_SIZE, Attr, SetAttr
from sentry.vfs.file import MIRROR_OWN, WOULD_BLOCK, File
from sentry.vfs.inode import Inode
from sentry.vfs.mount import anon_path

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

PIPE_BUF: Final = 4096


def host_error(e: OSError) -> Errno:
    return Errno(e.errno or E.EIO)


class HostInode(Inode):
    """What fstat(2) on the guest's side tells of a host descriptor: type, mode, size; no names, no host inode number."""

    def __init__(self, fd: int, ino: int, kind: bytes) -> None:
        st = os.fstat(fd)
        super().__init__(ANON_INODEFS, st.st_mode)
        self.kind: bytes = kind
        self.fd: int = fd
        self.ino: int = ino

    def getattr(self) -> Attr:
        st = os.fstat(self.fd)
        a = Attr(self.ino, self.mode, st.st_uid, st.st_gid, st.st_nlink)
        a.dev = self.sb.dev
        a.rdev = st.st_rdev
        a.size = st.st_size
        a.blksize = st.st_blksize
        a.blocks = st.st_blocks
        a.atime, a.mtime, a.ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        return a

    def setattr(self, change: SetAttr) -> None:
        """Only the size: owner, mode and times of a host file are none of the guest's business."""
        if not change.valid & SET_SIZE:
            raise Errno(E.EPERM)
        try:
            os.ftruncate(self.fd, change.size)
        except OSError as e:
            raise host_error(e) from None

    def open_node(self, t: Task, path: Path, flags: int) -> File | None:
        """Through /proc/PID/fd (/dev/stdout): one more description of the same host object."""
        fd = fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, 3)
        file = HostStream(
            t.kernel, fd, self.ino, self.kind, bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)
        )
        if file.flags & F.O_ACCMODE not in (F.O_RDWR, flags & F.O_ACCMODE):
            os.close(fd)
            raise Errno(E.EACCES)
        file.flags = flags
        return file

    def open(self, t: Task, path: Path, flags: int) -> File:
        """A regular file (or directory), the same way."""
        fd = fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, 3)
        file = HostRegular(fd, self.ino)
        if file.flags & F.O_ACCMODE not in (F.O_RDWR, flags & F.O_ACCMODE):
            os.close(fd)
            raise Errno(E.EACCES)
        file.flags = flags
        return file

    def mapping(self) -> MemoryObject | None:
        if self.mode & S.S_IFMT != S.S_IFREG:
            return None
        return MemoryObject.from_host_fd(self.fd)


class HostFile(File):
    """What both kinds share. `fd` belongs to the file."""

    def __init__(self, fd: int, ino: int, kind: bytes, place: Path | None = None) -> None:
        """place: a node in the guest's tree that the descriptor is known by."""
        if place is not None:
            path, inode = place, place.inode
        else:
            inode = HostInode(fd, ino, kind)
            path = anon_path(inode, kind + b":[%d]" % ino)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        super().__init__(flags & (F.O_ACCMODE | F.O_APPEND) | F.O_LARGEFILE, path, inode)
        self.fd: int = fd
        self.kind: bytes = kind

    def describe(self) -> bytes:
        return self.path.dentry.name if self.path is not None else self.kind

    def fsync(self, t: Task, data_only: bool) -> None:
        try:
            if data_only:
                os.fdatasync(self.fd)
            else:
                os.fsync(self.fd)
        except OSError as e:
            raise host_error(e) from None

    def release(self) -> None:
        os.close(self.fd)


class HostRegular(HostFile):
    """A regular host file. read(2) and write(2) go to the host's position (own_position), which lseek(2) moves."""

    def __init__(self, fd: int, ino: int) -> None:
        super().__init__(fd, ino, b"host")
        self.seekable = True
        self.own_position = True
        self.hostfd = fd
        inode = self.inode
        if inode is not None and inode.mode & S.S_IFMT == S.S_IFREG and not inode.write_guarded():
            self.mirror = MIRROR_OWN

    def seek(self, t: Task, offset: int, whence: int) -> int:
        try:
            return os.lseek(self.fd, offset, whence)
        except OSError as e:
            raise host_error(e) from None

    def set_flags(self, flags: int) -> None:
        now = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, now & ~os.O_APPEND | flags & F.O_APPEND)
        self.flags = flags

    def fallocate(self, t: Task, mode: int, offset: int, length: int) -> None:
        if mode:
            raise Errno(E.EOPNOTSUPP)
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as e:
            raise host_error(e) from None


class HostStream(HostFile):
    """A pipe, FIFO, socket, terminal or character device of the host."""

    def __init__(
        self, kernel: Kernel, fd: int, ino: int, kind: bytes, nonblocking: bool, place: Path | None = None
    ) -> None:
        super().__init__(fd, ino, kind, place)
        self.waitq = HostWaitQueue(kernel.fdnotify, fd)
        self.nonblocking_fd: bool = nonblocking  # the host's O_NONBLOCK is set, on a description of our own
        self.socket: socket.socket | None = socket.socket(fileno=os.dup(fd)) if kind == b"socket" else None

    def ready(self, events: int) -> bool:
        return bool(self.host_poll() & (events | P.POLLHUP | P.POLLERR))

    def host_poll(self) -> int:
        poller = select.poll()
        poller.register(self.fd, P.POLLIN | P.POLLOUT | P.POLLPRI | P.POLLRDHUP)
        ready = poller.poll(0)
        return int(ready[0][1]) if ready else 0

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        try:
            if self.socket is not None:
                return self.socket.recv(count, socket.MSG_DONTWAIT)
            if not self.nonblocking_fd and not self.ready(P.POLLIN):
                return None
            return os.read(self.fd, count)
        except BlockingIOError:
            return None
        except OSError as e:
            raise host_error(e) from None

    def write(self, t: Task, data: bytes, offset: int) -> int:
        try:
            if self.socket is not None:
                return self.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if not self.nonblocking_fd:
                # A pipe that polls writable has room for PIPE_BUF bytes.
                if not self.ready(P.POLLOUT):
                    return WOULD_BLOCK
                data = data[:PIPE_BUF]
            return os.write(self.fd, data)
        except BlockingIOError:
            return WOULD_BLOCK
        except OSError as e:
            raise host_error(e) from None

    def poll(self) -> int:
        bits = self.host_poll()
        if bits & P.POLLIN:
            bits |= P.POLLRDNORM
        if bits & P.POLLOUT:
            bits |= P.POLLWRNORM
        return bits

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == IOC.FIONREAD:
            t.mm.write(arg, self.control(IOC.FIONREAD, bytes(4)))
            return 0
        raise Errno(E.ENOTTY)

    def control(self, cmd: int, data: bytes) -> bytes:
        """A host ioctl with a buffer of ours."""
        try:
            return fcntl.ioctl(self.fd, cmd, data)
        except OSError as e:
            raise host_error(e) from None

    def release(self) -> None:
        if self.socket is not None:
            self.socket.close()
        os.close(self.fd)


class HostTerminal(HostStream):
    """The caller's terminal, by one of its descriptors; what it does is in HostTTY. It is /dev/console for the guest."""

    def __init__(
        self, kernel: Kernel, fd: int, ino: int, nonblocking: bool, tty: HostTTY, place: Path | None
    ) -> None:
        super().__init__(kernel, fd, ino, b"tty", nonblocking, place)
        self.tty: HostTTY = tty

    @property
    def hung(self) -> bool:
        return self.tty.hangups > 0

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if self.hung:
            return b""
        self.tty.check_change(t, SIG.SIGTTIN)
        try:
            return super().read(t, count, offset)
        except Errno as e:
            if e.errno == E.EIO and not self.host_poll() & P.POLLHUP:
                self.tty.host_background(t, SIG.SIGTTIN)
            raise

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if self.hung:
            raise Errno(E.EIO)
        if self.tty.tostop:
            self.tty.check_change(t, SIG.SIGTTOU)
        return super().write(t, data, offset)

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if self.hung:
            raise Errno(E.EIO)
        return self.tty.ioctl(t, cmd, arg, self.readable)


def own_description(fd: int) -> tuple[int, bool]:
    """A new descriptor for what `fd` is: opened anew and non-blocking if the host lets us, else a duplicate."""
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    try:
        return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), True
    except OSError:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), False


def new(container: Container, fd: int, console: Path | None = None) -> HostFile:
    """The file for a descriptor from outside, which stays the caller's. The first terminal becomes the
    container's console, which the guest knows by its node `console`."""
    kernel = container.kernel
    kind = os.fstat(fd).st_mode & S.S_IFMT
    ino = ANON_INODEFS.take_ino()
    if kind in (S.S_IFREG, S.S_IFDIR, S.S_IFBLK):
        return HostRegular(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), ino)
    if kind == S.S_IFSOCK:
        return HostStream(kernel, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), ino, b"socket", False)
    own, nonblocking = own_description(fd)
    if os.isatty(own):
        if container.console is None and container.init is None:
            container.console = HostTTY(kernel, fcntl.fcntl(own, fcntl.F_DUPFD_CLOEXEC, 3), nonblocking)
        tty = container.console
        if isinstance(tty, HostTTY) and tty.host_rdev == os.fstat(own).st_rdev:
            return HostTerminal(kernel, own, ino, nonblocking, tty, console)
        return HostTerminal(kernel, own, ino, nonblocking, HostTTY(kernel, own, nonblocking), None)
    return HostStream(kernel, own, ino, b"pipe" if kind == S.S_IFIFO else b"host", nonblocking)
