"""/proc/PID/ns: the namespaces of a task (namespaces(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IO
from sentry.abi import resource as R
from sentry.abi import sched as SCHED
from sentry.abi import stat as S
from sentry.abi import statfs as SF
from sentry.errors import Errno
from sentry.fs.anon import AnonInode, AnonSuper
from sentry.fs.generated import GenSuper
from sentry.fs.proc.base import TaskDir, TaskLink, TaskRef
from sentry.kernel.creds import Creds
from sentry.vfs.file import File
from sentry.vfs.mount import Path, anon_path
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.kernel import UTSNamespace
    from sentry.kernel.task import Task
    from sentry.vfs.mounts import MountNamespace

# Name, CLONE_NEW* bit, inode number of the initial one (include/linux/proc_ns.h).
KINDS: Final = (
    (b"cgroup", SCHED.CLONE_NEWCGROUP, 0xEFFFFFFB),
    (b"ipc", SCHED.CLONE_NEWIPC, 0xEFFFFFFF),
    (b"mnt", SCHED.CLONE_NEWNS, 0xF0000001),
    (b"net", SCHED.CLONE_NEWNET, 0xF0000000),
    (b"pid", SCHED.CLONE_NEWPID, 0xEFFFFFFC),
    (b"pid_for_children", SCHED.CLONE_NEWPID, 0xEFFFFFFC),
    (b"time", SCHED.CLONE_NEWTIME, 0xEFFFFFFA),
    (b"time_for_children", SCHED.CLONE_NEWTIME, 0xEFFFFFFA),
    (b"user", SCHED.CLONE_NEWUSER, 0xEFFFFFFD),
    (b"uts", SCHED.CLONE_NEWUTS, 0xEFFFFFFE),
)
LATER: Final = 0xF0000010  # numbers of namespaces that are made later start here, a range for each kind
NSFS: Final = AnonSuper(b"nsfs", anon_dev(), SF.NSFS_MAGIC)
ROOT: Final = Creds(0, 0, [])


class NamespaceInode(AnonInode):
    """A namespace as a file: two of the same number are the same one."""

    def __init__(self, ino: int, t: Task, kind: int) -> None:
        super().__init__(NSFS, S.S_IFREG | 0o444, ROOT)
        self.attr.ino = ino
        self.kind: int = kind
        self.uts: UTSNamespace = t.uts
        self.mounts: MountNamespace | None = t.fs.root.mount.ns

    def open(self, t: Task, path: Path, flags: int) -> File:
        return NamespaceFile(flags, path, self)


class NamespaceFile(File):
    """For setns(2) and ioctl_ns(2): `node` says kind (CLONE_NEW*) and object."""

    def __init__(self, flags: int, path: Path, node: NamespaceInode) -> None:
        super().__init__(flags, path, node)
        self.node: NamespaceInode = node

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        """There is one user namespace, which owns all others; nobody sees what is above that and the pid namespace."""
        kind = self.node.kind
        if cmd == IO.NS_GET_NSTYPE:
            return kind
        if cmd == IO.NS_GET_PARENT:
            raise Errno(E.EPERM if kind in (SCHED.CLONE_NEWPID, SCHED.CLONE_NEWUSER) else E.EINVAL)
        if cmd == IO.NS_GET_USERNS:
            if kind == SCHED.CLONE_NEWUSER:
                raise Errno(E.EPERM)
            return t.fds.install(user_namespace(t), True, t.tg.limits.soft(R.RLIMIT_NOFILE))
        if cmd == IO.NS_GET_OWNER_UID:
            if kind != SCHED.CLONE_NEWUSER:
                raise Errno(E.EINVAL)
            t.mm.write_u32(arg, ROOT.euid)
            return 0
        raise Errno(E.ENOTTY)


def user_namespace(t: Task) -> File:
    for name, kind, number in KINDS:
        if kind == SCHED.CLONE_NEWUSER:
            node = NamespaceInode(number, t, kind)
            return node.open(t, anon_path(node, b"%s:[%d]" % (name, number)), F.O_RDONLY)
    raise AssertionError


class NamespaceLink(TaskLink):
    def __init__(self, sb: GenSuper, ref: TaskRef, ino: int, name: bytes, kind: int, initial: int) -> None:
        super().__init__(sb, ref, ino)
        self.name: bytes = name.removesuffix(b"_for_children")
        self.kind: int = kind
        self.initial: int = initial

    def number(self, t: Task) -> int:
        ident = 0
        if self.kind == SCHED.CLONE_NEWUTS:
            ident = t.uts.ident
        elif self.kind == SCHED.CLONE_NEWPID:
            ident = t.pidns.ident
        elif self.kind == SCHED.CLONE_NEWIPC:
            ident = t.container.ipc.ident
        elif self.kind == SCHED.CLONE_NEWNS:
            ns = t.fs.root.mount.ns
            init = t.kernel.init
            first = init.main.fs.root.mount.ns if init is not None else ns
            if ns is not None and ns.root is not None and ns is not first:
                ident = ns.root.ident
        return LATER + 16 * ident + self.kind.bit_length() % 16 if ident else self.initial

    def goal(self, t: Task) -> Path:
        other = self.target(t)
        number = self.number(other)
        return anon_path(NamespaceInode(number, other, self.kind), b"%s:[%d]" % (self.name, number))

    def label(self, t: Task) -> bytes:
        return b"%s:[%d]" % (self.name, self.number(self.target(t)))


def directory(sb: GenSuper, ref: TaskRef, kind: int) -> TaskDir:
    d = TaskDir(sb, ref, kind, 0o511)
    for i, (name, bit, initial) in enumerate(KINDS):
        d.add(name, NamespaceLink(sb, ref, kind + 1 + i, name, bit, initial))
    return d
