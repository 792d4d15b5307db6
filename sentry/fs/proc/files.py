"""A task's files in /proc: fd, fdinfo, cwd, root, exe, mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.anon import SHARED
from sentry.fs.generated import DynamicDir, GenFile, GenNode, GenOpenFile, GenSuper
from sentry.fs.proc.base import INO_SHIFT, TaskFile, TaskLink, TaskRef, may_inspect
from sentry.vfs import mounts as mounting
from sentry.vfs.attr import DirEntry
from sentry.vfs.mount import Path, anon_path
from sentry.vfs.special import major, minor
from sentry.vfs.walk import path_bytes

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.attr import Attr
    from sentry.vfs.file import File
    from sentry.vfs.mount import Mount
    from sentry.vfs.mounts import MountNamespace

FD_INO: Final = 0x10000
FDINFO_INO: Final = 0x50000
LINK_SIZE: Final = 64  # what Linux reports for every fd link


def file_path(file: File) -> Path:
    """Where a descriptor's link leads; files without a path get one outside all trees."""
    if file.path is not None:
        return file.path
    return anon_path(file.inode if file.inode is not None else SHARED, file.describe())


def file_label(t: Task, file: File) -> bytes:
    if file.path is not None:
        return path_bytes(file.path, t.fs.root)
    return file.describe()


class FdLink(TaskLink):
    """/proc/PID/fd/N; its permission bits say how the file was opened."""

    def __init__(self, sb: GenSuper, ref: TaskRef, fd: int, file: File) -> None:
        mode = 0
        if file.readable or file.flags & F.O_PATH:
            mode |= 0o500
        if file.writable:
            mode |= 0o300
        super().__init__(sb, ref, FD_INO + fd, mode)
        self.fd: int = fd

    def getattr(self) -> Attr:
        attr = super().getattr()
        attr.size = LINK_SIZE
        return attr

    def file(self, t: Task) -> File:
        other = self.target(t)
        if not other.alive:
            raise Errno(E.ENOENT)
        try:
            return other.fds.get(self.fd)
        except Errno:
            raise Errno(E.ENOENT) from None

    def goal(self, t: Task) -> Path:
        return file_path(self.file(t))

    def label(self, t: Task) -> bytes:
        return file_label(t, self.file(t))


class FdInfo(GenFile):
    """/proc/PID/fdinfo/N."""

    def __init__(self, sb: GenSuper, ref: TaskRef, fd: int) -> None:
        super().__init__(sb, 0o400, None, None, ref.tid << INO_SHIFT | (FDINFO_INO + fd))
        self.ref: TaskRef = ref
        self.fd: int = fd

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(False)

    def text(self, t: Task) -> bytes:
        other = self.ref.get()
        if not may_inspect(t, other):
            raise Errno(E.EACCES)
        if not other.alive:
            raise Errno(E.ENOENT)
        try:
            file = other.fds.get(self.fd)
            cloexec = other.fds.cloexec(self.fd)
        except Errno:
            raise Errno(E.ENOENT) from None
        flags = file.flags | (F.O_CLOEXEC if cloexec else 0)
        ident = file.path.mount.ident if file.path is not None else 0
        ino = file.inode.getattr().ino if file.inode is not None else SHARED.attr.ino
        head = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (file.pos, flags, ident, ino)
        return head + file.fdinfo()


class FdDir(DynamicDir):
    """/proc/PID/fd or fdinfo: an entry for each open descriptor."""

    def __init__(self, sb: GenSuper, ref: TaskRef, kind: int, info: bool) -> None:
        super().__init__(sb, 0o555 if info else 0o500, ref.tid << INO_SHIFT | kind)
        self.ref: TaskRef = ref
        self.info: bool = info

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(self.info)

    def getattr(self) -> Attr:
        attr = super().getattr()
        t = self.ref.find()
        if not self.info and t is not None and t.alive:
            attr.size = len(t.fds.fds())  # since Linux 6.2
        return attr

    def find(self, name: bytes) -> GenNode | None:
        t = self.ref.find()
        if t is None or not t.alive or not name.isdigit() or len(name) > 9:
            return None
        fd = int(name)
        if name != b"%d" % fd:
            return None
        file = t.fds.find(fd)
        if file is None:
            return None
        if self.info:
            return FdInfo(self.fs, self.ref, fd)
        return FdLink(self.fs, self.ref, fd, file)

    def entries(self) -> list[DirEntry]:
        t = self.ref.find()
        if t is None or not t.alive:
            return []
        kind = (S.S_IFREG if self.info else S.S_IFLNK) >> 12
        first = FDINFO_INO if self.info else FD_INO
        return [DirEntry(b"%d" % fd, self.ref.tid << INO_SHIFT | (first + fd), kind) for fd in t.fds.fds()]


class CwdLink(TaskLink):
    """/proc/PID/cwd and root."""

    def __init__(self, sb: GenSuper, ref: TaskRef, kind: int, root: bool) -> None:
        super().__init__(sb, ref, kind)
        self.root: bool = root

    def goal(self, t: Task) -> Path:
        other = self.target(t)
        if not other.alive:
            raise Errno(E.ENOENT)
        return other.fs.root if self.root else other.fs.cwd

    def label(self, t: Task) -> bytes:
        return path_bytes(self.goal(t), t.fs.root)


class ExeLink(TaskLink):
    """/proc/PID/exe."""

    def goal(self, t: Task) -> Path:
        other = self.target(t)
        exe = other.mm.exe if other.alive else None
        if exe is None or exe.path is None:
            raise Errno(E.ENOENT)
        return exe.path

    def label(self, t: Task) -> bytes:
        return path_bytes(self.goal(t), t.fs.root)


# Mounts


def escape(text: bytes) -> bytes:
    """Spaces and kin as octal (getmntent(3))."""
    return text.replace(b"\\", b"\\134").replace(b" ", b"\\040").replace(b"\t", b"\\011").replace(b"\n", b"\\012")


def visible_mounts(t: Task) -> list[tuple[Mount, bytes]]:
    """The mounts a task can reach from its root, with the place of each."""
    if not t.alive:
        raise Errno(E.EINVAL)
    root = t.fs.root
    ns = root.mount.ns
    found: list[tuple[Mount, bytes]] = []
    if ns is None:
        return found
    for m in ns.mounts:
        place = path_bytes(Path(m, m.root), root)
        if place.startswith(b"/") or m is root.mount:
            found.append((m, place if place.startswith(b"/") else b"/"))
    return found


def inner_root(m: Mount) -> bytes:
    """The part of its file system that a mount shows."""
    names: list[bytes] = []
    d = m.root
    while d.parent is not None:
        names.append(d.name)
        d = d.parent
    return b"/" + b"/".join(reversed(names))


def mounts(reader: Task, t: Task) -> bytes:
    lines = []
    for m, place in visible_mounts(t):
        line = (escape(m.sb.source), escape(place), m.sb.fstype, escape(mounting.options(m)))
        lines.append(b"%s %s %s %s 0 0\n" % line)
    return b"".join(lines)


def mountinfo(reader: Task, t: Task) -> bytes:
    lines = []
    for m, place in visible_mounts(t):
        sb = m.sb
        parent = m.parent.ident if m.parent is not None else m.ident
        options = b"ro" if sb.readonly else b"rw"
        if sb.options:
            options += b"," + sb.options
        head = (m.ident, parent, major(sb.dev), minor(sb.dev), escape(inner_root(m)), escape(place))
        tail = (mounting.options(m, False), sb.fstype, escape(sb.source), escape(options))
        lines.append(b"%d %d %d:%d %s %s " % head + b"%s - %s %s %s\n" % tail)
    return b"".join(lines)


class MountsNode(TaskFile):
    """mounts, mountinfo, mountstats: a poll(2) says POLLERR | POLLPRI once after each change (proc(5))."""

    def open(self, t: Task, path: Path, flags: int) -> File:
        self.check_open(t, flags)
        subject = self.ref.find()
        ns = subject.fs.root.mount.ns if subject is not None and subject.alive else None
        if ns is None:
            raise Errno(E.EINVAL)
        return MountsFile(flags, path, self, ns)


class MountsFile(GenOpenFile):
    def __init__(self, flags: int, path: Path, node: MountsNode, ns: MountNamespace) -> None:
        super().__init__(flags, path, node)
        self.ns: MountNamespace = ns
        self.seen: int = ns.event
        self.waitq = ns.watchers

    def poll(self) -> int:
        ready = P.POLLIN | P.POLLRDNORM
        if self.seen != self.ns.event:
            self.seen = self.ns.event
            ready |= P.POLLERR | P.POLLPRI
        return ready


def mountstats(reader: Task, t: Task) -> bytes:
    return b"".join(
        b"device %s mounted on %s with fstype %s\n" % (escape(m.sb.source), escape(place), m.sb.fstype)
        for m, place in visible_mounts(t)
    )
