"""Terminal devices by number: /dev/tty, /dev/console, /dev/ptmx and the terminals of devpts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.fs import devpts
from sentry.fs.tty.pty import PTS_MAJOR
from sentry.fs.tty.terminal import terminal_of
from sentry.vfs import special

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

TTY_MINOR: Final = 0
CONSOLE_MINOR: Final = 1
PTS_MAJORS: Final = 8


def open_tty(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """/dev/tty: the controlling terminal; ENXIO without one."""
    tty = terminal_of(t)
    if tty is None:
        raise Errno(E.ENXIO)
    return tty.open_file(t, path, inode, flags)


def open_console(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """/dev/console: the terminal that the sandbox was given; ENODEV without one."""
    console = t.container.console
    if console is None:
        raise Errno(E.ENODEV)
    return console.open_file(t, path, inode, flags)


def register() -> None:
    special.DRIVERS.register_char(devpts.TTY_AUX_MAJOR, TTY_MINOR, open_tty)
    special.DRIVERS.register_char(devpts.TTY_AUX_MAJOR, CONSOLE_MINOR, open_console)
    special.DRIVERS.register_char(devpts.TTY_AUX_MAJOR, devpts.PTMX_MINOR, devpts.open_ptmx)
    for i in range(PTS_MAJORS):
        special.DRIVERS.register_major(PTS_MAJOR + i, devpts.open_pts)
