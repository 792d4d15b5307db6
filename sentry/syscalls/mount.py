"""mount(2), umount2(2), pivot_root(2), mount_setattr(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.errors import Errno
from sentry.fs import tmpfs
from sentry.syscalls.system import memory_total
from sentry.vfs import walk
from sentry.vfs.inode import Inode
from sentry.vfs.mount import FSContext, Mount, Path
from sentry.vfs.mounts import PER_MOUNT, MountNamespace, remount
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.task import Task

UMOUNT_NOFOLLOW: Final = 8
PROPAGATION: Final = M.MS_SHARED | M.MS_PRIVATE | M.MS_SLAVE | M.MS_UNBINDABLE
PAGE: Final = 4096
MOUNT_ATTR: Final = struct.Struct("<QQQQ")  # attr_set, attr_clr, propagation, userns_fd
ATTR_FLAGS: Final = {
    M.MOUNT_ATTR_RDONLY: M.MS_RDONLY,
    M.MOUNT_ATTR_NOSUID: M.MS_NOSUID,
    M.MOUNT_ATTR_NODEV: M.MS_NODEV,
    M.MOUNT_ATTR_NOEXEC: M.MS_NOEXEC,
    M.MOUNT_ATTR_NODIRATIME: M.MS_NODIRATIME,
    M.MOUNT_ATTR_NOSYMFOLLOW: M.MS_NOSYMFOLLOW,
}


def namespace(t: Task) -> MountNamespace:
    """The mount namespace that the task sees, if it may change it."""
    if not t.creds.has(C.CAP_SYS_ADMIN):
        raise Errno(E.EPERM)
    ns = t.fs.root.mount.ns
    if ns is None:
        raise Errno(E.EINVAL)
    return ns


def text(t: Task, addr: int) -> bytes:
    """A string argument of mount(2), which may be a null pointer."""
    return t.mm.read_cstr(addr, PAGE) if addr else b""


def new_root(t: Task, fstype: bytes, data: bytes) -> Inode:
    """The root of a new file system; ENODEV for a type that is not there."""
    kernel = t.kernel
    if fstype == b"tmpfs" or fstype == b"ramfs":
        return tmpfs.new(
            anon_dev(), tmpfs.MountOptions(data if fstype == b"tmpfs" else b"", memory_total(kernel))
        )
    if fstype == b"proc":
        from sentry.fs import proc

        return proc.new(kernel, t.pidns, anon_dev())
    if fstype == b"sysfs":
        from sentry.fs import sysfs

        return sysfs.new(kernel, anon_dev())
    if fstype == b"devtmpfs":
        from sentry.fs import dev

        return dev.new(anon_dev())
    if fstype == b"devpts":
        from sentry.fs import devpts

        return devpts.new(kernel, anon_dev())
    raise Errno(E.ENODEV)


def mount(t: Task, source: int, target: int, fstype: int, flags: int, data: int) -> int:
    """mount(2): new file systems, bind, move, remount. All mounts are private: other propagation is refused."""
    place = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(target), walk.FOLLOW)
    ns = namespace(t)
    if flags & M.MS_MGC_MSK == M.MS_MGC_VAL:
        flags &= ~M.MS_MGC_MSK
    here = place.mount
    if flags & M.MS_REMOUNT:
        if place.dentry is not here.root:
            raise Errno(E.EINVAL)
        remount(here, flags, bool(flags & M.MS_BIND))
        tell_files(t, here)
        ns.changed()
    elif flags & M.MS_BIND:
        name = t.mm.read_path(source)
        ns.bind(walk.resolve(t, F.AT_FDCWD, name, walk.FOLLOW), place, bool(flags & M.MS_REC))
    elif flags & PROPAGATION:
        set_propagation(flags, place)
    elif flags & M.MS_MOVE:
        moved = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(source), walk.FOLLOW)
        if moved.dentry is not moved.mount.root:
            raise Errno(E.EINVAL)
        ns.move(moved.mount, place)
    else:
        kind = text(t, fstype)
        root = new_root(t, kind, text(t, data))
        name = text(t, source)
        if name:
            root.sb.source = name
        made = ns.mount(root.sb, root, place, flags & PER_MOUNT)
        if not flags & (M.MS_NOATIME | M.MS_STRICTATIME):
            made.flags |= M.MS_RELATIME
    return 0


def set_propagation(flags: int, place: Path) -> None:
    """Private is what every mount is, and a slave without a master is private as well (mount_namespaces(7))."""
    kind = flags & PROPAGATION
    if flags & ~(PROPAGATION | M.MS_REC | M.MS_SILENT) or kind not in (M.MS_PRIVATE, M.MS_SLAVE):
        raise Errno(E.EINVAL)
    if place.dentry is not place.mount.root:
        raise Errno(E.EINVAL)


def contexts(t: Task) -> list[FSContext]:
    return [task.fs for task in t.kernel.every_task() if task.alive]


def tell_files(t: Task, mount: Mount) -> None:
    """The mount's flags have changed, on which access times depend."""
    for task in t.kernel.every_task():
        if task.alive:
            for file in task.fds.files():
                if file.path is not None and file.path.mount is mount:
                    file.remirror()


class Users:
    """Who uses mounts: tasks by root and working directory, open files."""

    def __init__(self, t: Task) -> None:
        self.task: Task = t

    def busy(self, mount: Mount) -> bool:
        for task in self.task.kernel.every_task():
            if not task.alive:
                continue
            if task.fs.root.mount is mount or task.fs.cwd.mount is mount:
                return True
            for file in task.fds.files():
                if file.path is not None and file.path.mount is mount:
                    return True
        return False


def umount2(t: Task, target: int, flags: int) -> int:
    """umount2(2). MNT_EXPIRE is refused."""
    if flags & ~(M.MNT_FORCE | M.MNT_DETACH | M.MNT_EXPIRE | UMOUNT_NOFOLLOW) or flags & M.MNT_EXPIRE:
        raise Errno(E.EINVAL)
    place = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(target), 0 if flags & UMOUNT_NOFOLLOW else walk.FOLLOW)
    ns = namespace(t)
    if place.dentry is not place.mount.root:
        raise Errno(E.EINVAL)
    ns.umount(place.mount, bool(flags & M.MNT_DETACH), Users(t).busy)
    return 0


def pivot_root(t: Task, new: int, old: int) -> int:
    """pivot_root(2)"""
    ns = namespace(t)
    how = walk.FOLLOW | walk.DIRECTORY
    new_place = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(new), how)
    old_place = walk.resolve(t, F.AT_FDCWD, t.mm.read_path(old), how)
    ns.pivot_root(contexts(t), new_place, old_place)
    return 0


def mount_setattr(t: Task, dirfd: int, path: int, flags: int, attr: int, size: int) -> int:
    """mount_setattr(2). No idmapped mounts; propagation only private."""
    if flags & ~(F.AT_EMPTY_PATH | F.AT_RECURSIVE | F.AT_SYMLINK_NOFOLLOW | F.AT_NO_AUTOMOUNT):
        raise Errno(E.EINVAL)
    if size < M.MOUNT_ATTR_SIZE_VER0:
        raise Errno(E.EINVAL)
    if size > PAGE:
        raise Errno(E.E2BIG)
    ns = namespace(t)
    raw = t.mm.read(attr, size)
    if any(raw[MOUNT_ATTR.size :]):
        raise Errno(E.E2BIG)
    attr_set, attr_clr, propagation, _ = MOUNT_ATTR.unpack_from(raw)
    if propagation not in (0, M.MS_PRIVATE, M.MS_SLAVE):
        raise Errno(E.EINVAL)
    on, off = mount_flags(attr_set), mount_flags(attr_clr & ~M.MOUNT_ATTR__ATIME)
    atime = attr_set & M.MOUNT_ATTR__ATIME
    if atime and attr_clr & M.MOUNT_ATTR__ATIME != M.MOUNT_ATTR__ATIME:
        raise Errno(E.EINVAL)
    how = 0 if flags & F.AT_SYMLINK_NOFOLLOW else walk.FOLLOW
    if flags & F.AT_EMPTY_PATH:
        how |= walk.EMPTY
    place = walk.resolve(t, dirfd, t.mm.read_path(path), how)
    if place.dentry is not place.mount.root:
        raise Errno(E.EINVAL)
    for m in ns.below(place.mount) if flags & F.AT_RECURSIVE else [place.mount]:
        new = m.flags & ~off
        if attr_clr & M.MOUNT_ATTR__ATIME:
            new &= ~(M.MS_NOATIME | M.MS_RELATIME)
            if atime == M.MOUNT_ATTR_NOATIME:
                new |= M.MS_NOATIME
            elif atime == M.MOUNT_ATTR_RELATIME:
                new |= M.MS_RELATIME
        m.flags = new | on
        tell_files(t, m)
    ns.changed()
    return 0


def mount_flags(attr: int) -> int:
    out = 0
    for bit, flag in ATTR_FLAGS.items():
        if attr & bit:
            out |= flag
            attr &= ~bit
    if attr & ~M.MOUNT_ATTR__ATIME:
        raise Errno(E.EINVAL)
    return out
