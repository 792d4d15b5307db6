"""/proc/net: what there is of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.net.unix import listing

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

UNIX_HEAD: Final = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
DEV_HEAD: Final = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
)


def unix(t: Task) -> bytes:
    """The AF_UNIX sockets of the sandbox."""
    return UNIX_HEAD + b"".join(listing.lines(t.kernel))


def dev(t: Task) -> bytes:
    return DEV_HEAD


def directory(sb: GenSuper, kernel: Kernel, ino: int) -> GenDir:
    d = GenDir(sb, 0o555, ino)
    d.add(b"dev", GenFile(sb, 0o444, dev))
    d.add(b"unix", GenFile(sb, 0o444, unix))
    return d
