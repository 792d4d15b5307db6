"""File descriptor tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.vfs.file import NULL, File

if TYPE_CHECKING:
    from sentry.kernel.task import Task


class FDTable:
    """Descriptors of a process (shared by CLONE_FILES): number -> open file description and close-on-exec flag.

    Threads that share it keep it in `users`: fork and clone call `copy` or `share`, exit and unshare `unref`. POSIX locks belong to
    the table, as they do to Linux's files_struct. `native` is C's copy (struct cn_fdt) of what it can read and write by itself.
    """

    def __init__(self, native: ffi.CData | None = None) -> None:
        if native is None:
            native = lib.cn_fdt_new()
        if not native:
            raise Errno(E.ENOMEM)
        self.native: ffi.CData = ffi.gc(native, lib.cn_fdt_free)
        self.files: list[File | None] = []
        self.cloexec: set[int] = set()
        self.users: int = 1  # tasks that share the table
        self.next: int = 0  # no free number below
        self.posix_locks: bool = False  # some POSIX lock was ever taken through it

    def get(self, fd: int) -> File:
        """The file behind a descriptor (an O_PATH one too); EBADF."""
        if 0 <= fd < len(self.files):
            file = self.files[fd]
            if file is not None:
                return file
        raise Errno(E.EBADF)

    def install(self, file: File, cloexec: bool, limit: int, lowest: int = 0) -> int:
        """Puts the file at the lowest free number >= lowest and takes a reference; EMFILE at `limit` (RLIMIT_NOFILE)."""
        files = self.files
        fd = max(lowest, self.next)
        end = len(files)
        while fd < end and files[fd] is not None:
            fd += 1
        if fd >= limit:
            raise Errno(E.EMFILE)
        while len(files) <= fd:
            files.append(None)
        files[fd] = file
        file.refs += 1
        if file.mirror:
            file.mirror_into(self.native, fd)
        if cloexec:
            self.cloexec.add(fd)
        if lowest <= self.next:
            self.next = fd + 1
        return fd

    def put(self, fd: int, file: File, cloexec: bool) -> File | None:
        """Puts the file at this number (dup2); returns the one that was there, for the caller to `finish`."""
        while len(self.files) <= fd:
            self.files.append(None)
        old = self.files[fd]
        file.refs += 1
        self.files[fd] = file
        if file.mirror:
            file.mirror_into(self.native, fd)
        elif old is not None and old.native is not None:
            lib.cn_fdt_set(self.native, fd, NULL)
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        return old

    def remove(self, fd: int) -> File:
        """Takes the descriptor out; the caller must `finish` the file. EBADF."""
        file = self.get(fd)
        self.files[fd] = None
        native = file.native
        if native is not None:
            if file.refs == 1:
                lib.cn_fdt_close(self.native, fd, native)
                file.native = None
            else:
                lib.cn_fdt_close(self.native, fd, NULL)
        self.cloexec.discard(fd)
        self.next = min(self.next, fd)
        return file

    def finish(self, t: Task, file: File) -> None:
        """What close(2) owes a file that was taken out: flush, end of POSIX locks, one reference less."""
        try:
            file.flush(t)
        finally:
            if self.posix_locks and file.inode is not None and file.inode.locks is not None:
                file.inode.locks.owner_gone(self)
            file.decref()

    def close(self, t: Task, fd: int) -> None:
        """close(2). EBADF, or what flush reports; the descriptor is free in any case."""
        self.finish(t, self.remove(fd))

    def share(self) -> FDTable:
        """The same table for one more task."""
        self.users += 1
        return self

    def copy(self) -> FDTable:
        """A fork's table: the same files, one more reference each."""
        new = FDTable(lib.cn_fdt_copy(self.native))
        new.files = self.files[:]
        new.cloexec = set(self.cloexec)
        new.next = self.next
        for file in new.files:
            if file is not None:
                file.refs += 1
        return new

    def unref(self, t: Task) -> None:
        """A task leaves the table; the last one closes everything."""
        self.users -= 1
        if self.users == 0:
            self.close_range(t, 0, len(self.files))

    def close_range(self, t: Task, first: int, end: int) -> None:
        """Closes what is open from `first` up to, not including, `end`; errors of flush are ignored."""
        for fd in range(first, min(end, len(self.files))):
            if self.files[fd] is not None:
                try:
                    self.close(t, fd)
                except Errno:
                    pass

    def close_on_exec(self, t: Task) -> None:
        """execve(2): closes the descriptors that are marked."""
        for fd in sorted(self.cloexec):
            try:
                self.close(t, fd)
            except Errno:
                pass

    def fds(self) -> list[int]:
        """The numbers in use, ascending."""
        return [fd for fd, file in enumerate(self.files) if file is not None]
