"""Nodes of /proc/PID: each belongs to a task and is gone when the task is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.fs.generated import GenDir, GenFile, GenSuper, MagicLink

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.pidns import PidNamespace
    from sentry.kernel.task import Task

    TaskReader = Callable[[Task, Task], bytes]  # (reader, the task the file is about)
    TaskWriter = Callable[[Task, Task, bytes], None]

INO_SHIFT: Final = 20  # inode numbers: tid << 20 | kind of file
DIR_INO: Final = 1


class TaskRef:
    """A task by number that is not kept alive by being looked at."""

    def __init__(self, t: Task) -> None:
        self.kernel: Kernel = t.kernel
        self.pidns: PidNamespace = t.pidns
        self.tid: int = t.tid
        self.start_time: int = t.start_time

    def find(self) -> Task | None:
        t = self.pidns.tasks.get(self.tid)
        return t if t is not None and t.start_time == self.start_time else None

    def get(self) -> Task:
        """The task; ESRCH when it is gone."""
        t = self.find()
        if t is None:
            raise Errno(E.ESRCH)
        return t

    def owner(self, directory: bool) -> tuple[int, int]:
        """Who owns the task's files: its effective ids, root when it may not be looked into (except directories)."""
        t = self.find()
        if t is None or (t.mm.dumpable != 1 and not directory):
            return (0, 0)
        return (t.creds.euid, t.creds.egid)


def may_inspect(t: Task, other: Task) -> bool:
    """May t see into the other task (ptrace(2), "Ptrace access mode checking", PTRACE_MODE_READ_FSCREDS)?"""
    if t.tg is other.tg:
        return True
    c = t.creds
    if c.has(C.CAP_SYS_PTRACE):
        return True
    o = other.creds
    same = c.fsuid == o.euid == o.suid == o.ruid and c.fsgid == o.egid == o.sgid == o.rgid
    return same and other.mm.dumpable == 1 and o.permitted & ~c.permitted == 0


class TaskFile(GenFile):
    """A file about a task. `private`: only for those who may inspect the task, checked when it is opened and read."""

    def __init__(
        self, sb: GenSuper, ref: TaskRef, kind: int, mode: int, read: TaskReader, write: TaskWriter | None, private: bool
    ) -> None:
        super().__init__(sb, mode, None, None, ref.tid << INO_SHIFT | kind)
        self.ref: TaskRef = ref
        self.read_task: TaskReader = read
        self.write_task: TaskWriter | None = write
        self.private: bool = private

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(False)

    def check_open(self, t: Task, flags: int) -> None:
        other = self.ref.get()
        if self.private and not may_inspect(t, other):
            raise Errno(E.EACCES)

    def text(self, t: Task) -> bytes:
        other = self.ref.get()
        if self.private and not may_inspect(t, other):
            raise Errno(E.EACCES)
        return self.read_task(t, other)

    def store(self, t: Task, data: bytes) -> None:
        if self.write_task is None:
            raise Errno(E.EINVAL)
        self.write_task(t, self.ref.get(), data)


class TaskDir(GenDir):
    """A directory about a task."""

    def __init__(self, sb: GenSuper, ref: TaskRef, kind: int, mode: int = 0o555) -> None:
        super().__init__(sb, mode, ref.tid << INO_SHIFT | kind)
        self.ref: TaskRef = ref

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(self.mode & 0o777 == 0o555)


class TaskLink(MagicLink):
    """A magic link to something a task has."""

    def __init__(self, sb: GenSuper, ref: TaskRef, kind: int, mode: int = 0o777) -> None:
        super().__init__(sb, mode, ref.tid << INO_SHIFT | kind)
        self.ref: TaskRef = ref

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(False)

    def target(self, t: Task) -> Task:
        """The task, if t may look into it; EACCES, or ENOENT when it is gone."""
        other = self.ref.find()
        if other is None:
            raise Errno(E.ENOENT)
        if not may_inspect(t, other):
            raise Errno(E.EACCES)
        return other
