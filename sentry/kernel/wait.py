"""Waiting: queues of waiters on poll events, and a task's way to sleep on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.errors import ERESTARTSYS, Restart

if TYPE_CHECKING:
    from sentry.kernel.task import Task

# What Task.block returns.
WOKEN: Final = 0
TIMEOUT: Final = 1
INTERRUPTED: Final = 2

NO_DEADLINE: Final = -1


class Waiter:
    """One registration on wait queues. `wake` is called with K held, with the poll bits that became ready."""

    def __init__(self, mask: int) -> None:
        self.mask: int = mask
        self.exclusive: bool = False  # of the exclusive ones, one that `takes` it is enough for an event (EPOLLEXCLUSIVE)

    def wake(self, events: int) -> None:
        raise NotImplementedError

    def takes(self) -> bool:
        """Would somebody handle an event now?"""
        return True


class TaskWaiter(Waiter):
    """Wakes a task that sleeps in `Task.block`."""

    def __init__(self, task: Task, mask: int) -> None:
        super().__init__(mask)
        self.task: Task = task

    def wake(self, events: int) -> None:
        self.task.wake()


class CallbackWaiter(Waiter):
    """Calls a function (epoll, signalfd, SIGIO)."""

    def __init__(self, mask: int, callback: Callable[[int], None]) -> None:
        super().__init__(mask)
        self.callback: Callable[[int], None] = callback

    def wake(self, events: int) -> None:
        self.callback(events)


class WaitQueue:
    """Who waits for an object. Waiters are woken in the order in which they came (poll bits POLLIN, POLLOUT, ...)."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    def add(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Takes a waiter out; one that is not there is ignored."""
        for i, w in enumerate(self.waiters):
            if w is waiter:
                del self.waiters[i]
                return

    def notify(self, events: int) -> None:
        """The bits in `events` may have become ready: wakes every waiter registered for one of them."""
        if self.waiters:
            taken = False
            for w in self.waiters[:]:
                if w.mask & events:
                    if w.exclusive:
                        if taken:
                            continue
                        taken = w.takes()
                    w.wake(events)


def wait_for(
    t: Task, queue: WaitQueue, mask: int, ready: Callable[[], bool], deadline: int = NO_DEADLINE, restart: int = ERESTARTSYS
) -> bool:
    """Sleeps until `ready()`; False when the monotonic `deadline` (ns, -1 for none) passed first.

    Raises Restart(restart) when a signal or stop for the task came first.
    """
    if ready():
        return True
    waiter = TaskWaiter(t, mask)
    queue.add(waiter)
    try:
        while not ready():
            why = t.block(deadline)
            if ready():
                return True
            if why == INTERRUPTED:
                raise Restart(restart)
            if why == TIMEOUT:
                return False
        return True
    finally:
        queue.remove(waiter)
