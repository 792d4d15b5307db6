"""File descriptor tables."""

from __future__ import annotations

from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.vfs.file import File


class FDTable:
    """Descriptors of a process (shared by CLONE_FILES): number -> open file description and close-on-exec flag."""

    def __init__(self) -> None:
        self.files: list[File | None] = []
        self.cloexec: set[int] = set()
        self.users: int = 1  # tasks that share the table
        self.next: int = 0  # no free number below

    def get(self, fd: int) -> File:
        """The file behind a descriptor (an O_PATH one too); EBADF."""
        if 0 <= fd < len(self.files):
            file = self.files[fd]
            if file is not None:
                return file
        raise Errno(E.EBADF)

    def install(self, file: File, cloexec: bool, limit: int, lowest: int = 0) -> int:
        """Puts the file at the lowest free number >= lowest and takes a reference; EMFILE at `limit` (RLIMIT_NOFILE)."""
        fd = max(lowest, self.next)
        files = self.files
        while fd < len(files) and files[fd] is not None:
            fd += 1
        if fd >= limit:
            raise Errno(E.EMFILE)
        while len(files) <= fd:
            files.append(None)
        files[fd] = file
        file.incref()
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        if lowest <= self.next:
            self.next = fd + 1
        return fd

    def put(self, fd: int, file: File, cloexec: bool) -> File | None:
        """Puts the file at this number (dup2); returns the one that was there, whose reference the caller drops."""
        while len(self.files) <= fd:
            self.files.append(None)
        old = self.files[fd]
        file.incref()
        self.files[fd] = file
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        return old

    def remove(self, fd: int) -> File:
        """Takes the descriptor out; the caller flushes the file and drops its reference. EBADF."""
        file = self.get(fd)
        self.files[fd] = None
        self.cloexec.discard(fd)
        if fd < self.next:
            self.next = fd
        return file

    def copy(self) -> FDTable:
        """A fork's table: the same files, one more reference each."""
        new = FDTable()
        new.files = self.files[:]
        new.cloexec = set(self.cloexec)
        new.next = self.next
        for file in new.files:
            if file is not None:
                file.incref()
        return new

    def fds(self) -> list[int]:
        """The numbers in use, ascending."""
        return [fd for fd, file in enumerate(self.files) if file is not None]
