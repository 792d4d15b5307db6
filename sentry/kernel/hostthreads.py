"""Host threads: each runs one guest thread at a time, and waits for another when that has ended."""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.kernel import run

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

IDLE_MAX: Final = 8
STACK_SIZE: Final = 512 * 1024


class HostThread:
    """An idle thread sleeps on `lock`; `task` is what it shall run when it wakes, None to end."""

    def __init__(self, pool: HostThreads, task: Task | None) -> None:
        self.pool: HostThreads = pool
        self.task: Task | None = task
        self.lock: _thread.LockType = _thread.allocate_lock()
        self.lock.acquire()

    def main(self) -> None:
        lib.cn_klock()
        while True:
            task = self.task
            if task is None:
                break
            self.task = None
            run.run_task(task)
            pool = self.pool
            if pool.stopping or len(pool.idle) >= IDLE_MAX:
                break
            pool.idle.append(self)
            lib.cn_kunlock()
            self.lock.acquire()
            lib.cn_klock()
        lib.cn_kunlock()


class HostThreads:
    """The threads that run tasks. Methods are called with K held."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        self.idle: list[HostThread] = []
        self.stopping: bool = False
        _thread.stack_size(STACK_SIZE)

    def start(self, t: Task) -> None:
        """Runs the task in an idle thread or a new one. RuntimeError when the host has no thread for it."""
        if self.idle:
            thread = self.idle.pop()
            thread.task = t
            thread.lock.release()
        else:
            _thread.start_new_thread(HostThread(self, t).main, ())

    def stop(self) -> None:
        """Ends the idle threads; those that still run end with their task."""
        self.stopping = True
        for thread in self.idle:
            thread.lock.release()
        self.idle.clear()
