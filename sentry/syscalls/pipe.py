"""pipe(2) and pipe2(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import resource as R
from sentry.errors import Errno
from sentry.fs import pipe as pipes

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File


def install(t: Task, file: File, cloexec: bool) -> int:
    """A new descriptor for a file; the file is closed when there is none left (EMFILE)."""
    file.incref()
    try:
        return t.fds.install(file, cloexec, t.tg.limits.soft(R.RLIMIT_NOFILE))
    finally:
        file.decref()


def install_pair(t: Task, first: File, second: File, cloexec: bool, out: int) -> None:
    """Two new descriptors, their numbers written to `out` (int[2]); none remains open on failure."""
    a = -1
    second.incref()
    try:
        a = install(t, first, cloexec)
        b = install(t, second, cloexec)
    except Errno:
        if a >= 0:
            t.fds.close(t, a)
        raise
    finally:
        second.decref()
    try:
        t.mm.write(out, a.to_bytes(4, "little") + b.to_bytes(4, "little"))
    except Errno:
        t.fds.close(t, a)
        t.fds.close(t, b)
        raise


def pipe2(t: Task, fds: int, flags: int) -> int:
    if flags & ~(F.O_CLOEXEC | F.O_NONBLOCK | F.O_DIRECT):
        raise Errno(E.EINVAL)
    reader, writer = pipes.make_pipe(t.creds, flags)
    install_pair(t, reader, writer, bool(flags & F.O_CLOEXEC), fds)
    return 0


def pipe(t: Task, fds: int) -> int:
    return pipe2(t, fds, 0)
