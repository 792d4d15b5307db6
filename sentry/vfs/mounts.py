"""Mount namespaces: attaching, moving and detaching mounts (mount(2), umount2(2), pivot_root(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import mount as M
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.kernel.wait import WaitQueue
from sentry.vfs import namei
from sentry.vfs.dcache import CACHE
from sentry.vfs.inode import Inode, SuperBlock
from sentry.vfs.mount import Dentry, FSContext, Mount, Path

if TYPE_CHECKING:
    from collections.abc import Callable

# Flags that a mount of its own has; MS_RDONLY both of a mount and, at first mounting, of the super block.
PER_MOUNT: Final = (
    M.MS_RDONLY
    | M.MS_NOSUID
    | M.MS_NODEV
    | M.MS_NOEXEC
    | M.MS_NOATIME
    | M.MS_NODIRATIME
    | M.MS_RELATIME
    | M.MS_NOSYMFOLLOW
)
MAX_MOUNTS: Final = 10_000


class MountNamespace:
    """A tree of mounts. `mounts` is in the order of /proc/PID/mounts."""

    def __init__(self) -> None:
        self.mounts: list[Mount] = []
        self.root: Mount | None = None
        self.event: int = 0  # grows with every change
        self.watchers: WaitQueue = WaitQueue()  # who polls /proc/PID/mounts

    def changed(self) -> None:
        self.event += 1
        self.watchers.notify(P.POLLPRI | P.POLLERR)
        lib.cn_names_changed()

    def adopt(self, mount: Mount) -> None:
        if len(self.mounts) >= MAX_MOUNTS:
            raise Errno(E.ENOSPC)
        mount.ns = self
        if mount.ident == 0:
            mount.ident = IDENTS.take()
        self.mounts.append(mount)
        self.changed()

    def set_root(self, sb: SuperBlock, root: Inode, flags: int) -> Path:
        """Makes a super block the root of the namespace."""
        mount = Mount(sb, Dentry(b"", None, root), flags)
        self.adopt(mount)
        self.root = mount
        return Path(mount, mount.root)

    def mount(self, sb: SuperBlock, root: Inode, at: Path, flags: int) -> Mount:
        """Mounts a new super block on a directory (or, if its root is none, on a file)."""
        mount = Mount(sb, Dentry(b"", None, root), flags)
        self.attach(mount, at)
        return mount

    def attach(self, mount: Mount, at: Path) -> None:
        """Attaches a detached mount; what is mounted there already is covered (`at` is what a walk to the place gives)."""
        point = at.dentry
        inode = at.inode
        root = mount.root.inode
        assert root is not None
        if namei.is_dir(root) != namei.is_dir(inode):
            raise Errno(E.ENOTDIR)
        if point.deleted:
            raise Errno(E.ENOENT)
        if mount.ns is None:
            self.adopt(mount)
        mount.parent = at.mount
        mount.point = point
        if point.mounts is None:
            point.mounts = [mount]
            pin(point)
        else:
            point.mounts.append(mount)
        self.changed()

    def detach(self, mount: Mount) -> None:
        """Takes a mount out of its place; it stays in the namespace."""
        point = mount.point
        if point is not None and point.mounts is not None:
            point.mounts.remove(mount)
            if not point.mounts:
                point.mounts = None
        mount.parent = None
        mount.point = None
        self.changed()

    def remove(self, mount: Mount) -> None:
        """Detaches a mount and forgets it."""
        self.detach(mount)
        if mount in self.mounts:
            self.mounts.remove(mount)
        mount.ns = None

    def below(self, mount: Mount) -> list[Mount]:
        """The mount and all that are attached below it, parents first."""
        found = [mount]
        for m in found:
            found.extend(c for c in self.mounts if c.parent is m)
        return found

    def bind(self, source: Path, at: Path, recursive: bool) -> None:
        """mount --bind: the tree at `source` appears at `at` as well."""
        top = clone_mount(source.mount, source.dentry)
        copies: list[tuple[Mount, Mount]] = [(source.mount, top)]
        if recursive:
            for m in self.below(source.mount)[1:]:
                for original, _copy in copies:
                    if (
                        m.parent is original
                        and m.point is not None
                        and (original is not source.mount or namei.below(m.point, source.dentry))
                    ):
                        copies.append((m, clone_mount(m, m.root)))
                        break
        self.attach(top, at)
        made = dict_of(copies)
        for original, copy in copies[1:]:
            assert original.parent is not None and original.point is not None
            self.attach(copy, Path(made[original.parent.ident], original.point))

    def move(self, mount: Mount, at: Path) -> None:
        """mount --move."""
        if mount.parent is None:
            raise Errno(E.EINVAL)
        m: Mount | None = at.mount
        while m is not None:
            if m is mount:
                raise Errno(E.ELOOP)
            m = m.parent
        if namei.is_dir(Path(mount, mount.root).inode) != namei.is_dir(at.inode):
            raise Errno(E.ENOTDIR)
        self.detach(mount)
        self.attach(mount, at)

    def umount(self, mount: Mount, lazy: bool, busy: Callable[[Mount], bool]) -> None:
        """umount2(2). `busy` says whether something uses a mount. A lazy one takes everything below it along."""
        if mount is self.root or mount.parent is None:
            raise Errno(E.EINVAL)
        tree = self.below(mount)
        if not lazy and (len(tree) > 1 or busy(mount)):
            raise Errno(E.EBUSY)
        for m in reversed(tree):
            self.remove(m)
            if all(other.sb is not m.sb for other in self.mounts):
                m.sb.sync()

    def pivot_root(self, contexts: list[FSContext], new: Path, old: Path) -> None:
        """pivot_root(2): `new` (a mount's root) becomes the root, the old root moves to `old` below it. Every context whose root
        or working directory was the old root follows."""
        root = self.root
        if root is None or new.dentry is not new.mount.root or new.mount is root or new.mount.parent is None:
            raise Errno(E.EINVAL)
        if old.mount is root:
            raise Errno(E.EBUSY)
        m: Mount | None = old.mount
        while m is not None and m is not new.mount:
            m = m.parent
        if m is None or (old.mount is new.mount and not namei.below(old.dentry, new.dentry)):
            raise Errno(E.EINVAL)
        self.detach(new.mount)
        self.attach(root, old)
        self.root = new.mount
        self.changed()
        for fs in contexts:
            if fs.root.mount is root and fs.root.dentry is root.root:
                fs.set_root(new)
            if fs.cwd.mount is root and fs.cwd.dentry is root.root:
                fs.set_cwd(new)

    def clone(self) -> tuple[MountNamespace, dict[int, Mount]]:
        """unshare(CLONE_NEWNS): a copy of the tree, and its mounts by the ident of the originals."""
        ns = MountNamespace()
        made: dict[int, Mount] = {}
        for m in self.mounts:
            copy = clone_mount(m, m.root)
            made[m.ident] = copy
            ns.adopt(copy)
        for m in self.mounts:
            if m is self.root:
                ns.root = made[m.ident]
            elif m.parent is not None and m.point is not None and m.parent.ident in made:
                ns.attach(made[m.ident], Path(made[m.parent.ident], m.point))
        return ns, made


class Idents:
    """Mount ids, never used twice."""

    def __init__(self) -> None:
        self.next: int = 20

    def take(self) -> int:
        self.next += 1
        return self.next - 1


IDENTS: Final = Idents()


def clone_mount(m: Mount, root: Dentry) -> Mount:
    return Mount(m.sb, root, m.flags)


def dict_of(pairs: list[tuple[Mount, Mount]]) -> dict[int, Mount]:
    return {original.ident: copy for original, copy in pairs}


def pin(point: Dentry) -> None:
    """A mount point must be found by the walk even where the file system's names are not cached (proc)."""
    parent = point.parent
    if parent is not None and point.name not in parent.children:
        parent.children[point.name] = point


def remount(mount: Mount, flags: int, bind: bool) -> None:
    """MS_REMOUNT: new flags of the mount and, unless MS_BIND was given too, of its super block."""
    mount.flags = (mount.flags & ~PER_MOUNT) | (flags & PER_MOUNT)
    if not bind:
        readonly = bool(flags & M.MS_RDONLY)
        if readonly and not mount.sb.readonly and any_writer(mount.root):
            raise Errno(E.EBUSY)
        mount.sb.readonly = readonly


def any_writer(root: Dentry) -> bool:
    """Is a file below open for writing? (Those in use are in the dentry cache.)"""
    stack = [root]
    while stack:
        d = stack.pop()
        if d.inode is not None and d.inode.writers > 0:
            return True
        stack.extend(d.children.values())
    return False


def forget(sb_root: Dentry) -> None:
    """The last mount of a super block is gone: its names are forgotten."""
    for child in list(sb_root.children.values()):
        CACHE.forget_tree(child)


def options(mount: Mount, sb_too: bool = True) -> bytes:
    """The options column of /proc/PID/mounts."""
    ro = mount.flags & M.MS_RDONLY or (sb_too and mount.sb.readonly)
    parts = [b"ro" if ro else b"rw"]
    for bit, name in (
        (M.MS_NOSUID, b"nosuid"),
        (M.MS_NODEV, b"nodev"),
        (M.MS_NOEXEC, b"noexec"),
        (M.MS_NOATIME, b"noatime"),
        (M.MS_NODIRATIME, b"nodiratime"),
        (M.MS_RELATIME, b"relatime"),
        (M.MS_NOSYMFOLLOW, b"nosymfollow"),
    ):
        if mount.flags & bit:
            parts.append(name)
    if sb_too and mount.sb.options:
        parts.append(mount.sb.options)
    return b",".join(parts)
