"""Dentries, mounts and paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.vfs.inode import Inode, SuperBlock


class Dentry:
    """A name in a tree. `inode` is None for a cached negative entry."""

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name: bytes = name
        self.parent: Dentry | None = parent  # None for the root of a super block
        self.inode: Inode | None = inode
        self.children: dict[bytes, Dentry] = {}
        self.mounted: Mount | None = None  # topmost mount on this dentry (one mount namespace for now)
        self.deleted: bool = False  # unlinked while in use: shown as "(deleted)"


class Mount:
    """A super block attached at a place."""

    def __init__(self, sb: SuperBlock, root: Dentry, parent: Mount | None, point: Dentry | None, flags: int, ident: int) -> None:
        self.sb: SuperBlock = sb
        self.root: Dentry = root
        self.parent: Mount | None = parent
        self.point: Dentry | None = point  # dentry in the parent mount that it covers
        self.flags: int = flags  # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME...
        self.ident: int = ident  # mount id of /proc/PID/mountinfo
        self.covered: Mount | None = None  # mount that was on the same dentry before


class Path:
    """A place in the mounted trees."""

    def __init__(self, mount: Mount, dentry: Dentry) -> None:
        self.mount: Mount = mount
        self.dentry: Dentry = dentry


class FSContext:
    """A task's root, working directory and umask; shared by CLONE_FS."""

    def __init__(self, root: Path, cwd: Path, umask: int = 0o022) -> None:
        self.root: Path = root
        self.cwd: Path = cwd
        self.umask: int = umask
        self.users: int = 1

    def copy(self) -> FSContext:
        return FSContext(self.root, self.cwd, self.umask)
