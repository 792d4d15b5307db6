"""Connects a terminal of the sandbox with one of the host: what is typed there comes to the line discipline here, and what is shown here
goes there. The host's terminal is put into raw mode and only carries bytes."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from sentry.abi import ioctl as IO
from sentry.abi import poll as P
from sentry.fs.tty import termios as modes
from sentry.fs.tty.pty import READABLE, STAGED, WRITABLE, Pty
from sentry.fs.tty.termios import Termios
from sentry.kernel.fdnotify import HostWaitQueue
from sentry.kernel.wait import CallbackWaiter

if TYPE_CHECKING:
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.kernel import Kernel

CHUNK: Final = 4096
NO_SIZE: Final = bytes(4)


class Bridge:
    """One connection. All methods with K held."""

    def __init__(self, kernel: Kernel, fd: int, pty: Pty) -> None:
        """fd: the host's side, a terminal or any stream; stays the caller's."""
        self.pty: Pty = pty
        self.fd: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        self.terminal: bool = os.isatty(self.fd)
        self.ending: bool = False  # closes when everything has been shown
        self.pumping: bool = False
        self.again: bool = False
        self.host_queue: HostWaitQueue = HostWaitQueue(kernel.fdnotify, self.fd)
        self.host_waiter: CallbackWaiter = CallbackWaiter(
            P.POLLIN | P.POLLOUT | P.POLLHUP | P.POLLERR, self.ready
        )
        self.pty_waiter: CallbackWaiter = CallbackWaiter(READABLE | WRITABLE, self.ready)
        BRIDGES.append(self)
        self.started: bool = False
        if self.terminal:
            self.make_raw()
            self.take_size()

    def start(self) -> None:
        """From here on bytes move. Not before the sentry is sealed: it starts a thread."""
        if not self.started and self.fd >= 0:
            self.started = True
            self.pty.master_waitq.add(self.pty_waiter)
            self.host_queue.add(self.host_waiter)

    def make_raw(self) -> None:
        """Every byte as it comes (cfmakeraw(3))."""
        t = modes.unpack(Termios(), fcntl.ioctl(self.fd, IO.TCGETS, bytes(modes.TERMIOS.size)))
        t.iflag = 0
        t.oflag = 0
        t.lflag = 0
        cc = bytearray(t.cc)
        cc[IO.VMIN] = 1
        cc[IO.VTIME] = 0
        t.cc = bytes(cc)
        fcntl.ioctl(self.fd, IO.TCSETS, t.pack())

    def take_size(self) -> None:
        """The host's terminal may have another size by now. One that has none (0 rows) leaves ours as it is."""
        if self.terminal and self.fd >= 0:
            try:
                size = fcntl.ioctl(self.fd, IO.TIOCGWINSZ, bytes(modes.WINSIZE.size))
            except OSError:
                return
            if size[:4] != NO_SIZE:
                self.pty.resize(size)

    def ready(self, events: int) -> None:
        """Either side can go on, perhaps."""
        if self.pumping:
            self.again = True
            return
        self.pumping = True
        try:
            self.again = True
            while self.again and self.fd >= 0:
                self.again = False
                self.show()
                self.type()
        finally:
            self.pumping = False

    def show(self) -> None:
        """What the guest wrote goes out."""
        pty = self.pty
        while pty.out and self.fd >= 0:
            try:
                n = os.write(self.fd, bytes(pty.out[:CHUNK]))
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            pty.seen(n)
        if self.ending:
            self.close()

    def type(self) -> None:
        """What was typed comes in, as far as there is room."""
        pty = self.pty
        while self.fd >= 0:
            room = STAGED - len(pty.staged)
            if room <= 0:
                return
            try:
                data = os.read(self.fd, min(room, CHUNK))
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            pty.type(data)

    def finish(self) -> None:
        """The process that had the terminal has ended: closes as soon as everything was shown."""
        self.ending = True
        self.ready(0)

    def close(self) -> None:
        """The line is cut: the guest's side is hung up."""
        if self.fd < 0:
            return
        if self.started:
            self.host_queue.remove(self.host_waiter)
            self.pty.master_waitq.remove(self.pty_waiter)
        os.close(self.fd)
        self.fd = -1
        BRIDGES.remove(self)
        self.pty.close_master()


BRIDGES: Final[list[Bridge]] = []  # those that are open


def bridge_of(tty: TTY) -> Bridge | None:
    """How a terminal is connected with the host, if it is."""
    return tty.bridge if isinstance(tty, Pty) else None


def start() -> None:
    """Those that were made meanwhile."""
    for b in BRIDGES:
        b.start()


def waiting() -> bool:
    """Is there something that has still to be shown?"""
    return any(b.pty.out for b in BRIDGES)
