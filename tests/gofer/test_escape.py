"""A compromised sentry tries to leave the exported tree, and to use the gofer's power."""

from __future__ import annotations

import errno as E
import os
import threading
from pathlib import Path

import pytest

from gofer.client import Client
from gofer.fid import P9Error
from tests.gofer.harness import Gofer


@pytest.mark.parametrize(
    "name",
    [b"..", b".", b"", b"/", b"../outside", b"dir/..", b"/etc", b"a\0b", b"dir/sub", b"x" * 256, b"./file"],
)
def test_names_that_are_not_names(rw: Client, name: bytes) -> None:
    w = rw.walk(0, [name])
    assert w.fids == []
    assert w.status in (E.EINVAL, E.ENAMETOOLONG)
    f = rw.walk(0, [b"file"]).fids[0]
    for change in (
        lambda: rw.make(0, name, 0o100644, 0, 0, 0),
        lambda: rw.make(0, name, 0o040755, 0, 0, 0),
        lambda: rw.link(0, f, name),
        lambda: rw.unlink(0, name, 0),
        lambda: rw.rename(0, b"file", 0, name, 0),
        lambda: rw.rename(0, name, 0, b"new", 0),
    ):
        with pytest.raises(P9Error, check=lambda e: e.errno in (E.EINVAL, E.ENAMETOOLONG)):
            change()


def test_links_are_never_followed(rw: Client, tree: Path) -> None:
    for link in (b"abs", b"up"):
        w = rw.walk(0, [link, b"secret"])
        assert len(w.fids) == 1
        assert w.status == E.ELOOP
        with pytest.raises(P9Error, check=lambda e: e.errno in (E.ELOOP, E.EPERM)):
            rw.open(w.fids[0], os.O_RDONLY)
        with pytest.raises(P9Error, check=lambda e: e.errno == E.ENOTDIR):
            rw.make(w.fids[0], b"x", 0o100644, 0, 0, 0)


def test_directory_renamed_out_of_the_tree_has_no_way_up(rw: Client, tree: Path) -> None:
    """Even a fid whose directory was moved away leads only downwards."""
    w = rw.walk(0, [b"dir", b"sub"])
    (tree / "dir" / "sub").rename(tree.parent / "outside" / "sub")
    again = rw.walk(w.fids[1], [b".."])
    assert again.fids == []
    assert rw.walk(w.fids[1], [b"deep"]).status == 0


def test_race_of_directory_and_link(tmp_path: Path) -> None:
    """While a directory and a link to the outside keep changing places, no walk ever arrives outside."""
    top = tmp_path / "export"
    (top / "a").mkdir(parents=True)
    (top / "a" / "secret").write_text("inside\n")
    (top / "b").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("outside\n")
    stop = threading.Event()

    def swap() -> None:
        from native._core import lib

        fd = os.open(top, os.O_RDONLY)
        while not stop.is_set():
            lib.cn_gf_rename(fd, b"a", fd, b"b", 2)
        os.close(fd)

    thread = threading.Thread(target=swap)
    with Gofer((os.fsencode(top), True)) as g:
        c = g.client()
        thread.start()
        try:
            reached = 0
            for _ in range(3000):
                w = c.walk(0, [b"a", b"secret"], os.O_RDONLY)
                if w.hostfd >= 0:
                    reached += 1
                    assert os.pread(w.hostfd, 100, 0) == b"inside\n"
                    os.close(w.hostfd)
                for f in w.fids:
                    c.clunk(f)
            assert reached
        finally:
            stop.set()
            thread.join()
            c.close()


def test_default_view_hides_what_it_should() -> None:
    with Gofer((b"view:default", True), cwd=b"/work") as g:
        c = g.client()
        assert c.walk(0, [b"etc", b"passwd"], os.O_RDONLY).hostfd >= 0
        assert c.walk(0, [b"usr", b"bin", b"env"]).status == 0
        shadow = c.walk(0, [b"etc", b"shadow"], os.O_RDONLY)
        assert shadow.hostfd == -1
        for place in (b"root", b"home", b"run", b"proc", b"sys", b"dev", b"boot", b"srv", b"mnt"):
            w = c.walk(0, [place])
            assert w.status == 0, place
            names = [e.name for e in c.readdir(w.fids[0], 0)[0]] if place != b"root" else []
            assert names in ([], [b"lock"]), place
        if os.geteuid() == 0:
            for secret in sorted(os.listdir("/etc")):
                st = os.lstat("/etc/" + secret)
                if os.path.isfile("/etc/" + secret) and not st.st_mode & 0o4:
                    assert c.walk(0, [b"etc", os.fsencode(secret)], os.O_RDONLY).hostfd == -1, secret
        c.close()


def test_default_view_shows_only_the_cwd_below_a_hidden_place(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs a hidden place to write to")
    import tempfile

    with tempfile.TemporaryDirectory(dir="/root") as here:
        os.mkdir(here + "/mine")
        os.mkdir(here + "/other")
        Path(here + "/mine/private").write_text("x")
        os.chmod(here + "/mine/private", 0o600)
        with Gofer((b"view:default", True), cwd=os.fsencode(here + "/mine")) as g:
            c = g.client()
            parts = os.fsencode(here)[1:].split(b"/")
            w = c.walk(0, [*parts, b"mine", b"private"], os.O_RDONLY)
            assert w.status == 0
            assert os.pread(w.hostfd, 10, 0) == b"x"
            assert c.walk(0, [*parts, b"other"]).status == E.ENOENT
            c.close()


def test_host_view_has_no_kernel_file_systems() -> None:
    with Gofer((b"view:host", True)) as g:
        c = g.client()
        for place in (b"proc", b"sys", b"dev"):
            assert c.readdir(c.walk(0, [place]).fids[0], 0)[0] == []
        assert c.walk(0, [b"etc", b"passwd"], os.O_RDONLY).hostfd >= 0
        c.close()
