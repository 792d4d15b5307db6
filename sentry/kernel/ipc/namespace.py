"""An IPC namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.kernel.ipc.msg import MessageQueues
from sentry.kernel.ipc.sem import Semaphores
from sentry.kernel.ipc.shm import SharedMemory

if TYPE_CHECKING:
    from sentry.kernel.task import Task


class IpcNamespace:
    """The System V objects that tasks see."""

    def __init__(self) -> None:
        self.shm: SharedMemory = SharedMemory()
        self.sem: Semaphores = Semaphores()
        self.msg: MessageQueues = MessageQueues()


def thread_ended(t: Task, last: bool) -> None:
    """Exit hook: semaphore adjustments are given back."""
    if last:
        t.kernel.ipc.sem.process_ended(t.tg.pid)
