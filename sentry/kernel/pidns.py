"""PID namespaces: tasks, process groups and sessions by number. A container has its own or shares another's; they do not nest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.session import ProcessGroup, Session
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

PID_MAX: Final = 32768
RESERVED_PIDS: Final = 300  # where numbers go on after they wrapped


class PidNamespace:
    """One set of numbers. ident: 0 for the sandbox's first one (/proc/PID/ns/pid tells them apart)."""

    def __init__(self, ident: int = 0) -> None:
        self.ident: int = ident
        self.tasks: dict[int, Task] = {}  # by tid; zombie leaders included
        self.groups: dict[int, ThreadGroup] = {}  # by pid; zombies included
        self.pgroups: dict[int, ProcessGroup] = {}
        self.sessions: dict[int, Session] = {}
        self.init: ThreadGroup | None = None
        self.last_pid: int = 0

    def used(self, pid: int) -> bool:
        """Does a task, process group or session have this number?"""
        return pid in self.tasks or pid in self.pgroups or pid in self.sessions

    def new_pid(self) -> int:
        """A number that nothing uses; EAGAIN."""
        pid = self.last_pid
        for _ in range(PID_MAX):
            pid += 1
            if pid >= PID_MAX:
                pid = RESERVED_PIDS
            if pid not in self.tasks and pid not in self.pgroups and pid not in self.sessions:
                self.last_pid = pid
                return pid
        raise Errno(E.EAGAIN)
