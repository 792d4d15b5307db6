"""Walk, dentry cache, overlay, locks and epoll without a guest: a task that is only credentials and a place."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.abi import poll as P
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs import overlay, tmpfs
from sentry.kernel.creds import Creds
from sentry.kernel.task import Task
from sentry.mm import memfile
from sentry.vfs import attrs, namei, opening, walk
from sentry.vfs.dcache import CACHE, DentryCache
from sentry.vfs.epoll import Epoll
from sentry.vfs.fdtable import FDTable
from sentry.vfs.file import File
from sentry.vfs.inode import Inode
from sentry.vfs.locks import InodeLocks
from sentry.vfs.mount import Dentry, FSContext, Path
from sentry.vfs.mounts import MountNamespace

AT = F.AT_FDCWD


@pytest.fixture(scope="module", autouse=True)
def memory() -> None:
    """Memory files need the process's memory file."""
    if memfile.used() == 0:
        memfile.start(os.memfd_create("test", os.MFD_CLOEXEC), 0)


def task(root: Path, uid: int = 0) -> Task:
    t = Task.__new__(Task)
    t.creds = Creds(uid, uid, [])
    t.fs = FSContext(root, root)
    t.fds = FDTable()
    return t


@pytest.fixture
def t() -> Task:
    ns = MountNamespace()
    top = tmpfs.new(1)
    return task(ns.set_root(top.sb, top, 0))


def errno_of(call: object, *args: object) -> int:
    assert callable(call)
    with pytest.raises(Errno) as e:
        call(*args)
    return e.value.errno


def make(t: Task, *paths: bytes) -> None:
    """Directories (ending with a slash) and files with their own name as content."""
    for path in paths:
        if path.endswith(b"/"):
            namei.mkdir(t, AT, path, 0o755)
        else:
            file = opening.open_file(t, AT, path, F.O_CREAT | F.O_WRONLY, 0o644)
            file.write(t, path, 0)
            file.incref()
            file.decref()


def content(t: Task, path: bytes) -> bytes:
    data = opening.open_file(t, AT, path, F.O_RDONLY, 0).read(t, 100, 0)
    assert data is not None
    return data


def names(t: Task, path: bytes) -> list[bytes]:
    file = opening.open_file(t, AT, path, F.O_RDONLY | F.O_DIRECTORY, 0)
    assert file.inode is not None
    return sorted(e.name for e in file.inode.readdir())


def ino(t: Task, path: bytes) -> int:
    return walk.resolve(t, AT, path, 0).inode.getattr().ino


def test_walk(t: Task) -> None:
    make(t, b"/a/", b"/a/b/", b"/a/b/f")
    namei.symlink(t, b"a/b", AT, b"/l")
    namei.symlink(t, b"/l/../b/./f", AT, b"/a/m")
    assert content(t, b"/a/m") == b"/a/b/f"
    assert walk.path_bytes(walk.resolve(t, AT, b"//a/./../l//", walk.FOLLOW), t.fs.root) == b"/a/b"
    assert walk.path_bytes(walk.resolve(t, AT, b"/../../..", 0), t.fs.root) == b"/"
    assert errno_of(walk.resolve, t, AT, b"/a/b/f/", 0) == E.ENOTDIR
    assert errno_of(walk.resolve, t, AT, b"/a/" + b"x" * 256, 0) == E.ENAMETOOLONG
    t.fs.root = walk.resolve(t, AT, b"/a", 0)
    assert errno_of(walk.resolve, t, AT, b"/../l", 0) == E.ENOENT
    assert walk.path_bytes(t.fs.cwd, t.fs.root) == b"(unreachable)/"


def test_names_that_move_are_found_where_they_are(t: Task) -> None:
    make(t, b"/d/", b"/d/e/", b"/d/e/f")
    t.fs.cwd = walk.resolve(t, AT, b"/d/e", 0)
    namei.rename(t, AT, b"/d", AT, b"/new", 0)
    assert walk.path_bytes(t.fs.cwd, t.fs.root) == b"/new/e"
    namei.unlink(t, AT, b"f")
    namei.rmdir(t, AT, b"../e")
    assert walk.path_bytes(t.fs.cwd, t.fs.root) == b"/new/e (deleted)"
    assert errno_of(make, t, b"g") == E.ENOENT


def test_mounts_and_bind(t: Task) -> None:
    ns = t.fs.root.mount.ns
    assert ns is not None
    make(t, b"/m/", b"/b/", b"/m/under")
    other = tmpfs.new(2)
    ns.mount(other.sb, other, walk.resolve(t, AT, b"/m", 0), 0)
    make(t, b"/m/x/", b"/m/x/f")
    assert names(t, b"/m") == [b"x"]
    ns.bind(walk.resolve(t, AT, b"/m/x", 0), walk.resolve(t, AT, b"/b", 0), False)
    assert content(t, b"/b/f") == b"/m/x/f"
    assert names(t, b"/b/..") == [b"b", b"m"]
    assert errno_of(namei.rename, t, AT, b"/b/f", AT, b"/m/g", 0) == E.EXDEV
    assert errno_of(namei.rmdir, t, AT, b"/m") == E.EBUSY
    walk.resolve(t, AT, b"/b", 0).mount.flags |= M.MS_RDONLY
    assert errno_of(make, t, b"/b/g") == E.EROFS
    make(t, b"/m/x/g")
    copy, _ = ns.clone()
    assert [m.sb for m in copy.mounts] == [m.sb for m in ns.mounts]
    ns.umount(walk.resolve(t, AT, b"/m", 0).mount, True, lambda m: False)
    assert names(t, b"/m") == [b"under"]


def test_permissions(t: Task) -> None:
    make(t, b"/closed/", b"/closed/f", b"/open/")
    attrs.chmod(t, walk.resolve(t, AT, b"/closed", 0), 0o700)
    attrs.chmod(t, walk.resolve(t, AT, b"/open", 0), 0o1777)
    user = task(t.fs.root, 1000)
    user.fs.umask = 0
    assert errno_of(walk.resolve, user, AT, b"/closed/f", 0) == E.EACCES
    make(user, b"/open/mine")
    assert walk.resolve(t, AT, b"/open/mine", 0).inode.getattr().uid == 1000
    other = task(t.fs.root, 1001)
    assert errno_of(namei.unlink, other, AT, b"/open/mine") == E.EPERM
    assert errno_of(attrs.chmod, other, walk.resolve(other, AT, b"/open/mine", 0), 0) == E.EPERM


class Counted(tmpfs.TmpNode):
    """An inode that tells when it is forgotten."""

    gone = 0

    def dropped(self) -> None:
        Counted.gone += 1


class Many(tmpfs.TmpDir):
    """A directory in which every name is there, a new inode at each lookup."""

    def lookup(self, name: bytes) -> Inode | None:
        return Counted(self.fs, self.fs.new_attr(S.S_IFIFO | 0o644, 0, 0))


def test_dentry_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = DentryCache(100)
    sb = tmpfs.TmpSuper(1)
    parent = Dentry(b"", None, Many(sb, sb.new_attr(S.S_IFDIR | 0o755, 0, 0)))
    assert parent.inode is not None
    Counted.gone = 0
    held = [cache.add(parent, b"held%d" % i, parent.inode.lookup(b"")) for i in range(20)]
    for i in range(1000):
        cache.add(parent, b"%d" % i, parent.inode.lookup(b""))
    assert len(cache.ring) <= 101
    assert len(parent.children) == len(cache.ring)
    assert all(parent.children[d.name] is d for d in held)
    assert Counted.gone >= 900
    for d in list(cache.ring):
        cache.forget(d)
    del held, d
    assert Counted.gone == 1020


@pytest.fixture
def over(t: Task) -> Iterator[Task]:
    """A task whose root is an overlay over a tree of /dir/{sub/deep,file}, /one and its second name /two, /link."""
    make(t, b"/dir/", b"/dir/sub/", b"/dir/sub/deep", b"/dir/file", b"/one")
    namei.link(t, AT, b"/one", AT, b"/two", 0)
    namei.symlink(t, b"dir/file", AT, b"/link")
    before = snapshot(t)
    lower = t.fs.root.inode
    root = overlay.new(9, lower, 1 << 30)
    ns = MountNamespace()
    yield task(ns.set_root(root.sb, root, 0))
    assert snapshot(t) == before


def snapshot(t: Task) -> list[tuple[bytes, int, bytes]]:
    """Names, modes and contents of the tree."""
    out: list[tuple[bytes, int, bytes]] = []
    todo = [b"/"]
    for directory in todo:
        for name in names(t, directory):
            path = directory.rstrip(b"/") + b"/" + name
            inode = walk.resolve(t, AT, path, 0).inode
            data = content(t, path) if inode.mode & S.S_IFMT == S.S_IFREG else b""
            out.append((path, inode.mode, data))
            if inode.mode & S.S_IFMT == S.S_IFDIR:
                todo.append(path)
    return out


def forget_all() -> None:
    """Empties the dentry cache, as if it had been too small."""
    for d in list(CACHE.ring):
        CACHE.forget(d)


def test_overlay_write_and_remove(over: Task) -> None:
    number = ino(over, b"/dir/file")
    reader = opening.open_file(over, AT, b"/dir/file", F.O_RDONLY, 0)
    writer = opening.open_file(over, AT, b"/link", F.O_RDWR, 0)
    writer.write(over, b"NEW", 0)
    forget_all()
    assert content(over, b"/dir/file") == b"NEWr/file"
    assert reader.read(over, 3, 0) == b"NEW"
    assert ino(over, b"/dir/file") == number
    namei.unlink(over, AT, b"/dir/file")
    assert names(over, b"/dir") == [b"sub"]
    assert errno_of(walk.resolve, over, AT, b"/dir/file", 0) == E.ENOENT
    assert errno_of(namei.rmdir, over, AT, b"/dir/sub") == E.ENOTEMPTY
    namei.unlink(over, AT, b"/dir/sub/deep")
    namei.rmdir(over, AT, b"/dir/sub")
    make(over, b"/dir/sub/", b"/dir/file")
    forget_all()
    assert names(over, b"/dir/sub") == []
    assert content(over, b"/dir/file") == b"/dir/file"


def test_overlay_renames_lower_directories(over: Task) -> None:
    number = ino(over, b"/dir/sub/deep")
    namei.rename(over, AT, b"/dir", AT, b"/moved", 0)
    forget_all()
    assert names(over, b"/") == [b"link", b"moved", b"one", b"two"]
    assert content(over, b"/moved/sub/deep") == b"/dir/sub/deep"
    assert ino(over, b"/moved/sub/deep") == number
    make(over, b"/dir/", b"/moved/sub/more")
    assert names(over, b"/dir") == []
    namei.rename(over, AT, b"/moved/sub", AT, b"/dir/sub", 0)
    forget_all()
    assert names(over, b"/dir/sub") == [b"deep", b"more"]
    assert names(over, b"/moved") == [b"file"]
    namei.rename(over, AT, b"/dir", AT, b"/moved", F.RENAME_EXCHANGE)
    forget_all()
    assert names(over, b"/moved") == [b"sub"]
    assert names(over, b"/dir") == [b"file"]


def test_overlay_hard_links_stay_one_file(over: Task) -> None:
    writer = opening.open_file(over, AT, b"/one", F.O_WRONLY, 0)
    writer.write(over, b"both", 0)
    forget_all()
    assert content(over, b"/two") == b"both"
    assert ino(over, b"/one") == ino(over, b"/two")
    namei.unlink(over, AT, b"/one")
    assert walk.resolve(over, AT, b"/two", 0).inode.getattr().nlink == 1
    namei.link(over, AT, b"/dir/file", AT, b"/dir/second", 0)
    attrs.chmod(over, walk.resolve(over, AT, b"/dir/second", 0), 0o600)
    forget_all()
    assert walk.resolve(over, AT, b"/dir/file", 0).inode.mode & 0o777 == 0o600


def test_overlay_attributes_need_no_copy(over: Task) -> None:
    place = walk.resolve(over, AT, b"/dir/file", 0)
    attrs.chmod(over, place, 0o640)
    attrs.chown(over, place, 5, 6)
    del place
    forget_all()
    inode = walk.resolve(over, AT, b"/dir/file", 0).inode
    assert isinstance(inode, overlay.OverlayFile)
    assert inode.lower_data
    attr = inode.getattr()
    assert (attr.mode & 0o777, attr.uid, attr.gid) == (0o640, 5, 6)
    assert content(over, b"/dir/file") == b"/dir/file"


def test_record_locks() -> None:
    locks = InodeLocks()
    one, two = object(), object()
    assert locks.lock(one, 1, False, 0, 99)
    assert locks.lock(two, 2, False, 50, 149)
    assert not locks.lock(one, 1, True, 40, 60)
    assert locks.lock(one, 1, True, 10, 19)
    assert [(r.start, r.end, r.exclusive) for r in locks.ranges if r.owner is one] == [
        (0, 9, False),
        (10, 19, True),
        (20, 99, False),
    ]
    blocker = locks.conflict(two, False, 0, 30)
    assert blocker is not None
    assert (blocker.start, blocker.pid) == (10, 1)
    assert locks.lock(one, 1, False, 10, 19)
    assert [(r.start, r.end) for r in locks.ranges if r.owner is one] == [(0, 99)]
    locks.unlock(one, 30, 39)
    assert [(r.start, r.end) for r in locks.ranges if r.owner is one] == [(0, 29), (40, 99)]
    locks.owner_gone(one)
    assert locks.conflict(two, True, 0, 1000) is None


class Switch(File):
    """A file whose readiness the test sets."""

    def __init__(self) -> None:
        super().__init__(F.O_RDONLY, None, None)
        self.bits: int = 0

    def poll(self) -> int:
        return self.bits

    def become(self, bits: int) -> None:
        self.bits = bits
        self.waitq.notify(bits)


def test_epoll_modes() -> None:
    ep = Epoll()
    level, edge, once = Switch(), Switch(), Switch()
    ep.add(3, level, P.EPOLLIN, 3)
    ep.add(4, edge, P.EPOLLIN | P.EPOLLET, 4)
    ep.add(5, once, P.EPOLLIN | P.EPOLLONESHOT, 5)
    assert ep.collect(8) == []
    for file in (level, edge, once):
        file.become(P.POLLIN)
    assert ep.collect(8) == [(1, 3), (1, 4), (1, 5)]
    assert ep.collect(8) == [(1, 3)]
    edge.become(P.POLLIN)
    once.become(P.POLLIN)
    assert ep.collect(8) == [(1, 3), (1, 4)]
    level.become(0)
    assert ep.collect(8) == []
    assert ep.poll() == 0
    ep.modify(5, once, P.EPOLLIN, 55)
    assert ep.collect(8) == [(1, 55)]
    once.incref()
    once.decref()
    assert [i.fd for i in ep.items.values()] == [3, 4]


def test_epoll_shares_turns() -> None:
    ep = Epoll()
    files = [Switch() for _ in range(4)]
    for n, file in enumerate(files):
        ep.add(n, file, P.EPOLLIN, n)
        file.become(P.POLLIN)
    seen = [data for _ in range(4) for _, data in ep.collect(2)]
    assert sorted(seen) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_epoll_loops_are_refused() -> None:
    chain = [Epoll() for _ in range(7)]
    assert errno_of(chain[0].add, 9, chain[0], P.EPOLLIN, 0) == E.ELOOP
    for n in range(4):
        chain[n + 1].add(n, chain[n], P.EPOLLIN, 0)
    assert errno_of(chain[5].add, 4, chain[4], P.EPOLLIN, 0) == E.ELOOP
    assert errno_of(chain[0].add, 5, chain[2], P.EPOLLIN, 0) == E.ELOOP
