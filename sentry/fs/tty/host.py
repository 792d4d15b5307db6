"""The caller's own terminal, given to the sandbox: its line discipline is the host's, sessions and jobs are the sentry's."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import ioctl as IO
from sentry.abi import signal as SIG
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.fs.tty import termios as modes
from sentry.fs.tty.terminal import TTY, terminal_of
from sentry.fs.tty.termios import Termios
from sentry.kernel import signals
from sentry.vfs.special import makedev

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

CONSOLE_MAJOR: Final = 5
CONSOLE_MINOR: Final = 1
SETS: Final = (IO.TCSETS, IO.TCSETSW, IO.TCSETSF)
SETS2: Final = (IO.TCSETS2, IO.TCSETSW2, IO.TCSETSF2)


class HostTTY(TTY):
    """One terminal of the host, as /dev/console. fd: a descriptor of it, opened anew and non-blocking if `nonblocking`; stays open."""

    def __init__(self, kernel: Kernel, fd: int, nonblocking: bool) -> None:
        super().__init__(kernel, makedev(CONSOLE_MAJOR, CONSOLE_MINOR))
        self.fd: int = fd
        self.nonblocking: bool = nonblocking
        self.host_rdev: int = os.fstat(fd).st_rdev
        self.tostop: bool = bool(self.termios().lflag & IO.TOSTOP)

    def open_file(self, t: Task, path: Path, inode: Inode, flags: int) -> File:
        from sentry.fs import hostfile

        fd = fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, 3)
        file = hostfile.HostTerminal(self.kernel, fd, 0, self.nonblocking, self, path)
        file.flags = flags
        self.opened(t, flags)
        return file

    def control(self, cmd: int, data: bytes) -> bytes:
        """A host ioctl with a buffer of ours."""
        try:
            return fcntl.ioctl(self.fd, cmd, data)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None

    def order(self, cmd: int, value: int, most: int) -> int:
        """A host ioctl with a small number as argument."""
        if not 0 <= value <= most:
            raise Errno(E.EINVAL)
        try:
            fcntl.ioctl(self.fd, cmd, value)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None
        return 0

    def termios(self) -> Termios:
        return modes.unpack(Termios(), self.control(IO.TCGETS, bytes(modes.TERMIOS.size)))

    def change(self, cmd: int, new: Termios) -> None:
        """Applies modes on the host's terminal, in the way of TCSETS, TCSETSW or TCSETSF."""
        new.line = IO.N_TTY
        self.control(cmd, new.pack())
        self.tostop = bool(new.lflag & IO.TOSTOP)

    def check_change(self, t: Task, sig: int) -> None:
        """Also stopped: the foreground job of a sandbox that is itself a background job outside. The host lets the sentry, which
        ignores SIGTTOU, change the terminal anyway, but shows it by refusing a read, even of nothing."""
        super().check_change(t, sig)
        if sig != SIG.SIGTTOU or not self.nonblocking or terminal_of(t) is not self:
            return
        try:
            os.read(self.fd, 0)
        except OSError as e:
            if e.errno == E.EIO:
                self.host_background(t, sig)

    def host_background(self, t: Task, sig: int) -> None:
        """The host refused a read: the sandbox is a background job there. So is whoever reads (SIGTTIN) or changes the terminal
        (SIGTTOU): it is stopped (raises Restart) or refused with EIO, unless it blocks or ignores the signal."""
        pg = t.tg.pgrp
        if t.sigmask & signals.bit(sig) or t.tg.actions.handler(sig) == signals.SIG_IGN:
            return
        if pg.orphaned():
            raise Errno(E.EIO)
        signals.send_to_pgrp(pg, signals.kernel_info(sig))
        raise Restart(ERESTARTSYS)

    def set_size(self, size: bytes) -> None:
        """From outside (struct winsize); the foreground job hears of it."""
        self.control(IO.TIOCSWINSZ, size)
        self.signal(SIG.SIGWINCH)

    def ioctl(self, t: Task, cmd: int, arg: int, readable: bool) -> int:
        mm = t.mm
        if cmd == IO.TCGETS:
            mm.write(arg, self.termios().pack())
        elif cmd == IO.TCGETS2:
            mm.write(arg, self.termios().pack2())
        elif cmd == IO.TCGETA:
            mm.write(arg, self.termios().pack_old())
        elif cmd in SETS:
            self.check_change(t, SIG.SIGTTOU)
            self.change(cmd, modes.unpack(self.termios(), mm.read(arg, modes.TERMIOS.size)))
        elif cmd in SETS2:
            self.check_change(t, SIG.SIGTTOU)
            self.change(cmd - IO.TCSETS2 + IO.TCSETS, modes.unpack2(self.termios(), mm.read(arg, modes.TERMIOS2.size)))
        elif cmd in (IO.TCSETA, IO.TCSETAW, IO.TCSETAF):
            self.check_change(t, SIG.SIGTTOU)
            self.change(cmd - IO.TCSETA + IO.TCSETS, modes.unpack_old(self.termios(), mm.read(arg, modes.TERMIO.size)))
        elif cmd == IO.TIOCGWINSZ:
            mm.write(arg, self.control(cmd, bytes(modes.WINSIZE.size)))
        elif cmd == IO.TIOCSWINSZ:
            self.control(cmd, mm.read(arg, modes.WINSIZE.size))
        elif cmd == IO.TIOCOUTQ or cmd == IO.FIONREAD:
            mm.write(arg, self.control(cmd, bytes(4)))
        elif cmd == IO.TCFLSH:
            self.check_change(t, SIG.SIGTTOU)
            return self.order(cmd, arg, IO.TCIOFLUSH)
        elif cmd == IO.TCXONC:
            self.check_change(t, SIG.SIGTTOU)
            return self.order(cmd, arg, IO.TCION)
        elif cmd == IO.TCSBRK or cmd == IO.TCSBRKP:
            self.check_change(t, SIG.SIGTTOU)  # tcdrain(3): the host takes output at once; a break means nothing to it
        else:
            done = self.job_ioctl(t, cmd, arg, readable, False)
            if done is None:
                raise Errno(E.ENOTTY)
            return done
        return 0
