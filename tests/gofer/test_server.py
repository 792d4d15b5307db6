"""Our server with our client: what every message does to real files."""

from __future__ import annotations

import errno as E
import os
import stat
from pathlib import Path

import pytest

from gofer.client import Client
from gofer.fid import P9Error
from gofer.p9 import const as C
from tests.gofer.harness import Gofer


def refuses(errno: int) -> pytest.RaisesExc[P9Error]:
    return pytest.raises(P9Error, check=lambda e: e.errno == errno)


def fid(c: Client, path: str) -> int:
    return c.walk(0, path.encode().split(b"/")).fids[-1]


def test_walk_gives_attributes_of_each_component(ro: Client, tree: Path) -> None:
    w = ro.walk(0, [b"dir", b"sub", b"deep"])
    assert w.status == 0
    assert [a.path for a in w.attrs] == [(tree / p).stat().st_ino for p in ("dir", "dir/sub", "dir/sub/deep")]
    st = (tree / "dir/sub/deep").stat()
    a = w.attrs[-1]
    assert (a.size, a.mode, a.nlink, a.mtime, a.uid) == (5, st.st_mode, 1, st.st_mtime_ns, st.st_uid)


def test_walk_stops_at_links_and_missing_names(ro: Client) -> None:
    w = ro.walk(0, [b"link", b"deep"])
    assert (len(w.fids), w.status, w.target) == (1, E.ELOOP, b"dir/sub")
    w = ro.walk(0, [b"dir", b"none", b"x"])
    assert (len(w.fids), w.status) == (1, E.ENOENT)
    w = ro.walk(0, [b"file", b"x"])
    assert (len(w.fids), w.status) == (1, E.ENOTDIR)


def test_donated_descriptor_reads_the_file_and_cannot_write(ro: Client) -> None:
    w = ro.walk(0, [b"file"], os.O_RDONLY)
    assert os.pread(w.hostfd, 100, 0) == b"hello\n"
    with pytest.raises(OSError):
        os.write(w.hostfd, b"x")
    assert not os.get_inheritable(w.hostfd)
    os.close(w.hostfd)
    attr, fd = ro.open(w.fids[0], os.O_RDONLY)
    assert attr.size == 6
    with pytest.raises(OSError, match="Read-only"):
        os.fchmod(fd, 0o777)
    os.close(fd)


def test_only_files_and_directories_are_opened(ro: Client) -> None:
    with refuses(E.EPERM):
        ro.open(fid(ro, "fifo"), os.O_RDONLY)
    assert ro.walk(0, [b"fifo"], os.O_RDONLY).hostfd == -1


def test_readdir_with_attributes(ro: Client, tree: Path) -> None:
    entries, offset = ro.readdir(0, 0)
    assert offset == -1
    found = {e.name: e for e in entries}
    assert sorted(found) == sorted(os.fsencode(n) for n in os.listdir(tree))
    for name, e in found.items():
        st = os.lstat(os.fsencode(tree) + b"/" + name)
        attr = e.attr()
        assert attr is not None
        assert (e.path, attr.mode, attr.size) == (st.st_ino, st.st_mode, st.st_size)
        assert (attr.path, attr.dev, e.dtype) == (e.path, e.dev, st.st_mode >> 12)


def test_walking_and_listing_in_one(ro: Client) -> None:
    number, attr, part, offset, _ = ro.list_at(0, b"dir")
    entries = ro.parse(part)
    assert [e.name for e in entries] == [b"sub"]
    assert offset == -1
    assert ro.getattr(number).path == attr.path
    for name, errno in ((b"file", E.ENOTDIR), (b"none", E.ENOENT), (b"link", E.ENOTDIR), (b"..", E.EINVAL)):
        with refuses(errno):
            ro.list_at(0, name)


def test_readdir_of_many_in_pieces(tmp_path: Path) -> None:
    names = {b"%d-%s" % (i, b"n" * (i % 200)) for i in range(3000)}
    for n in names:
        open(os.fsencode(tmp_path) + b"/" + n, "w").close()
    with Gofer((os.fsencode(tmp_path), True)) as g:
        c = g.client()
        c.msize = 8192
        seen: list[bytes] = []
        offset = 0
        while offset >= 0:
            entries, offset = c.readdir(0, offset)
            seen += [e.name for e in entries]
        assert len(seen) == len(set(seen))
        assert set(seen) == names
        c.close()


def test_read_only_refuses_every_change(ro: Client, tree: Path) -> None:
    f = fid(ro, "file")
    before = sorted(os.listdir(tree))
    for change in (
        lambda: ro.make(0, b"new", stat.S_IFREG | 0o644, 0, 0, 0),
        lambda: ro.make(0, b"new", stat.S_IFDIR | 0o755, 0, 0, 0),
        lambda: ro.make(0, b"new", stat.S_IFLNK | 0o777, 0, 0, 0, b"x"),
        lambda: ro.link(0, f, b"new"),
        lambda: ro.unlink(0, b"file", 0),
        lambda: ro.rename(0, b"file", 0, b"new", 0),
        lambda: ro.setattr(f, C.SETATTR_MODE, 0o600, 0, 0, 0, 0, 0),
        lambda: ro.setattr(f, C.SETATTR_SIZE, 0, 0, 0, 0, 0, 0),
        lambda: ro.setxattr(f, b"user.x", b"1", 0),
        lambda: ro.removexattr(f, b"user.x"),
        lambda: ro.open(f, os.O_RDWR),
        lambda: ro.open(f, os.O_WRONLY),
    ):
        with refuses(E.EROFS):
            change()
    assert sorted(os.listdir(tree)) == before


def test_creating_everything(rw: Client, tree: Path) -> None:
    number, attr, fd = rw.make(0, b"new", stat.S_IFREG | 0o4751, 0, 1234, 4321)
    st = (tree / "new").stat()
    assert (st.st_uid, st.st_gid, st.st_mode) == (1234, 4321, stat.S_IFREG | 0o4751)
    assert (attr.uid, attr.gid, attr.mode, attr.path) == (1234, 4321, st.st_mode, st.st_ino)
    os.write(fd, b"data")
    os.close(fd)
    assert rw.getattr(number).size == 4
    rw.make(0, b"d", stat.S_IFDIR | 0o1777, 0, 5, 6)
    assert (tree / "d").stat().st_mode == stat.S_IFDIR | 0o1777
    _, attr, _ = rw.make(0, b"l", stat.S_IFLNK | 0o777, 0, 7, 8, b"/any/where")
    assert os.readlink(tree / "l") == "/any/where"
    assert (tree / "l").lstat().st_uid == attr.uid == 7
    rw.make(0, b"p", stat.S_IFIFO | 0o622, 0, 0, 0)
    rw.make(0, b"s", stat.S_IFSOCK | 0o755, 0, 0, 0)
    assert stat.S_ISFIFO((tree / "p").stat().st_mode)
    assert stat.S_ISSOCK((tree / "s").stat().st_mode)
    with refuses(E.EPERM):
        rw.make(0, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3), 0, 0)
    with refuses(E.EEXIST):
        rw.make(0, b"new", stat.S_IFREG | 0o644, 0, 0, 0)


def test_changing_attributes(rw: Client, tree: Path) -> None:
    f = fid(rw, "file")
    valid = C.SETATTR_MODE | C.SETATTR_SIZE | C.SETATTR_UID | C.SETATTR_GID
    valid |= C.SETATTR_ATIME | C.SETATTR_ATIME_SET | C.SETATTR_MTIME | C.SETATTR_MTIME_SET
    a = rw.setattr(f, valid, 0o640, 11, 12, 3, 1_000_000_001, 2_000_000_002)
    st = (tree / "file").stat()
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_size) == (0o640, 11, 12, 3)
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    assert (a.mode, a.uid, a.gid, a.size, a.mtime) == (st.st_mode, 11, 12, 3, 2_000_000_002)


def test_names_come_and_go(rw: Client, tree: Path) -> None:
    f = fid(rw, "file")
    rw.link(fid(rw, "dir"), f, b"third")
    assert (tree / "dir/third").stat().st_ino == (tree / "file").stat().st_ino
    rw.rename(0, b"file", fid(rw, "dir"), b"moved", 0)
    assert (tree / "dir/moved").exists()
    with refuses(E.EEXIST):
        rw.rename(0, b"file2", fid(rw, "dir"), b"moved", 1)  # RENAME_NOREPLACE
    rw.unlink(0, b"file2", 0)
    assert rw.getattr(f).nlink == 2
    with refuses(E.ENOTEMPTY):
        rw.unlink(0, b"dir", C.AT_REMOVEDIR)
    with refuses(E.EISDIR):
        rw.unlink(0, b"dir", 0)


def test_unlinked_file_stays_reachable_by_its_fid(rw: Client) -> None:
    w = rw.walk(0, [b"dir", b"sub", b"deep"])
    rw.unlink(w.fids[1], b"deep", 0)
    assert rw.getattr(w.fids[2]).nlink == 0
    _, fd = rw.open(w.fids[2], os.O_RDWR)
    assert os.pread(fd, 10, 0) == b"deep\n"
    os.close(fd)


def test_extended_attributes(rw: Client, tree: Path) -> None:
    f = fid(rw, "file")
    try:
        os.setxattr(tree / "file", "user.probe", b"")
    except OSError:
        pytest.skip("the file system of the test directory has no extended attributes")
    rw.setxattr(f, b"user.one", b"1", 0)
    assert os.getxattr(tree / "file", "user.one") == b"1"
    assert rw.getxattr(f, b"user.one") == b"1"
    assert set(rw.getxattr(f, b"").split(b"\0")) >= {b"user.one", b"user.probe"}
    rw.removexattr(f, b"user.one")
    with refuses(E.ENODATA):
        rw.getxattr(f, b"user.one")
    with refuses(E.EOPNOTSUPP):
        rw.setxattr(f, b"trusted.x", b"", 0)


def test_fids_are_bounded_and_clunked(ro: Client) -> None:
    for _ in range(3000):
        w = ro.walk(0, [b"dir", b"sub", b"deep"])
        for f in w.fids:
            ro.clunk(f)
    assert ro.next < 200


def test_statfs_and_fsync(rw: Client, tree: Path) -> None:
    v = rw.statfs(0)
    st = os.statvfs(tree)
    assert (v[1], v[2], v[5]) == (st.f_bsize, st.f_blocks, st.f_files)
    rw.fsync(fid(rw, "file"))
    rw.fsync(0)


def test_plain_9p(tree: Path) -> None:
    with Gofer((os.fsencode(tree), False)) as g:
        c = g.client(extended=False)
        assert not c.extended
        w = c.walk(0, [b"dir", b"sub", b"deep"])
        assert w.attrs[-1].size == 5
        assert c.readlink(fid(c, "link")) == b"dir/sub"
        c.clunk(w.fids[0])
        c.close()


def test_several_exports_and_a_file_as_export(tree: Path) -> None:
    with Gofer(
        (os.fsencode(tree), True), (os.fsencode(tree / "dir"), False), (os.fsencode(tree / "file"), True)
    ) as g:
        a, b, f = g.client(0), g.client(1), g.client(2)
        b.make(0, b"fresh", stat.S_IFREG | 0o644, 0, 0, 0)
        assert a.walk(0, [b"dir", b"fresh"]).status == 0
        attr, fd = f.open(0, os.O_RDONLY)
        assert attr.size == 6
        os.close(fd)
        for c in (a, b, f):
            c.close()
        assert g.status() == 0


def test_mounts_below_an_export_are_crossed(tree: Path) -> None:
    """A bind mount inside the exported tree is part of it."""
    if os.geteuid():
        pytest.skip("needs root to mount")
    from native._core import ffi, lib

    point = os.fsencode(tree / "dir")
    assert lib.cn_mount(os.fsencode(tree.parent / "outside"), point, ffi.NULL, 4096, ffi.NULL) == 0
    try:
        with Gofer((os.fsencode(tree), True)) as g:
            c = g.client()
            assert c.walk(0, [b"dir", b"secret"]).status == 0
            c.close()
    finally:
        assert lib.cn_umount(point) == 0
