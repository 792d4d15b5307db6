"""Watches over the kernel lock: a task that keeps it too long is stuck in the kernel, because a gofer does not answer or by a bug.

It is reported with its call and the stacks of the sentry's threads; by flag that ends the sandbox.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from native._core import lib
from sentry.control import wire
from sentry.kernel.task import SYSCALL
from sentry.syscalls import dispatch

if TYPE_CHECKING:
    from types import FrameType

    from sentry.control.server import Server
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

PERIOD: Final = 15.0  # seconds between looks at most; else a quarter of the time that is too long
DEEPEST: Final = 40  # frames of a stack that are told


class Watchdog:
    """Two threads: `probe` takes the lock once a period, `main` looks whether that takes too long. `main` never takes it."""

    def __init__(self, kernel: Kernel, server: Server, seconds: int, ends: bool) -> None:
        """seconds: how long is too long. ends: a stuck task ends the sandbox."""
        self.kernel: Kernel = kernel
        self.server: Server = server
        self.seconds: int = seconds
        self.ends: bool = ends
        self.period: float = min(PERIOD, seconds / 4)
        self.asked: float = 0.0  # when the probe began to wait for the lock; 0: it does not
        self.reported: bool = False
        self.events: list[tuple[Task, dict[str, Any]]] = []  # told as soon as the lock is free

    def start(self) -> None:
        _thread.start_new_thread(self.probe, ())
        _thread.start_new_thread(self.main, ())

    def probe(self) -> None:
        lib.cn_thread_unpin()
        while True:
            time.sleep(self.period)
            self.asked = time.monotonic()
            lib.cn_klock()
            self.asked = 0.0
            try:
                for t, event in self.events:
                    self.server.publish(t.container, event)
                self.events = []
                self.reported = False
            finally:
                lib.cn_kunlock()

    def main(self) -> None:
        lib.cn_thread_unpin()
        while True:
            time.sleep(self.period)
            asked = self.asked
            if asked and not self.reported and time.monotonic() - asked >= self.seconds:
                self.reported = True
                self.report(int(time.monotonic() - asked))

    def report(self, seconds: int) -> None:
        """Says who is stuck. Without the lock: what it reads may change meanwhile, but nobody else gets anywhere."""
        stuck = [t for t in self.kernel.every_task() if t.state == SYSCALL]
        stack = stacks()
        lines = [f"cordon: the kernel has been busy for {seconds} s with one task"]
        for t in stuck:
            lines.append(f"  task {t.tid} ({t.comm.decode('utf-8', 'replace')}): {dispatch.describe(t)}")
            event = {"event": "stuck", "container": t.container.ident, "pid": t.tg.pid, "tid": t.tid}
            self.events.append(
                (t, {**event, "call": dispatch.describe(t), "seconds": seconds, "stack": stack})
            )
        lines += [f"    {line}" for line in stack]
        text = "\n".join(lines)
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
        if self.kernel.log is not None:
            self.kernel.log(text)
        if self.ends:
            self.end(stuck, seconds)

    def end(self, stuck: list[Task], seconds: int) -> None:
        """Tells the owner as far as that goes without the lock, and ends the process, with it the sandbox."""
        what = dispatch.describe(stuck[0]) if stuck else "no call"
        sentence = f"the sandbox was ended because its kernel was stuck for {seconds} s in {what}"
        if self.server.owner is not None:
            frame = wire.pack({"id": wire.NOBODY, "error": wire.error("failed", sentence, 70)})
            try:
                os.write(self.server.owner.line.fd, frame)
            except OSError:
                pass
        os._exit(1)


def stacks() -> list[str]:
    """What every thread of the sentry is doing, the innermost frame first. Compiled code shows only where it calls interpreted code."""
    lines: list[str] = []
    for ident, innermost in sys._current_frames().items():
        lines.append(f"thread {ident & 0xFFFFFF:x}:")
        frame: FrameType | None = innermost
        depth = 0
        while frame is not None and depth < DEEPEST:
            code = frame.f_code
            lines.append(f"  {code.co_filename}:{frame.f_lineno} in {code.co_name}")
            frame = frame.f_back
            depth += 1
    return lines
