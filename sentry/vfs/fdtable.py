"""File descriptor tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.vfs.file import FILES, NULL, File

if TYPE_CHECKING:
    from sentry.kernel.task import Task


class FDTable:
    """Descriptors of a process (shared by CLONE_FILES): number -> open file description and close-on-exec flag.

    They are kept in C (`native`, struct cn_fdt), which changes them without the kernel lock: what was looked up may have lost its
    number at once, so whoever blocks holds a reference.
    Threads that share a table keep it in `users`: fork and clone call `copy` or `share`, exit and unshare `unref`. POSIX locks belong
    to the table, as they do to Linux's files_struct.
    """

    def __init__(self, native: ffi.CData | None = None) -> None:
        if native is None:
            native = lib.cn_fdt_new()
        if not native:
            raise Errno(E.ENOMEM)
        self.native: ffi.CData = ffi.gc(native, lib.cn_fdt_free)
        self.users: int = 1  # tasks that share the table
        self.posix_locks: bool = False  # some POSIX lock was ever taken through it

    def get(self, fd: int) -> File:
        """The file behind a descriptor (an O_PATH one too); EBADF."""
        index: int = lib.cn_fdt_get(self.native, fd)
        if index < 0:
            raise Errno(E.EBADF)
        file = FILES[index]
        assert file is not None
        return file

    def find(self, fd: int) -> File | None:
        """The same; None when the descriptor is not open."""
        index: int = lib.cn_fdt_get(self.native, fd)
        return FILES[index] if index >= 0 else None

    def install(self, file: File, cloexec: bool, limit: int, lowest: int = 0) -> int:
        """Gives the file the lowest free number >= lowest; EMFILE at `limit` (RLIMIT_NOFILE)."""
        fd: int = lib.cn_fdt_install(self.native, file.published(), lowest, limit, cloexec)
        if fd < 0:
            raise Errno(-fd)
        return fd

    def put(self, t: Task, fd: int, file: File, cloexec: bool) -> None:
        """Gives the file this number (dup2), after closing what had it, whose errors are not told."""
        file.refs += 1
        try:
            while True:
                rc: int = lib.cn_fdt_put(self.native, fd, file.published(), cloexec)
                if rc == 0:
                    return
                if rc != -E.EBUSY:
                    raise Errno(-rc)
                try:
                    self.close(t, fd)
                except Errno:
                    pass
        finally:
            file.decref()

    def close(self, t: Task, fd: int) -> None:
        """close(2): flush, end of POSIX locks, one reference less. EBADF, or what flush reports; the descriptor is free in any case."""
        index: int = lib.cn_fdt_remove(self.native, fd)
        if index < 0:
            raise Errno(E.EBADF)
        file = FILES[index]
        assert file is not None
        file.refs += 1
        try:
            file.flush(t)
        finally:
            if self.posix_locks and file.inode is not None and file.inode.locks is not None:
                file.inode.locks.owner_gone(self)
            file.decref()

    def share(self) -> FDTable:
        """The same table for one more task."""
        self.users += 1
        return self

    def copy(self) -> FDTable:
        """A fork's table: the same files."""
        new = lib.cn_fdt_copy(self.native)
        return FDTable(new if new else NULL)

    def unref(self, t: Task) -> None:
        """A task leaves the table; the last one closes everything."""
        self.users -= 1
        if self.users == 0:
            self.close_range(t, 0, lib.CN_MAX_FDS)

    def close_range(self, t: Task, first: int, end: int, marked: bool = False) -> None:
        """Closes what is open (only if close-on-exec, if `marked`) from `first` up to, not including, `end`; errors of flush are
        ignored."""
        while True:
            first = lib.cn_fdt_close(self.native, first, end, marked)
            if first < 0:
                return
            try:
                self.close(t, first)
            except Errno:
                pass

    def close_on_exec(self, t: Task) -> None:
        """execve(2): closes the descriptors that are marked."""
        self.close_range(t, 0, lib.CN_MAX_FDS, True)

    def lock(self) -> None:
        """A POSIX lock is taken through it."""
        if not self.posix_locks:
            self.posix_locks = True
            lib.cn_fdt_locked(self.native)

    def cloexec(self, fd: int) -> bool:
        """The close-on-exec flag; EBADF."""
        on: int = lib.cn_fdt_cloexec(self.native, fd)
        if on < 0:
            raise Errno(E.EBADF)
        return on != 0

    def set_cloexec(self, fd: int, on: bool) -> None:
        """Sets it; EBADF."""
        if lib.cn_fdt_set_cloexec(self.native, fd, on) < 0:
            raise Errno(E.EBADF)

    def size(self) -> int:
        """Numbers that there is room for."""
        n: int = lib.cn_fdt_size(self.native)
        return n

    def fds(self, first: int = 0) -> list[int]:
        """The numbers in use from `first` on, ascending."""
        out: list[int] = []
        fd: int = lib.cn_fdt_next(self.native, first)
        while fd >= 0:
            out.append(fd)
            fd = lib.cn_fdt_next(self.native, fd + 1)
        return out

    def files(self) -> list[File]:
        """What they lead to."""
        found = [self.find(fd) for fd in self.fds()]
        return [file for file in found if file is not None]
