"""A sandbox's memory limit that can be raised: the size of the tmpfs that its memory file is on.

The container process makes the tmpfs and keeps its root open, at a fixed number, so that whoever may look into that process
(/proc/PID/fd) can give it another size. The sentry gets the file alone.
"""

from __future__ import annotations

import os

from cordon.oci.errors import RuntimeFailure
from native._core import lib

#: Where the container process has the root of the tmpfs.
ROOT_FD = 251
PAGE = 4096


def make(limit: int) -> int:
    """The memory file, on a tmpfs of `limit` bytes; -1 where this process may not make one: the sentry then has one of its own."""
    if not limit:
        return -1
    root = lib.cn_tmpfs_new(max(PAGE, limit // PAGE * PAGE))
    if root < 0:
        return -1
    os.dup2(root, ROOT_FD, inheritable=False)
    os.close(root)
    return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=ROOT_FD)


def raise_to(container_process: int, limit: int) -> None:
    """Makes room for `limit` bytes (0: no limit) if there is less. RuntimeFailure. Where it can't be done the sentry says what holds."""
    try:
        root = os.open(f"/proc/{container_process}/fd/{ROOT_FD}", os.O_PATH | os.O_CLOEXEC)
    except OSError:  # no limit so far, or one of the sentry's own
        return
    try:
        fs = os.fstatvfs(root)
        if fs.f_blocks and not 0 < limit <= fs.f_blocks * fs.f_frsize:
            r = lib.cn_tmpfs_resize(root, limit // PAGE * PAGE)
            if r < 0:
                raise RuntimeFailure(f"cannot raise the memory limit: {os.strerror(-r).lower()}")
    finally:
        os.close(root)
