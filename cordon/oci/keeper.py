"""The process whose number engines keep: it stands for a container, or for one process executed in it.

It exits with the status of what it stands for, forwards the signals it gets to it, and takes it along when it is killed. It holds
no data of the guest: everything it hears is a few numbers on the control line.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from cordon.control import Connection, ControlError
from cordon.oci.errors import log

#: Forwarded to the guest: all but those that can't be caught, that a fault of this process itself raises, and SIGCHLD.
FORWARDED = frozenset(range(1, 65)) - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGABRT, 32, 33,
}  # fmt: skip
#: Id of what the sentry says unasked.
NOBODY = -1
#: Status of something that was killed because its sandbox went.
STATUS_KILLED = 128 + signal.SIGKILL
#: Seconds that the sandbox gets to say how it ended once its process has gone.
GRACE = 1.0


def block_signals() -> None:
    """Until `Keeper` takes them, signals wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)


class Keeper:
    """The loop over the control line, the signals, and the processes of the sandbox that are this one's children."""

    def __init__(self, line: Connection, container: str, pid: int, terminal: bool) -> None:
        """`pid`: in the container, 0 for its init."""
        self.line = line
        self.container = container
        self.pid = pid
        self.terminal = terminal
        self.wake_in, self.wake_out = os.pipe()
        os.set_blocking(self.wake_out, False)
        os.set_blocking(self.wake_in, False)
        #: pidfd of a child -> what to say of its end; the sandbox ends with it.
        self.watched: dict[int, str] = {}
        #: How it ended, when the sentry said so.
        self.end: dict[str, Any] | None = None
        #: Descriptor -> what to do when it is readable.
        self.also: dict[int, Callable[[], None]] = {}

    def take_signals(self) -> None:
        """From now on signals become bytes in a pipe that the loop reads."""
        signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        for sig in FORWARDED:
            signal.signal(sig, nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    def watch(self, pid: int, what: str) -> None:
        """The end of this child is the end of the sandbox; `what` names it in the log."""
        self.watched[os.pidfd_open(pid)] = what

    def run(self) -> int:
        """Until the end; the exit status."""
        poll = select.poll()
        try:
            waited = self.line.request_wait(self.container, self.pid)
            self.line.sock.settimeout(GRACE)
        except ControlError:
            return STATUS_KILLED
        for fd in (self.line.fileno(), self.wake_in, *self.watched, *self.also):
            poll.register(fd, select.POLLIN)
        while self.end is None:
            for fd, _ in poll.poll():
                if fd == self.wake_in:
                    self.forward()
                elif fd == self.line.fileno():
                    if not self.hear(waited):
                        return self.status()
                elif fd in self.also:
                    self.also[fd]()
                    self.take(self.line.early.pop(waited, []))
                else:
                    poll.unregister(fd)
                    self.lost(waited, self.watched[fd])
                    return self.status()
        return self.status()

    def hear(self, waited: int) -> bool:
        """Takes what has come on the line; False when there is no more."""
        try:
            while True:
                message = self.line.receive()
                failed = message.get("id") == NOBODY and "error" in message
                if failed or message.get("id") == waited:
                    self.take([message])
                    return True
                if len(self.line.pending) < 4:
                    return True
        except ControlError:
            return False

    def take(self, messages: list[dict[str, Any]]) -> None:
        """The answer to the request to wait, or why the sandbox can't go on, if it is there."""
        for message in messages:
            if "error" in message:
                log.write("error", f'container "{self.container}": {message["error"].get("message")}')
            self.end = message.get("result", {"killed": signal.SIGKILL})

    def lost(self, waited: int, what: str) -> None:
        """A process of the sandbox has gone: did the sentry still say how the guest ended?"""
        deadline = time.monotonic() + GRACE if what == "sentry" else 0.0
        while self.end is None and time.monotonic() < deadline:
            if not self.hear(waited):
                break
        if self.end is None:
            log.write("error", f'container "{self.container}": ended because its {what} has gone')

    def processes(self) -> list[dict[str, Any]]:
        """The guest's, for those who read them through the mount namespace; none when the sentry doesn't answer soon."""
        try:
            return self.line.ps(self.container)
        except ControlError:
            return []

    def status(self) -> int:
        """As a shell says it."""
        end = self.end or {}
        if "exit" in end:
            return int(end["exit"]) & 0xFF
        return 128 + int(end.get("killed", signal.SIGKILL))

    def forward(self) -> None:
        try:
            signals = os.read(self.wake_in, 512)
        except BlockingIOError:
            return
        for sig in signals:
            try:
                args: dict[str, Any] = {"container": self.container}
                if self.pid:
                    args["pid"] = self.pid
                if sig == signal.SIGWINCH and self.terminal:
                    self.line.request("resize", {**args, "rows": 0, "columns": 0})
                elif sig in FORWARDED:
                    self.line.request("signal", {**args, "signal": sig, "mode": "process"})
            except ControlError:
                return


def nothing(*_: object) -> None:
    """A handler, so that the signal is not ignored."""
