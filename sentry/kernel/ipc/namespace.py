"""An IPC namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.kernel.ipc.limits import Limits
from sentry.kernel.ipc.msg import MessageQueues
from sentry.kernel.ipc.sem import Semaphores
from sentry.kernel.ipc.shm import SharedMemory

if TYPE_CHECKING:
    from sentry.kernel.task import Task


class IpcNamespace:
    """The System V objects that tasks see."""

    def __init__(self, ident: int = 0) -> None:
        self.ident: int = ident  # /proc/PID/ns/ipc tells them apart
        self.mqueues: object | None = None  # root of the POSIX message queues (sentry/fs/mqueue.py)
        self.limits: Limits = Limits()
        self.shm: SharedMemory = SharedMemory(self.limits)
        self.sem: Semaphores = Semaphores(self.limits)
        self.msg: MessageQueues = MessageQueues(self.limits)


def thread_ended(t: Task, last: bool) -> None:
    """Exit hook: semaphore adjustments are given back."""
    if last:
        t.container.ipc.sem.process_ended(t.tg.pid)
