"""Makes processes that are asked for from outside, a container's init or an exec, out of their spec."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sentry import tree
from sentry.errors import Errno, SandboxError
from sentry.fs import hostfile
from sentry.kernel.creds import Creds
from sentry.kernel.kernel import Start
from sentry.kernel.limits import Limits
from sentry.vfs.fdtable import FDTable
from sentry.vfs.mount import FSContext

if TYPE_CHECKING:
    from sentry.kernel.container import Container
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
    cwd = tree.working_directory(root, p.cwd)
    program = tree.find_program(root, cwd, creds, p.args[0], p.env)
    fds = FDTable()
    start = Start(program, p.args, p.env, FSContext(root, cwd, p.umask), fds, creds, limits)
    start.oom_score_adj = p.oom_score_adj
    for fd in [*p.stdio, *p.preserve]:
        fds.install(hostfile.new(container, fd, tree.console(root)), False, NO_LIMIT)
    try:
        t = kernel.load(container, start, init)
    except Errno as e:
        raise SandboxError(
            f"{tree.show(p.args[0])}: {os.strerror(e.errno).lower()}", tree.status_of(e.errno)
        ) from None
    terminal = container.console
    if terminal is not None and init:
        terminal.attach(t.tg.pgrp.session, t.tg.pgrp)
    return t
