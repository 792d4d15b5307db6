"""`run` and `exec` in the foreground: the caller's terminal and signals, and the end of the container process, our child."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import tty
from typing import Any

from cordon.oci.keeper import FORWARDED, nothing


class Terminal:
    """The caller's terminal in raw mode, connected with the container's: for `run` and `exec` without a console socket."""

    def __init__(self) -> None:
        self.saved: list[Any] | None = None
        #: The container's pty, once it is there.
        self.master = -1

    def connect(self, master: int) -> None:
        self.master = master
        self.resize()
        if os.isatty(0):
            self.saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)

    def resize(self) -> None:
        if os.isatty(0):
            fcntl.ioctl(
                self.master,
                termios.TIOCSWINSZ,
                fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0)),
            )

    def restore(self) -> None:
        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            self.saved = None


def follow(pid: int, terminal: Terminal | None) -> int:
    """Until the child `pid` ends: signals go to it, and what is typed and printed goes between the terminals. Its exit status."""
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    for sig in FORWARDED:
        signal.signal(sig, nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    done = os.pidfd_open(pid)
    poll = select.poll()
    master = terminal.master if terminal is not None else -1
    for fd in (wake_in, done, *((0, master) if terminal is not None and master >= 0 else ())):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            for fd, _ in poll.poll():
                if fd == wake_in:
                    forward(wake_in, pid, terminal)
                elif fd == done:
                    if terminal is not None and master >= 0:
                        drain(master)
                    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF
                elif not pump(fd, master):
                    poll.unregister(fd)
    finally:
        if terminal is not None:
            terminal.restore()
        os.close(done)


def forward(wake_in: int, pid: int, terminal: Terminal | None) -> None:
    try:
        signals = os.read(wake_in, 512)
    except BlockingIOError:
        return
    for sig in signals:
        if sig == signal.SIGWINCH and terminal is not None:
            terminal.resize()
        elif sig in FORWARDED:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                return


def pump(fd: int, master: int) -> bool:
    """Moves what is there from the caller's terminal to the container's, or the other way. False at the end."""
    try:
        data = os.read(fd, 65536)
        if data:
            write_all(master if fd == 0 else 1, data)
        return bool(data)
    except OSError:
        return False


def drain(master: int) -> None:
    """The last words."""
    os.set_blocking(master, False)
    while pump(master, master):
        pass


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
