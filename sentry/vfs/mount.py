"""Dentries, mounts, paths, and what a task sees of them. How they change is in sentry/vfs/mounts.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi
from sentry.abi import stat as S
from sentry.vfs.inode import Inode, SuperBlock

if TYPE_CHECKING:
    from sentry.vfs.mounts import MountNamespace


class Numbers:
    """Numbers that nothing else ever had, for dentries and mounts that paths start from."""

    def __init__(self) -> None:
        self.last: int = 0

    def take(self) -> int:
        self.last += 1
        return self.last


NUMBERS: Final = Numbers()


class Dentry:
    """A name in a tree. `inode` is None for a cached negative entry.

    A dentry that something refers to (a Path, a child, a mount) is never forgotten by the cache; see sentry/vfs/dcache.py.
    """

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name: bytes = name
        self.parent: Dentry | None = parent  # None for the root of a super block
        self.inode: Inode | None = inode
        self.children: dict[bytes, Dentry] = {}
        self.mounts: list[Mount] | None = (
            None  # mounts whose point this is, one for each parent mount at most
        )
        self.deleted: bool = False  # unlinked while in use: shown as "(deleted)"
        self.used: bool = False  # looked up since the cache's hand last passed
        self.slot: int = -1  # place in the cache's ring
        self.number: int = 0  # once it was a root or working directory

    def mount_below(self, parent: Mount) -> Mount | None:
        """The mount that covers this dentry as seen through `parent`."""
        if self.mounts is not None:
            for m in self.mounts:
                if m.parent is parent:
                    return m
        return None


class Mount:
    """A super block, or a part of it, attached at a place."""

    def __init__(self, sb: SuperBlock, root: Dentry, flags: int) -> None:
        self.sb: SuperBlock = sb
        self.root: Dentry = root
        self.flags: int = flags  # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME...
        self.parent: Mount | None = (
            None  # the mount it is attached in; None for a namespace's root and detached ones
        )
        self.point: Dentry | None = None  # dentry in the parent mount that it covers
        self.ident: int = 0  # mount id of /proc/PID/mountinfo; 0 while it is in no namespace
        self.ns: MountNamespace | None = None
        self.number: int = NUMBERS.take()


class Path:
    """A place in the mounted trees. Immutable."""

    def __init__(self, mount: Mount, dentry: Dentry) -> None:
        self.mount: Mount = mount
        self.dentry: Dentry = dentry

    @property
    def inode(self) -> Inode:
        """The inode of a path that is known to exist."""
        inode = self.dentry.inode
        assert inode is not None
        return inode

    def same(self, other: Path) -> bool:
        return self.dentry is other.dentry and self.mount is other.mount


class FSContext:
    """A task's root, working directory and umask; shared by CLONE_FS. `native` (struct cn_fs) tells C where paths start."""

    def __init__(self, root: Path, cwd: Path, umask: int = 0o022) -> None:
        self.native: ffi.CData = ffi.new("struct cn_fs *")
        self.umask: int = umask
        self.users: int = 1  # tasks that share it
        self.set_root(root)
        self.set_cwd(cwd)

    def set_root(self, place: Path) -> None:
        self.root: Path = place
        self.native.root = numbers(place)

    def set_cwd(self, place: Path) -> None:
        self.cwd: Path = place
        self.native.cwd = numbers(place)

    def copy(self) -> FSContext:
        return FSContext(self.root, self.cwd, self.umask)


def numbers(place: Path) -> tuple[int, int]:
    """What tells a place from all others, for good."""
    dentry = place.dentry
    if not dentry.number:
        dentry.number = NUMBERS.take()
    return dentry.number, place.mount.number


# Pipes, sockets and other objects without a name live here, so that /proc/PID/fd/N can lead to them.
ANON_MOUNT: Final = Mount(
    SuperBlock(b"anon_inodefs", 0), Dentry(b"", None, Inode(SuperBlock(b"anon_inodefs", 0), S.S_IFDIR)), 0
)


def anon_path(inode: Inode, name: bytes) -> Path:
    """A path outside every tree for an inode without a name; `name` is what readlink shows (b"pipe:[12]")."""
    return Path(ANON_MOUNT, Dentry(name, None, inode))
