"""Files over host descriptors that the sandbox was given: its standard streams."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
from typing import TYPE_CHECKING, Final

from sentry.abi import fcntl as F
from sentry.errors import Errno
from sentry.fs.anon import AnonInode, AnonSuper
from sentry.kernel.creds import Creds
from sentry.kernel.fdnotify import HostWaitQueue
from sentry.vfs.attr import Attr
from sentry.vfs.file import WOULD_BLOCK, File
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

SAFE_WRITE: Final = 4096  # a pipe that polls writable takes that much without blocking
STREAM: Final = select.POLLIN | select.POLLOUT | select.POLLHUP | select.POLLERR


def ready(fd: int, mask: int) -> int:
    """What a descriptor is ready for now, of these poll bits and the error ones."""
    poll = select.poll()
    poll.register(fd, mask)
    events = poll.poll(0)
    return events[0][1] if events else 0


class HostInode(AnonInode):
    """The host's file, as fstat(2) tells of it."""

    def __init__(self, sb: AnonSuper, fd: int, creds: Creds) -> None:
        st = os.fstat(fd)
        super().__init__(sb, st.st_mode, creds)
        self.fd: int = fd

    def getattr(self) -> Attr:
        st = os.fstat(self.fd)
        attr = Attr(st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_nlink)
        attr.dev = self.sb.dev
        attr.rdev = st.st_rdev
        attr.size = st.st_size
        attr.blksize = st.st_blksize
        attr.blocks = st.st_blocks
        attr.atime, attr.mtime, attr.ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        return attr


class HostStream(File):
    """A pipe, socket or other stream of the host. Its descriptor is never made non-blocking, since others share it: it is asked
    by poll(2) first."""

    def __init__(self, kernel: Kernel, flags: int, fd: int, inode: HostInode) -> None:
        super().__init__(flags, None, inode)
        self.fd: int = fd
        self.waitq = HostWaitQueue(kernel.fdnotify, fd)

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if not ready(self.fd, select.POLLIN):
            return None
        try:
            return os.read(self.fd, count)
        except OSError as e:
            if e.errno == errno.EAGAIN:
                return None
            raise Errno(e.errno or errno.EIO) from None

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if not ready(self.fd, select.POLLOUT):
            return WOULD_BLOCK
        try:
            return os.write(self.fd, data[:SAFE_WRITE])
        except OSError as e:
            return -(e.errno or errno.EIO) if e.errno == errno.EAGAIN else self.failed(e)

    def failed(self, e: OSError) -> int:
        raise Errno(e.errno or errno.EIO)

    def poll(self) -> int:
        return ready(self.fd, STREAM)

    def describe(self) -> bytes:
        return b"host:[%d]" % self.getattr().ino


class HostRegular(File):
    """A regular file of the host: data goes straight to and from the descriptor, whose position the caller shares."""

    def __init__(self, flags: int, fd: int, inode: HostInode) -> None:
        super().__init__(flags, None, inode)
        self.hostfd = fd

    def describe(self) -> bytes:
        return b"host:[%d]" % self.getattr().ino


def new(kernel: Kernel, fd: int) -> File:
    """The file of an inherited descriptor."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (F.O_ACCMODE | F.O_APPEND)
    inode = HostInode(AnonSuper(b"host", anon_dev(), 0), fd, Creds(0, 0, []))
    if stat.S_ISREG(inode.mode):
        return HostRegular(flags, fd, inode)
    return HostStream(kernel, flags, fd, inode)
