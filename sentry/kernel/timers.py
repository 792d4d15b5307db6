"""Timers: callbacks at points of CLOCK_MONOTONIC, from one host thread that sleeps until the next is due."""

from __future__ import annotations

import heapq
import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from native._core import lib
from sentry import threads
from sentry.kernel import clock

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel


class Timer:
    """One callback to come."""

    def __init__(self, deadline: int, callback: Callable[[], None]) -> None:
        self.deadline: int = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not be called any more. With K held."""
        self.callback = None


class Timers:
    """Methods are called with K held, callbacks too."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        self.heap: list[tuple[int, int, Timer]] = []
        self.count: int = 0  # of timers ever made: keeps equal deadlines in order
        self.wakeup: int = -1  # eventfd that ends the thread's sleep
        self.sleeping_until: int = -1  # deadline the thread sleeps for, -1: none

    def at(self, deadline: int, callback: Callable[[], None]) -> Timer:
        """Calls `callback` when CLOCK_MONOTONIC reaches `deadline` (ns), at once if it has."""
        timer = Timer(deadline, callback)
        self.count += 1
        heapq.heappush(self.heap, (deadline, self.count, timer))
        if self.wakeup < 0:
            self.wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            threads.start(self.main, "timers")
        elif self.sleeping_until < 0 or deadline < self.sleeping_until:
            self.sleeping_until = deadline
            os.eventfd_write(self.wakeup, 1)
        return timer

    def expire(self) -> int:
        """Runs what is due; the ns until the next, -1 when there is none."""
        heap = self.heap
        while heap:
            deadline, _, timer = heap[0]
            callback = timer.callback
            if callback is not None:
                left = deadline - clock.monotonic()
                if left > 0:
                    self.sleeping_until = deadline
                    return left
            heapq.heappop(heap)
            if callback is not None:
                timer.callback = None
                callback()
        self.sleeping_until = -1
        return -1

    def main(self) -> None:
        """The timer thread."""
        lib.cn_thread_unpin()
        while True:
            lib.cn_klock()
            try:
                left = self.expire()
            except BaseException as e:
                self.kernel.fail(f"timer: {type(e).__name__}: {e}")
                raise
            finally:
                lib.cn_kunlock()
            select.select([self.wakeup], [], [], None if left < 0 else left / clock.NS)
            try:
                os.eventfd_read(self.wakeup)
            except BlockingIOError:
                pass
