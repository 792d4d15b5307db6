"""Timers that processes own: one clock, one deadline, an optional period (itimers, POSIX timers, timerfd)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.kernel import clock

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.timers import Timer

CPU_CHECK_NS: Final = 1_000_000  # a CPU-time clock is looked at again no sooner than this
REFIRE_NS: Final = 500_000  # periods that end sooner than this after the last fired are counted together ...
REFIRE_TIMERS: Final = 64  # ... and later the more timers there are: by so much for each of these


class Countdown:
    """`read` gives the clock in ns; `fire(n)` is called with K held when n > 0 periods have ended.

    Clocks of the host run in step with CLOCK_MONOTONIC; CPU-time clocks (`cpu`) are looked at when they could have got there at
    the earliest.
    """

    def __init__(
        self, kernel: Kernel, read: Callable[[], int], cpu: bool, fire: Callable[[int], None]
    ) -> None:
        self.kernel: Kernel = kernel
        self.read: Callable[[], int] = read
        self.cpu: bool = cpu
        self.fire: Callable[[int], None] = fire
        self.deadline: int = 0  # on its clock; 0: disarmed
        self.interval: int = 0
        self.timer: Timer | None = None

    def set(self, deadline: int, interval: int) -> None:
        """Arms it for an absolute time of its clock, 0 disarms."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.deadline = deadline
        self.interval = interval
        if deadline:
            self.schedule()

    def set_relative(self, value: int, interval: int) -> None:
        """Arms it for `value` ns from now, 0 disarms."""
        self.set(self.read() + value if value else 0, interval)

    def left(self) -> int:
        """ns until it fires: at least 1 when armed, 0 when not."""
        return max(1, self.deadline - self.read()) if self.deadline else 0

    def schedule(self, least: int = 0) -> None:
        wait = self.deadline - self.read()
        if self.cpu:
            least = CPU_CHECK_NS
        self.timer = self.kernel.timers.at(clock.monotonic() + max(least, wait), self.due)

    def due(self) -> None:
        """The timer thread says it may be time."""
        self.timer = None
        late = self.read() - self.deadline
        if late < 0:
            self.schedule()
            return
        count = 1
        if self.interval:
            count += late // self.interval
            self.deadline += count * self.interval
            self.schedule(REFIRE_NS * (1 + len(self.kernel.timers.heap) // REFIRE_TIMERS))
        else:
            self.deadline = 0
        self.fire(count)
