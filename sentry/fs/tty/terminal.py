"""What all terminals share: controlling terminals and job control (credentials(7), termios(3), ioctl_tty(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IO
from sentry.abi import signal as SIG
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.fs.tty.ldisc import Screen
from sentry.fs.tty.termios import WINSIZE
from sentry.kernel import signals
from sentry.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.session import ProcessGroup, Session
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

NO_SIZE: Final = bytes(WINSIZE.size)


def terminal_of(t: Task) -> TTY | None:
    """The controlling terminal of a task's session."""
    return t.tg.pgrp.session.tty


class TTY(Screen):
    """A terminal as sessions know it. rdev: its device number."""

    def __init__(self, kernel: Kernel, rdev: int) -> None:
        self.kernel: Kernel = kernel
        self.rdev: int = rdev
        self.session: Session | None = None  # whose controlling terminal it is; session.tty points back
        self.foreground: ProcessGroup | None = None
        self.waitq: WaitQueue = WaitQueue()
        self.exclusive: bool = False  # TIOCEXCL
        self.hangups: int = 0  # files opened before the last hang-up are dead
        self.winsize: bytes = NO_SIZE

    def open_file(self, t: Task, path: Path, inode: Inode, flags: int) -> File:
        """A new description of this terminal (/dev/tty and the device's own node)."""
        raise Errno(E.EIO)

    # Job control

    def signal(self, sig: int) -> None:
        if self.foreground is not None:
            signals.send_to_pgrp(self.foreground, signals.kernel_info(sig))

    def check_change(self, t: Task, sig: int) -> None:
        """A background job may not read (SIGTTIN) or change the terminal (SIGTTOU): it is stopped (raises Restart) or, where it
        can't be, refused with EIO; SIGTTOU that is blocked or ignored lets it go on."""
        pg = t.tg.pgrp
        if terminal_of(t) is not self or self.foreground is None or pg is self.foreground:
            return
        if t.sigmask & signals.bit(sig) or t.tg.actions.handler(sig) == signals.SIG_IGN:
            if sig == SIG.SIGTTIN:
                raise Errno(E.EIO)
            return
        if pg.orphaned():
            raise Errno(E.EIO)
        signals.send_to_pgrp(pg, signals.kernel_info(sig))
        raise Restart(ERESTARTSYS)

    def opened(self, t: Task, flags: int) -> None:
        """open(2) without O_NOCTTY: a session leader without a terminal gets this one."""
        session = t.tg.pgrp.session
        if (
            not flags & F.O_NOCTTY
            and flags & F.O_ACCMODE != F.O_WRONLY
            and session.leader is t.tg
            and session.tty is None
            and self.session is None
        ):
            self.attach(session, t.tg.pgrp)

    def attach(self, session: Session, foreground: ProcessGroup) -> None:
        """Becomes a session's controlling terminal."""
        self.session = session
        self.foreground = foreground
        session.tty = self

    def detach(self) -> None:
        """Is nobody's controlling terminal any more."""
        if self.session is not None:
            self.session.tty = None
        self.session = None
        self.foreground = None

    def disassociate(self, session: Session) -> None:
        """The session's leader has exited."""
        foreground = self.foreground
        self.hang_up(False)
        if foreground is not None:
            signals.send_to_pgrp(foreground, signals.kernel_info(SIG.SIGHUP))
            signals.send_to_pgrp(foreground, signals.kernel_info(SIG.SIGCONT))

    def hang_up(self, tell_leader: bool) -> None:
        """The line is gone for every file that is open now; the session leader gets SIGHUP and SIGCONT."""
        session = self.session
        self.hangups += 1
        if session is not None:
            if tell_leader and session.leader is not None:
                session.old_foreground = self.foreground
                signals.send_to_group(session.leader, signals.kernel_info(SIG.SIGHUP))
                signals.send_to_group(session.leader, signals.kernel_info(SIG.SIGCONT))
            self.detach()

    def give_up(self, t: Task) -> int:
        """TIOCNOTTY."""
        session = t.tg.pgrp.session
        if session.tty is not self:
            raise Errno(E.ENOTTY)
        if session.leader is not t.tg:
            raise Errno(E.EPERM)  # Linux detaches this one process; here the session has the terminal
        foreground = self.foreground
        self.detach()
        if foreground is not None:
            signals.send_to_pgrp(foreground, signals.kernel_info(SIG.SIGHUP))
            signals.send_to_pgrp(foreground, signals.kernel_info(SIG.SIGCONT))
        return 0

    def acquire(self, t: Task, readable: bool, steal: bool) -> int:
        """TIOCSCTTY."""
        session = t.tg.pgrp.session
        if session.leader is t.tg and self.session is session:
            return 0
        if session.leader is not t.tg or session.tty is not None:
            raise Errno(E.EPERM)
        if self.session is not None:
            if not steal or not t.creds.has(C.CAP_SYS_ADMIN):
                raise Errno(E.EPERM)
            self.detach()
        if not readable and not t.creds.has(C.CAP_SYS_ADMIN):
            raise Errno(E.EPERM)
        self.attach(session, t.tg.pgrp)
        return 0

    def set_foreground(self, t: Task, pgid: int) -> int:
        """TIOCSPGRP."""
        try:
            self.check_change(t, SIG.SIGTTOU)
        except Errno as e:
            raise Errno(E.ENOTTY if e.errno == E.EIO else e.errno) from None
        session = t.tg.pgrp.session
        if session.tty is not self:
            raise Errno(E.ENOTTY)
        if pgid < 0:
            raise Errno(E.EINVAL)
        pg = t.pidns.pgroups.get(pgid)
        if pg is None:
            raise Errno(E.ESRCH)
        if pg.session is not session:
            raise Errno(E.EPERM)
        self.foreground = pg
        return 0

    def resize(self, size: bytes) -> None:
        """TIOCSWINSZ: SIGWINCH for the foreground job when the size (struct winsize) changes."""
        if size != self.winsize:
            self.winsize = size
            self.signal(SIG.SIGWINCH)

    def job_ioctl(self, t: Task, cmd: int, arg: int, readable: bool, master: bool) -> int | None:
        """The ioctls about sessions, jobs and exclusive use; None for others."""
        if cmd == IO.TIOCGPGRP or cmd == IO.TIOCGSID:
            if not master and terminal_of(t) is not self:
                raise Errno(E.ENOTTY)
            if cmd == IO.TIOCGPGRP:
                t.mm.write_u32(arg, self.foreground.pgid if self.foreground is not None else 0)
            else:
                if self.session is None:
                    raise Errno(E.ENOTTY)
                t.mm.write_u32(arg, self.session.sid)
            return 0
        if cmd == IO.TIOCSPGRP:
            return self.set_foreground(t, t.mm.read_i32(arg))
        if cmd == IO.TIOCSCTTY:
            return self.acquire(t, readable, arg == 1)
        if cmd == IO.TIOCNOTTY:
            return self.give_up(t)
        if cmd == IO.TIOCEXCL:
            self.exclusive = True
            return 0
        if cmd == IO.TIOCNXCL:
            self.exclusive = False
            return 0
        if cmd == IO.TIOCGEXCL:
            t.mm.write_u32(arg, int(self.exclusive))
            return 0
        if cmd == IO.TIOCSTI:
            raise Errno(E.EIO)  # as with dev.tty.legacy_tiocsti=0
        if cmd == IO.TIOCGETD:
            t.mm.write_u32(arg, IO.N_TTY)
            return 0
        if cmd == IO.TIOCSETD:
            if t.mm.read_i32(arg) != IO.N_TTY:
                raise Errno(E.EINVAL)
            return 0
        if cmd == IO.TIOCGDEV:
            t.mm.write_u32(arg, self.rdev)
            return 0
        if cmd == IO.TIOCVHANGUP:
            if not t.creds.has(C.CAP_SYS_ADMIN):
                raise Errno(E.EPERM)
            self.hang_up(True)
            return 0
        return None
