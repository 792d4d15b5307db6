"""Path resolution (path_resolution(7)): from a string to a place in the mounted trees.

`resolve` finds something that exists, `resolve_parent` the directory and last name of something to be made, removed or opened.
The loop in `Walk.run` is the hottest Python there is; a cached component costs a dict lookup and a few tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access
from sentry.vfs.dcache import CACHE
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Dentry, Mount, Path

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.task import Task

# Flags of a walk.
FOLLOW: Final = 1  # a symbolic link as last component is followed
DIRECTORY: Final = 2  # the result must be a directory
EMPTY: Final = 4  # an empty path means the starting point (AT_EMPTY_PATH)
NO_XDEV: Final = 8  # openat2's RESOLVE_*
NO_MAGICLINKS: Final = 16
NO_SYMLINKS: Final = 32
BENEATH: Final = 64
IN_ROOT: Final = 128
CACHED: Final = 256

MAX_LINKS: Final = 40
BATCH: Final = 16  # components asked for in one round trip


class Intent:
    """What a walk is for: a file system that asks a server for names can have the file opened in the same round trip."""

    def __init__(self) -> None:
        self.reading: bool = False  # the result will be opened for reading


INTENT: Final = Intent()  # of the walk that is going on (with K held, and nothing in a walk blocks)

# What the last component is.
NORM: Final = 0
DOT: Final = 1
DOTDOT: Final = 2
ROOT: Final = 3  # there is none: the path is "/" or a magic link led there


class Walk:
    """The state of one resolution; afterwards `mount` and `dentry` are its result.

    A walk for a parent stops before the last component: `last` is its name, `kind` what it is, `slash` whether a slash followed.
    """

    def __init__(self, t: Task | None, root: Path, start: Path, flags: int) -> None:
        self.t: Task | None = t  # None: the kernel itself; no permission is checked
        self.creds: Creds | None = None if t is None else t.creds
        self.root_mount: Mount = root.mount
        self.root_dentry: Dentry = root.dentry
        self.mount: Mount = start.mount
        self.dentry: Dentry = start.dentry
        self.flags: int = flags
        self.links: int = 0
        self.last: bytes = b""
        self.kind: int = ROOT
        self.slash: bool = False
        self.stable: bool = start.mount.sb.stable and root.mount.sb.stable  # all mounts that it came by
        if flags & (BENEATH | IN_ROOT):
            self.root_mount = start.mount
            self.root_dentry = start.dentry

    def path(self) -> Path:
        return Path(self.mount, self.dentry)

    def inode(self) -> Inode:
        """Of the result; ENOENT when it was removed."""
        inode = self.dentry.inode
        if inode is None:
            raise Errno(E.ENOENT)
        return inode

    def to_root(self) -> None:
        """An absolute path or link target starts at the root."""
        if self.flags & BENEATH:
            raise Errno(E.EXDEV)
        if self.flags & NO_XDEV and self.mount is not self.root_mount:
            raise Errno(E.EXDEV)
        self.mount = self.root_mount
        self.dentry = self.root_dentry

    def up(self) -> None:
        """One step of "..", kept within the root."""
        dentry = self.dentry
        mount = self.mount
        while True:
            if dentry is self.root_dentry and mount is self.root_mount:
                if self.flags & BENEATH:
                    raise Errno(E.EXDEV)
                break
            if dentry is not mount.root:
                parent = dentry.parent
                if parent is not None:
                    dentry = parent
                break
            above = mount.parent
            point = mount.point
            if above is None or point is None:
                break
            if self.flags & NO_XDEV:
                raise Errno(E.EXDEV)
            mount = above
            dentry = point
        self.mount = mount
        self.dentry = dentry
        if not mount.sb.stable:
            self.stable = False
        if dentry.mounts is not None:
            self.cross()

    def cross(self) -> None:
        """Steps onto what is mounted here."""
        below = self.dentry.mount_below(self.mount)
        while below is not None:
            if self.flags & NO_XDEV:
                raise Errno(E.EXDEV)
            self.mount = below
            self.dentry = below.root
            if not below.sb.stable:
                self.stable = False
            below = self.dentry.mount_below(below)

    def run(self, path: bytes, parent: bool) -> None:
        """Walks `path` from where the walk stands, up to the last component's parent if `parent`."""
        self.kind = ROOT
        self.slash = False
        if path[:1] == b"/":
            self.to_root()
        stripped = path.rstrip(b"/")
        if len(stripped) != len(path):
            path = stripped
            self.slash = True
        if not path:
            return
        names = path.split(b"/")
        i = 0
        end = len(names)
        while i < end:
            name = names[i]
            i += 1
            if not name:
                continue
            dentry = self.dentry
            inode = dentry.inode
            if inode is None:
                raise Errno(E.ENOENT)
            mode = inode.mode
            if mode & S.S_IFMT != S.S_IFDIR:
                raise Errno(E.ENOTDIR)
            if mode & 0o111 != 0o111:
                creds = self.creds
                if creds is not None and not access.permitted(creds, inode, access.MAY_EXEC):
                    raise Errno(E.EACCES)
            if len(name) <= 2:
                if name == b".":
                    if parent and i == end:
                        self.last = name
                        self.kind = DOT
                        return
                    continue
                if name == b"..":
                    if parent and i == end:
                        self.last = name
                        self.kind = DOTDOT
                        return
                    self.up()
                    continue
            if parent and i == end:
                if len(name) > F.NAME_MAX:
                    raise Errno(E.ENAMETOOLONG)
                self.last = name
                self.kind = NORM
                return
            child = dentry.children.get(name)
            if child is None or (inode.sb.revalidate and child.mounts is None):
                child = self.find(dentry, inode, child, names, i - 1)
            else:
                child.used = True
            found = child.inode
            if found is None:
                raise self.missing()
            if found.mode & S.S_IFMT == S.S_IFLNK and (i < end or self.slash or self.flags & FOLLOW):
                target = self.link(found)
                if target:
                    if i == end and target[-1] == 47:
                        self.slash = True
                    names = target.split(b"/") + names[i:]
                    i = 0
                    end = len(names)
                continue
            self.dentry = child
            if child.mounts is not None:
                self.cross()
        self.kind = ROOT

    def missing(self) -> Errno:
        """ENOENT for a name that is not there."""
        t = self.t
        if self.stable and t is not None:
            lib.cn_names_keep(t.native)
        return Errno(E.ENOENT)

    def link(self, inode: Inode) -> bytes:
        """Follows a symbolic link: returns its target to go on with (the walk stands where that starts), or b"" after a
        magic link has taken the walk to its goal."""
        self.links += 1
        if self.links > MAX_LINKS or self.flags & NO_SYMLINKS or self.mount.flags & M.MS_NOSYMFOLLOW:
            raise Errno(E.ELOOP)
        t = self.t
        if t is not None:
            goal = inode.follow(t)
            if goal is not None:
                if self.flags & NO_MAGICLINKS:
                    raise Errno(E.ELOOP)
                if self.flags & (BENEATH | IN_ROOT):
                    raise Errno(E.EXDEV)
                if self.flags & NO_XDEV and goal.mount is not self.mount:
                    raise Errno(E.EXDEV)
                self.mount = goal.mount
                self.dentry = goal.dentry
                self.stable = False
                return b""
        target = inode.readlink_for(t)
        if not target:
            raise Errno(E.ENOENT)
        if target[0] == 47:
            self.to_root()
        return target

    def find(self, dentry: Dentry, inode: Inode, cached: Dentry | None, names: list[bytes], i: int) -> Dentry:
        """names[i] below `dentry`, by asking the file system (and, if it likes, for the following names as well)."""
        name = names[i]
        if cached is not None:
            cached.used = True
            if inode.revalidate(name, cached.inode):
                return cached
            CACHE.forget(cached)
        if len(name) > F.NAME_MAX:
            raise Errno(E.ENAMETOOLONG)
        if dentry.deleted:
            return Dentry(name, dentry, None)
        sb = inode.sb
        if self.flags & CACHED:
            raise Errno(E.EAGAIN)
        if sb.walks and i + 1 < len(names):
            batch = [name]
            for more in names[i + 1 : i + BATCH]:
                if more == b".." or len(more) > F.NAME_MAX:
                    break
                if more and more != b".":
                    batch.append(more)
            if len(batch) > 1:
                return self.found(dentry, batch, inode.lookup_path(batch))
        got = inode.lookup(name)
        if not sb.cache_dentries:
            return Dentry(name, dentry, got)
        return CACHE.add(dentry, name, got)

    def found(self, dentry: Dentry, names: list[bytes], inodes: list[Inode | None]) -> Dentry:
        """Remembers the answer to a lookup of several names; returns the dentry of the first."""
        first = CACHE.add(dentry, names[0], inodes[0])
        at = first
        for k in range(1, len(inodes)):
            at = CACHE.add(at, names[k], inodes[k])
        return first

    def child(self) -> Dentry:
        """After a walk for a parent: the last component's dentry, possibly negative; mounts on it not yet crossed."""
        dentry = self.dentry
        if self.kind == NORM:
            inode = dentry.inode
            if inode is None:
                raise Errno(E.ENOENT)
            child = dentry.children.get(self.last)
            if child is None or (inode.sb.revalidate and child.mounts is None):
                return self.find(dentry, inode, child, [self.last], 0)
            child.used = True
            return child
        if self.kind == DOTDOT:
            self.up()
        return self.dentry


def begin(t: Task, dirfd: int, path: bytes, flags: int) -> Walk:
    """A walk that starts where `path`, relative to `dirfd` or AT_FDCWD, starts. ENOENT for an empty path, EBADF, ENOTDIR."""
    fs = t.fs
    if path[:1] == b"/" and not flags & (BENEATH | IN_ROOT):
        return Walk(t, fs.root, fs.root, flags)
    if not path and not flags & EMPTY:
        raise Errno(E.ENOENT)
    if dirfd == F.AT_FDCWD:
        return Walk(t, fs.root, fs.cwd, flags)
    file = t.fds.get(dirfd)
    start = file.path
    if start is None:
        raise Errno(E.ENOTDIR)
    if path and start.inode.mode & S.S_IFMT != S.S_IFDIR:
        raise Errno(E.ENOTDIR)
    return Walk(t, fs.root, start, flags)


def ended(walk: Walk) -> Inode:
    """What a walk to something that exists found; a directory if that was asked for or a slash followed."""
    inode = walk.inode()
    if (walk.slash or walk.flags & DIRECTORY) and inode.mode & S.S_IFMT != S.S_IFDIR:
        raise Errno(E.ENOTDIR)
    return inode


def finish(walk: Walk) -> Path:
    """The place that such a walk found."""
    ended(walk)
    return Path(walk.mount, walk.dentry)


def resolve(t: Task, dirfd: int, path: bytes, flags: int) -> Path:
    """What `path` leads to, which must exist; flags as above."""
    walk = begin(t, dirfd, path, flags)
    walk.run(path, False)
    return finish(walk)


def walk_to_read(t: Task, dirfd: int, path: bytes, flags: int) -> Walk:
    """A walk to something that will be opened for reading; see `finish`."""
    INTENT.reading = True
    try:
        walk = begin(t, dirfd, path, flags)
        walk.run(path, False)
        return walk
    finally:
        INTENT.reading = False


def resolve_parent(t: Task, dirfd: int, path: bytes, flags: int) -> Walk:
    """The directory of the last component of `path`: `mount` and `dentry`, with `last`, `kind` and `slash`."""
    walk = begin(t, dirfd, path, flags)
    walk.run(path, True)
    return walk


def kernel_resolve(root: Path, path: bytes, flags: int = FOLLOW) -> Path:
    """What an absolute path leads to for the kernel itself: no permissions, no magic links."""
    walk = Walk(None, root, root, flags)
    walk.run(path, False)
    return finish(walk)


def kernel_resolve_parent(root: Path, path: bytes) -> Walk:
    walk = Walk(None, root, root, FOLLOW)
    walk.run(path, True)
    return walk


def path_bytes(path: Path, fs_root: Path) -> bytes:
    """The name of a place as seen from a root: getcwd(2), /proc/PID/fd, /proc/PID/mounts. With " (deleted)" after an unlink and
    "(unreachable)" before what does not lie below the root."""
    parts: list[bytes] = []
    mount = path.mount
    dentry = path.dentry
    deleted = dentry.deleted
    reachable = True
    while not (dentry is fs_root.dentry and mount is fs_root.mount):
        if dentry is mount.root:
            above = mount.parent
            point = mount.point
            if above is None or point is None:
                reachable = False
                break
            mount = above
            dentry = point
            continue
        parts.append(dentry.name)
        parent = dentry.parent
        if parent is None:
            reachable = False
            break
        dentry = parent
    if not reachable and len(parts) == 1 and path.dentry.parent is None:
        return parts[0]  # an object without a name: pipe:[12]
    parts.reverse()
    text = b"/" + b"/".join(parts)
    if not reachable:
        text = b"(unreachable)" + text
    if deleted:
        text += b" (deleted)"
    return text
