"""The home directory of a process that is started from outside without HOME: what /etc/passwd of its root says (passwd(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import fcntl as F
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import opening, walk

if TYPE_CHECKING:
    from sentry.kernel.task import Task

FIELDS: Final = 7
LARGEST: Final = 1 << 20  # bytes of the file that are looked at
CHUNK: Final = 1 << 16


def read_file(t: Task, name: bytes) -> bytes:
    """A regular file's content; Errno."""
    path = walk.kernel_resolve(t.fs.root, name)
    inode = path.inode
    if inode.mode & S.S_IFMT != S.S_IFREG:
        return b""
    file = opening.finish_open(t, path, inode, F.O_RDONLY)
    file.incref()
    try:
        data = b""
        while len(data) < LARGEST:
            more = file.read(t, CHUNK, len(data))
            if not more:
                break
            data += more
        return data
    finally:
        file.decref()


def directory(t: Task) -> bytes:
    """The home directory of the task's user, "/" when nobody says."""
    try:
        lines = read_file(t, b"/etc/passwd").split(b"\n")
    except Errno:
        return b"/"
    uid = b"%d" % t.creds.ruid
    for line in lines:
        fields = line.split(b":")
        if len(fields) == FIELDS and fields[2] == uid and fields[5].startswith(b"/"):
            return fields[5]
    return b"/"
