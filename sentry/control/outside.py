"""What reaches processes from outside the sandbox: signals, and the size of their terminal. With K held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import signal as SIG
from sentry.fs.tty.bridge import bridge_of
from sentry.fs.tty.host import HostTTY
from sentry.fs.tty.termios import WINSIZE
from sentry.kernel import exit as exiting
from sentry.kernel import signals, stop
from sentry.kernel.container import CREATED
from sentry.kernel.signals import SigInfo

if TYPE_CHECKING:
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.threadgroup import ThreadGroup


def kill(tg: ThreadGroup) -> None:
    """SIGKILL, which an init can't escape when it comes from outside."""
    if not tg.dead:
        if tg.record is not None and tg.record.init:
            tg.container.kill()
        else:
            exiting.kill_group(tg, SIG.SIGKILL)


def send(tg: ThreadGroup, sig: int) -> None:
    """A signal to a process, as kill(2) from the parent PID namespace sends it: SIGKILL and SIGSTOP reach an init, too."""
    if sig == 0 or tg.dead:
        return
    if sig == SIG.SIGKILL:
        kill(tg)
    elif sig == SIG.SIGSTOP and tg.tasks:
        stop.begin(tg.tasks[0], sig)
    else:
        signals.send_to_group(tg, SigInfo(sig))
        if tg.container.status == CREATED and tg.exiting:
            tg.container.kill()  # it has no host thread to notice by itself


def send_foreground(tg: ThreadGroup, sig: int) -> None:
    """To the foreground job of the process's terminal, or to the process if it has none."""
    tty = tg.pgrp.session.tty
    pg = tg.pgrp.session.foreground()
    if sig == SIG.SIGWINCH and tty is not None and bridge_of(tty) is not None:
        resize(tty, 0, 0)
    elif pg is None:
        send(tg, sig)
    else:
        for member in pg.members[:]:
            send(member, sig)


def resize(tty: TTY, rows: int, columns: int) -> None:
    """Sets the size of a terminal, or (0, 0) takes over what the host's has. The foreground job hears of a change."""
    bridge = bridge_of(tty)
    if rows and columns:
        size = WINSIZE.pack(rows, columns, 0, 0)
        if isinstance(tty, HostTTY):
            tty.set_size(size)
        else:
            tty.resize(size)
    elif bridge is not None:
        bridge.take_size()
    else:
        tty.signal(SIG.SIGWINCH)
