"""unshare(2) and setns(2). There are UTS and mount namespaces; of the other kinds every task is in the one that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import sched as S
from sentry.errors import Errno
from sentry.fs.proc.namespaces import NamespaceFile
from sentry.kernel import clone as cloning
from sentry.kernel.pidfd import PidFile
from sentry.vfs.mount import Path

if TYPE_CHECKING:
    from sentry.kernel.kernel import UTSNamespace
    from sentry.kernel.task import Task
    from sentry.vfs.mounts import MountNamespace


def unshare(t: Task, flags: int) -> int:
    """unshare(2). Namespaces other than UTS and mount are refused as a kernel built without them does."""
    known = S.CLONE_THREAD | S.CLONE_FS | S.CLONE_VM | S.CLONE_SIGHAND | S.CLONE_FILES | S.CLONE_SYSVSEM
    if flags & ~(known | cloning.NAMESPACES):
        raise Errno(E.EINVAL)
    if flags & (S.CLONE_THREAD | S.CLONE_SIGHAND | S.CLONE_VM) and len(t.tg.tasks) > 1:
        raise Errno(E.EINVAL)
    if flags & (S.CLONE_SIGHAND | S.CLONE_VM) and (t.tg.actions.users > 1 or t.mm.users > 1):
        raise Errno(E.EINVAL)
    if flags & cloning.NAMESPACES:
        if not t.creds.has(CAP.CAP_SYS_ADMIN) and flags & cloning.NAMESPACES != S.CLONE_NEWUSER:
            raise Errno(E.EPERM)
        if flags & cloning.UNSUPPORTED:
            raise Errno(E.EINVAL)
    if flags & (S.CLONE_FS | S.CLONE_NEWNS) and t.fs.users > 1:
        t.fs.users -= 1
        t.use_fs(t.fs.copy())
    if flags & S.CLONE_NEWNS:
        cloning.new_mount_namespace(t.fs)
    if flags & S.CLONE_FILES and t.fds.users > 1:
        old = t.fds
        t.use_fds(old.copy())
        old.unref(t)
    if flags & S.CLONE_NEWUTS:
        t.uts = t.uts.copy()
    return 0


def setns(t: Task, fd: int, nstype: int) -> int:
    """setns(2), by a file of /proc/PID/ns or by a pidfd."""
    file = t.fds.get(fd)
    if isinstance(file, NamespaceFile):
        node = file.node
        if nstype not in (0, node.kind):
            raise Errno(E.EINVAL)
        may_enter(t, node.kind)
        enter(t, node.kind, node.uts, node.mounts)
        return 0
    if not isinstance(file, PidFile) or nstype == 0 or nstype & ~(cloning.NAMESPACES | S.CLONE_NEWTIME):
        raise Errno(E.EINVAL)
    other = file.tg.main
    if file.tg.dead or not other.alive:
        raise Errno(E.ESRCH)
    may_enter(t, nstype)
    enter(t, nstype, other.uts, other.fs.root.mount.ns)
    return 0


def may_enter(t: Task, kinds: int) -> None:
    """EPERM; EINVAL for the own user namespace and for what threads share; EUSERS."""
    if kinds & S.CLONE_NEWUSER:
        raise Errno(E.EINVAL)
    if not t.creds.has(CAP.CAP_SYS_ADMIN):
        raise Errno(E.EPERM)
    if kinds & S.CLONE_NEWNS:
        if not t.creds.has(CAP.CAP_SYS_CHROOT):
            raise Errno(E.EPERM)
        if t.fs.users > 1:
            raise Errno(E.EINVAL)
    if kinds & S.CLONE_NEWTIME and len(t.tg.tasks) > 1:
        raise Errno(E.EUSERS)


def enter(t: Task, kinds: int, uts: UTSNamespace, mounts: MountNamespace | None) -> None:
    if kinds & S.CLONE_NEWUTS:
        t.uts = uts
    if kinds & S.CLONE_NEWNS and mounts is not None and mounts is not t.fs.root.mount.ns:
        root = mounts.root
        if root is None:
            raise Errno(E.EINVAL)
        t.fs.set_root(Path(root, root.root))
        t.fs.set_cwd(Path(root, root.root))
