"""Makes processes that are asked for from outside, a container's init or an exec, out of their spec."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sentry import tree
from sentry.abi import fcntl as F
from sentry.errors import Errno, SandboxError
from sentry.fs import devpts, hostfile
from sentry.fs.tty.bridge import Bridge
from sentry.fs.tty.pty import Pty, PtySlave
from sentry.fs.tty.termios import WINSIZE
from sentry.kernel.creds import Creds
from sentry.kernel.kernel import Start
from sentry.kernel.limits import Limits
from sentry.vfs import walk
from sentry.vfs.fdtable import FDTable
from sentry.vfs.mount import Dentry, FSContext, Mount, Path
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.container import Container, Record
    from sentry.kernel.task import Task
    from sentry.spec import ProcessSpec

NO_LIMIT: Final = 1 << 20  # of descriptors that a process is started with


def credentials(p: ProcessSpec) -> Creds:
    """Who the process is. The capability sets are those before its program is executed, which then may lower them."""
    creds = Creds(p.uid, p.gid, p.groups)
    caps = p.capabilities
    if caps is not None:
        creds.bounding = caps["bounding"]
        creds.permitted = caps["permitted"]
        creds.effective = caps["effective"] & caps["permitted"]
        creds.inheritable = caps["inheritable"]
        creds.ambient = caps["ambient"] & caps["permitted"] & caps["inheritable"]
    creds.no_new_privs = p.no_new_privs
    return creds


def limits_of(p: ProcessSpec) -> Limits:
    limits = Limits()
    for name, (soft, hard) in p.limits.items():
        limits.set_by_name(name, soft, hard)
    return limits


def build(container: Container, p: ProcessSpec, init: bool) -> Task:
    """The process, loaded and ready to run. SandboxError, with status 127 or 126 for its executable."""
    kernel = container.kernel
    root = container.root
    assert root is not None
    creds = credentials(p)
    limits = limits_of(p)
    if init and container.ident:
        tree.make_directory(root, p.cwd)
    cwd = tree.working_directory(root, p.cwd)
    program = tree.find_program(root, cwd, creds, p.program or p.args[0], p.env)
    fds = FDTable()
    start = Start(program, p.args, p.env, FSContext(root, cwd, p.umask), fds, creds, limits)
    start.oom_score_adj = p.oom_score_adj
    pty: Pty | None = None
    if p.terminal:
        pty = terminal(container, p, fds)
    else:
        for fd in p.stdio:
            fds.install(hostfile.new(container, fd, tree.console(root)), False, NO_LIMIT)
    for fd in p.preserve:
        fds.install(hostfile.new(container, fd), False, NO_LIMIT)
    try:
        t = kernel.load(container, start, init)
    except BaseException as e:
        if pty is not None and pty.bridge is not None:
            pty.bridge.finish()
        if isinstance(e, Errno):
            raise SandboxError(
                f"{tree.show(p.args[0])}: {os.strerror(e.errno).lower()}", tree.status_of(e.errno)
            ) from None
        raise
    console: TTY | None = pty
    if init:
        if pty is not None:
            container.console = pty
        console = container.console
    if console is not None:
        console.attach(t.tg.pgrp.session, t.tg.pgrp)
    if pty is not None and pty.bridge is not None and t.tg.record is not None:
        t.tg.record.waiters.append(Hanging(pty.bridge).ended)
    return t


class Hanging:
    """A terminal whose process will end."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge: Bridge = bridge

    def ended(self, record: Record) -> None:
        self.bridge.finish()


def terminal(container: Container, p: ProcessSpec, fds: FDTable) -> Pty:
    """A new terminal of the container, connected with the host's, as descriptors 0, 1 and 2."""
    place = devpts_of(container)
    sb = place.inode.sb
    assert isinstance(sb, devpts.DevptsSuper)
    pty = sb.new_pty(p.uid, p.gid)
    pty.locked = False
    where = Path(place.mount, Dentry(b"%d" % pty.index, place.dentry, pty.node))
    file = PtySlave(pty, F.O_RDWR, where, pty.node)
    for _ in range(3):
        fds.install(file, False, NO_LIMIT)
    pty.bridge = Bridge(container.kernel, p.stdio[0], pty)
    if p.rows and p.columns:
        pty.resize(WINSIZE.pack(p.rows, p.columns, 0, 0))
    return pty


def devpts_of(container: Container) -> Path:
    """The root of the container's devpts; a hidden one if it has none at /dev/pts."""
    root = container.root
    assert root is not None
    try:
        place = walk.kernel_resolve(root, b"/dev/pts")
        if isinstance(place.inode.sb, devpts.DevptsSuper):
            return place
    except Errno:
        pass
    hidden = devpts.new(container.kernel, anon_dev())
    return Path(Mount(hidden.sb, Dentry(b"", None, hidden), 0), Dentry(b"", None, hidden))
