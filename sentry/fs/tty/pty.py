"""Pseudo terminals (pty(7)): a terminal whose screen and keyboard is a program, through the master side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IO
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.fs.tty import termios as modes
from sentry.fs.tty.ldisc import LineDiscipline
from sentry.fs.tty.terminal import TTY
from sentry.fs.tty.termios import Termios
from sentry.kernel import clock, signals
from sentry.kernel.wait import WaitQueue
from sentry.syscalls.pipe import install
from sentry.vfs.file import WOULD_BLOCK, File
from sentry.vfs.mount import Dentry, Path
from sentry.vfs.special import makedev

if TYPE_CHECKING:
    from sentry.fs.devpts import PtsNode
    from sentry.fs.tty.bridge import Bridge
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.kernel.timers import Timer
    from sentry.vfs.inode import Inode

PTS_MAJOR: Final = 136
STAGED: Final = 8192  # typed bytes on their way into a full line discipline
OUTPUT: Final = 8192  # bytes on the screen that the master has not read
TENTH: Final = 100_000_000  # ns in a unit of VTIME

READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM

# <asm-generic/ioctls.h>: packet mode's status byte, and termios2 calls.
PKT_FLUSHREAD: Final = 1
PKT_FLUSHWRITE: Final = 2
PKT_STOP: Final = 4
PKT_START: Final = 8
PKT_NOSTOP: Final = 16
PKT_DOSTOP: Final = 32
PKT_IOCTL: Final = 64

SETS: Final = (IO.TCSETS, IO.TCSETSW, IO.TCSETSF)
SETS2: Final = (IO.TCSETS2, IO.TCSETSW2, IO.TCSETSF2)
SETS_OLD: Final = (IO.TCSETA, IO.TCSETAW, IO.TCSETAF)


class Pty(TTY):
    """A pair: this object is the terminal (slave) with its line discipline, and the pipe to the master."""

    def __init__(self, kernel: Kernel, index: int, node: PtsNode) -> None:
        super().__init__(kernel, makedev(PTS_MAJOR + (index >> 8), index & 0xFF))
        self.index: int = index
        self.node: PtsNode = node
        self.ldisc: LineDiscipline = LineDiscipline(Termios(), self)
        self.staged: bytearray = bytearray()
        self.out: bytearray = bytearray()
        self.master_open: bool = True
        self.master_waitq: WaitQueue = WaitQueue()
        self.locked: bool = True  # until TIOCSPTLCK
        self.slaves: int = 0  # open slave descriptions, dead ones too
        self.was_opened: bool = False
        self.packet: bool = False
        self.status: int = 0  # packet mode: PKT_* not told yet
        self.bridge: Bridge | None = None  # to a terminal of the host, in place of a master
        self.last_typed: int = 0  # monotonic ns, for VTIME between bytes

    # Keyboard: master -> line discipline

    def type(self, data: bytes) -> int:
        """The master writes; bytes taken."""
        n = min(len(data), STAGED - len(self.staged))
        if n <= 0:
            return 0
        self.staged += data[:n]
        self.pump()
        return n

    def pump(self) -> None:
        """Typed bytes go into the line discipline as far as there is room."""
        if self.staged:
            typed = bytes(self.staged)
            self.staged = bytearray()
            n = self.ldisc.receive(typed)
            if n < len(typed):
                self.staged[0:0] = typed[n:]
            if n:
                self.last_typed = clock.monotonic()
                self.master_waitq.notify(WRITABLE)
        self.show_echo()
        if self.ldisc.canonical:
            if self.ldisc.marks:
                self.waitq.notify(READABLE)
        elif self.ldisc.buf:
            self.waitq.notify(READABLE)

    def show_echo(self) -> None:
        ldisc = self.ldisc
        if ldisc.echo and not ldisc.halted and len(self.out) < OUTPUT:
            self.out += ldisc.echo
            ldisc.echo = bytearray()
            self.master_waitq.notify(READABLE)

    # Screen: slave -> master

    def show(self, data: bytes) -> int:
        """The slave writes; bytes taken, 0 when there is no room or output is stopped."""
        ldisc = self.ldisc
        if ldisc.echo:
            self.show_echo()
        room = OUTPUT - len(self.out)
        if ldisc.halted or room <= 0:
            return 0
        if room < len(data):
            data = data[:room]
        self.out += ldisc.process(data)
        self.master_waitq.notify(READABLE)
        return len(data)

    def can_show(self) -> bool:
        return not self.ldisc.halted and len(self.out) < OUTPUT

    def seen(self, count: int) -> bytes:
        """The master reads."""
        data = bytes(self.out[:count])
        del self.out[: len(data)]
        if self.ldisc.echo:
            self.show_echo()
        self.waitq.notify(WRITABLE)
        return data

    # What the line discipline tells

    def flushed(self, read: bool, write: bool) -> None:
        if read:
            self.tell(PKT_FLUSHREAD)
        if write:
            self.out = bytearray()
            self.tell(PKT_FLUSHWRITE)
            self.waitq.notify(WRITABLE)

    def flow_changed(self, stopped: bool) -> None:
        self.status &= ~(PKT_START | PKT_STOP)
        self.tell(PKT_STOP if stopped else PKT_START)
        if not stopped:
            self.show_echo()
            self.waitq.notify(WRITABLE)

    def tell(self, status: int) -> None:
        """Something for packet mode."""
        if self.packet:
            self.status |= status
            self.master_waitq.notify(READABLE | P.POLLPRI)

    # Life

    def open_file(self, t: Task, path: Path, inode: Inode, flags: int) -> File:
        if not self.master_open or self.locked:
            raise Errno(E.EIO)
        if self.exclusive and not t.creds.has(C.CAP_SYS_ADMIN):
            raise Errno(E.EBUSY)
        file = PtySlave(self, flags, path, inode)
        self.opened(t, flags)
        return file

    def hang_up(self, tell_leader: bool) -> None:
        super().hang_up(tell_leader)
        self.ldisc.flush_input()
        self.waitq.notify(READABLE | WRITABLE | P.POLLHUP | P.POLLERR)
        self.master_waitq.notify(READABLE | P.POLLHUP)

    def close_master(self) -> None:
        self.master_open = False
        self.node.devpts.remove(self.index)
        self.hang_up(True)

    def close_slave(self) -> None:
        self.slaves -= 1
        if self.slaves == 0:
            self.master_waitq.notify(READABLE | P.POLLHUP)

    # Modes

    def change(self, new: Termios) -> None:
        """TCSETS and kin."""
        old = self.ldisc.termios
        new.cflag = new.cflag & ~(IO.CSIZE | IO.PARENB) | IO.CS8 | IO.CREAD
        self.ldisc.set_termios(new)
        if self.packet:
            self.tell_flow(old, new)
        self.pump()
        self.waitq.notify(READABLE | WRITABLE)

    def tell_flow(self, old: Termios, new: Termios) -> None:
        """Packet mode reports whether ^S and ^Q stop output at the terminal, and any change under EXTPROC."""
        was = old.iflag & IO.IXON and old.cc[IO.VSTOP] == 0x13 and old.cc[IO.VSTART] == 0x11
        is_now = new.iflag & IO.IXON and new.cc[IO.VSTOP] == 0x13 and new.cc[IO.VSTART] == 0x11
        if bool(was) != bool(is_now):
            self.status &= ~(PKT_DOSTOP | PKT_NOSTOP)
            self.tell(PKT_DOSTOP if is_now else PKT_NOSTOP)
        if (old.lflag | new.lflag) & IO.EXTPROC and old.pack() != new.pack():
            self.tell(PKT_IOCTL)

    def modes_ioctl(self, t: Task, cmd: int, arg: int) -> int | None:
        """Reading and setting termios, window size; either side may. None for other commands."""
        mm = t.mm
        termios = self.ldisc.termios
        if cmd == IO.TCGETS:
            mm.write(arg, termios.pack())
            return 0
        if cmd == IO.TIOCGWINSZ:
            mm.write(arg, self.winsize)
            return 0
        if cmd == IO.TIOCSWINSZ:
            self.resize(mm.read(arg, modes.WINSIZE.size))
            return 0
        if cmd == IO.TCGETS2:
            mm.write(arg, termios.pack2())
            return 0
        if cmd == IO.TCGETA:
            mm.write(arg, termios.pack_old())
            return 0
        if cmd in SETS or cmd in SETS2 or cmd in SETS_OLD:
            self.check_change(t, SIG.SIGTTOU)
            if cmd in SETS:
                new = modes.unpack(termios, mm.read(arg, modes.TERMIOS.size))
            elif cmd in SETS2:
                new = modes.unpack2(termios, mm.read(arg, modes.TERMIOS2.size))
            else:
                new = modes.unpack_old(termios, mm.read(arg, modes.TERMIO.size))
            if cmd in (IO.TCSETSF, IO.TCSETSF2, IO.TCSETAF):
                self.flush_typed()
            self.change(new)
            return 0
        if cmd == IO.TIOCGSOFTCAR:
            mm.write_u32(arg, int(bool(termios.cflag & IO.CLOCAL)))
            return 0
        if cmd == IO.TIOCSSOFTCAR:
            new = termios.copy()
            new.cflag = new.cflag & ~IO.CLOCAL | (IO.CLOCAL if mm.read_i32(arg) else 0)
            self.change(new)
            return 0
        if cmd == IO.TIOCOUTQ:
            mm.write_u32(arg, 0)  # what was written has reached the other side
            return 0
        return None

    def flush_typed(self) -> None:
        """TCIFLUSH at the terminal."""
        self.ldisc.flush_input()
        self.staged = bytearray()
        self.tell(PKT_FLUSHREAD)
        self.master_waitq.notify(WRITABLE)

    def flush_shown(self) -> None:
        """TCOFLUSH at the terminal."""
        self.out = bytearray()
        self.tell(PKT_FLUSHWRITE)
        self.waitq.notify(WRITABLE)

    def flow(self, action: int) -> None:
        """TCXONC."""
        ldisc = self.ldisc
        if action == IO.TCOOFF:
            if not ldisc.output_off:
                ldisc.output_off = True
                self.flow_changed(True)
        elif action == IO.TCOON:
            if ldisc.output_off:
                ldisc.output_off = False
                if not ldisc.stopped:
                    self.flow_changed(False)
        elif action in (IO.TCIOFF, IO.TCION):
            c = ldisc.termios.cc[IO.VSTOP if action == IO.TCIOFF else IO.VSTART]
            if c:
                self.out.append(c)
                self.master_waitq.notify(READABLE)
        else:
            raise Errno(E.EINVAL)


class PtySlave(File):
    """An open terminal device."""

    def __init__(self, pty: Pty, flags: int, path: Path, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.pty: Pty = pty
        self.waitq = pty.waitq
        self.hangups: int = pty.hangups
        self.timer: Timer | None = None  # a VTIME that runs
        self.timed_out: bool = False
        pty.slaves += 1
        pty.was_opened = True
        pty.master_waitq.notify(WRITABLE)

    @property
    def hung(self) -> bool:
        return self.hangups != self.pty.hangups

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        pty = self.pty
        if self.hung:
            return b""
        pty.check_change(t, SIG.SIGTTIN)
        ldisc = pty.ldisc
        if count == 0:
            return b""
        if ldisc.canonical:
            if not ldisc.marks:
                return None
        elif not self.enough(t, count):
            return None
        data = ldisc.take(count)
        if pty.staged:
            pty.pump()
        return data

    def enough(self, t: Task, count: int) -> bool:
        """Raw mode: do VMIN and VTIME let a read return now? Starts the timer that VTIME asks for (termios(3))."""
        ldisc = self.pty.ldisc
        have = len(ldisc.buf)
        least = min(ldisc.termios.cc[IO.VMIN], count)
        wait = ldisc.termios.cc[IO.VTIME] * TENTH
        if wait == 0 or have >= max(least, 1):
            done = have >= least
        elif self.timed_out:
            done = True
        elif least == 0:
            done = False
            self.start_timer(t, clock.monotonic() + wait)
        else:
            done = False
            if have:
                self.start_timer(t, self.pty.last_typed + wait)
        if done:
            self.stop_timer()
        return done

    def start_timer(self, t: Task, deadline: int) -> None:
        if self.nonblocking:
            return
        if self.timer is not None:
            if self.timer.callback is not None and self.timer.deadline >= deadline:
                return
            self.timer.cancel()
        self.timer = t.kernel.timers.at(deadline, self.time_out)

    def stop_timer(self) -> None:
        self.timed_out = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def time_out(self) -> None:
        self.timer = None
        self.timed_out = True
        self.waitq.notify(READABLE)

    def write(self, t: Task, data: bytes, offset: int) -> int:
        pty = self.pty
        if self.hung:
            raise Errno(E.EIO)
        if pty.ldisc.termios.lflag & IO.TOSTOP:
            pty.check_change(t, SIG.SIGTTOU)
        if not data:
            return 0
        n = pty.show(data)
        return n if n else WOULD_BLOCK

    def poll(self) -> int:
        if self.hung:
            return READABLE | WRITABLE | P.POLLHUP | P.POLLERR
        events = READABLE if self.pty.ldisc.readable() else 0
        if self.pty.can_show():
            events |= WRITABLE
        return events

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        pty = self.pty
        if self.hung:
            raise Errno(E.ENOTTY if cmd == IO.TIOCSPGRP else E.EIO)
        done = pty.modes_ioctl(t, cmd, arg)
        if done is None:
            done = pty.job_ioctl(t, cmd, arg, self.readable, False)
        if done is not None:
            return done
        if cmd == IO.FIONREAD:
            t.mm.write_u32(arg, pty.ldisc.available())
            return 0
        if cmd == IO.TCFLSH:
            if arg > IO.TCIOFLUSH:
                raise Errno(E.EINVAL)
            pty.check_change(t, SIG.SIGTTOU)
            if arg != IO.TCOFLUSH:
                pty.flush_typed()
            if arg != IO.TCIFLUSH:
                pty.flush_shown()
            return 0
        if cmd == IO.TCXONC:
            pty.check_change(t, SIG.SIGTTOU)
            pty.flow(arg)
            return 0
        if cmd == IO.TCSBRK or cmd == IO.TCSBRKP:
            pty.check_change(t, SIG.SIGTTOU)
            return 0  # nothing waits to be sent, and a pseudo terminal has no line to break
        raise Errno(E.ENOTTY)

    def mapping(self, t: Task) -> None:
        return None

    def release(self) -> None:
        self.stop_timer()
        self.pty.close_slave()


class PtyMaster(File):
    """The side of the terminal emulator."""

    def __init__(self, pty: Pty, flags: int, path: Path, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.pty: Pty = pty
        self.waitq = pty.master_waitq

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        pty = self.pty
        if count == 0:
            return b""
        if pty.packet:
            if pty.status:
                status = pty.status
                pty.status = 0
                return bytes([status])
            if pty.out:
                return b"\0" + pty.seen(count - 1)
        elif pty.out:
            return pty.seen(count)
        if pty.slaves == 0 and pty.was_opened:
            raise Errno(E.EIO)
        return None

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if not data:
            return 0
        n = self.pty.type(data)
        return n if n else WOULD_BLOCK

    def poll(self) -> int:
        pty = self.pty
        events = 0
        if pty.packet and pty.status:
            events = READABLE | P.POLLPRI
        elif pty.out:
            events = READABLE
        if pty.slaves == 0 and pty.was_opened:
            events |= P.POLLHUP
        if len(pty.staged) < STAGED:
            events |= WRITABLE
        return events

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        pty = self.pty
        mm = t.mm
        if cmd == IO.TIOCGPTN:
            mm.write_u32(arg, pty.index)
        elif cmd == IO.TIOCSPTLCK:
            pty.locked = mm.read_i32(arg) != 0
        elif cmd == IO.TIOCGPTLCK:
            mm.write_u32(arg, int(pty.locked))
        elif cmd == IO.TIOCGPTPEER:
            return self.open_peer(t, arg)
        elif cmd == IO.TIOCPKT:
            on = mm.read_i32(arg) != 0
            if on and not pty.packet:
                pty.status = 0
            pty.packet = on
        elif cmd == IO.TIOCGPKT:
            mm.write_u32(arg, int(pty.packet))
        elif cmd == IO.TIOCSIG:
            if not 1 <= arg <= signals.NSIG:
                raise Errno(E.EINVAL)
            pty.signal(arg)
        elif cmd == IO.FIONREAD:
            mm.write_u32(arg, len(pty.out))
        elif cmd == IO.TCFLSH:
            if arg > IO.TCIOFLUSH:
                raise Errno(E.EINVAL)
            if arg != IO.TCOFLUSH:
                pty.out = bytearray()
                pty.waitq.notify(WRITABLE)
            if arg != IO.TCIFLUSH:
                pty.staged = bytearray()
        elif cmd == IO.TIOCSCTTY:
            raise Errno(E.ENOTTY)
        else:
            done = pty.modes_ioctl(t, cmd, arg)
            if done is None:
                done = pty.job_ioctl(t, cmd, arg, self.readable, True)
            if done is None:
                raise Errno(E.ENOTTY)
            return done
        return 0

    def open_peer(self, t: Task, flags: int) -> int:
        """TIOCGPTPEER: a descriptor for the slave, whatever is mounted where."""
        pty = self.pty
        assert self.path is not None
        root = self.path.mount.root
        place = Path(self.path.mount, Dentry(b"%d" % pty.index, root, pty.node))
        kept = flags & (F.O_ACCMODE | F.O_NONBLOCK | F.O_NOCTTY)
        return install(t, pty.open_file(t, place, pty.node, kept), bool(flags & F.O_CLOEXEC))

    def mapping(self, t: Task) -> None:
        return None

    def release(self) -> None:
        self.pty.close_master()
