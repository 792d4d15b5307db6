"""Host descriptors as wait queues: one host thread with epoll tells the kernel when they become ready."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from native._core import lib
from sentry import threads
from sentry.kernel.wait import Waiter, WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel


class HostWaitQueue(WaitQueue):
    """The queue of a file with a host descriptor: arms the notifier while somebody waits, and never else."""

    def __init__(self, notifier: FdNotifier, fd: int) -> None:
        super().__init__()
        self.notifier: FdNotifier = notifier
        self.fd: int = fd

    def add(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)
        self.notifier.arm(self)

    def remove(self, waiter: Waiter) -> None:
        WaitQueue.remove(self, waiter)
        if not self.waiters:
            self.notifier.disarm(self)


class FdNotifier:
    """Methods are called with K held. Descriptors are watched edge-triggered: arming tells what is ready now, then each change."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        self.epoll: select.epoll | None = None
        self.queues: dict[int, HostWaitQueue] = {}

    def arm(self, queue: HostWaitQueue) -> None:
        """Watches the descriptor for what the queue's waiters want. A file that epoll can't watch is always ready."""
        mask = select.EPOLLET
        for w in queue.waiters:
            mask |= w.mask & 0x3FFF
        if self.epoll is None:
            self.epoll = select.epoll()
            threads.start(self.main, "descriptors")
        try:
            if queue.fd in self.queues:
                self.epoll.modify(queue.fd, mask)
            else:
                self.epoll.register(queue.fd, mask)
                self.queues[queue.fd] = queue
        except PermissionError:  # a regular file
            queue.notify(mask)

    def disarm(self, queue: HostWaitQueue) -> None:
        """Nobody waits any more."""
        if self.epoll is not None and self.queues.get(queue.fd) is queue:
            del self.queues[queue.fd]
            self.epoll.unregister(queue.fd)

    def main(self) -> None:
        """The notifier thread."""
        lib.cn_thread_unpin()
        epoll = self.epoll
        assert epoll is not None
        while True:
            events = epoll.poll()
            lib.cn_klock()
            try:
                for fd, mask in events:
                    queue = self.queues.get(fd)
                    if queue is not None:
                        queue.notify(mask)
            except BaseException as e:
                self.kernel.fail(f"descriptor notifier: {type(e).__name__}: {e}")
                raise
            finally:
                lib.cn_kunlock()
