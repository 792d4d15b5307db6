"""9P2000.L with somebody else at the other end: diod's server for our client, diod's client tools for our server."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gofer.client import Client
from gofer.fid import P9Error
from gofer.p9 import const as C
from tests.gofer.harness import Gofer

pytestmark = pytest.mark.skipif(shutil.which("diod") is None, reason="diod is not installed")


@pytest.fixture
def diod(tree: Path) -> Iterator[Client]:
    """Our client, attached to an export of diod."""
    ours, theirs = socket.socketpair()
    fd = str(theirs.fileno())
    args = ["diod", "-f", "-n", "-L", "stderr", "-c", "/dev/null", "-r", fd, "-w", fd, "-e", str(tree)]
    server = subprocess.Popen(args, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    theirs.close()
    c = Client(ours.detach())
    c.start(uid=os.geteuid(), aname=os.fsencode(tree))
    try:
        yield c
    finally:
        c.close()
        server.kill()
        server.wait()


def test_client_falls_back_to_plain_9p(diod: Client) -> None:
    assert not diod.extended


def test_client_walks_and_stats_on_diod(diod: Client, tree: Path) -> None:
    w = diod.walk(0, [b"dir", b"sub", b"deep"])
    assert w.status == 0
    st = (tree / "dir/sub/deep").stat()
    a = w.attrs[-1]
    assert (a.mode, a.size, a.uid, a.nlink, a.mtime) == (st.st_mode, 5, st.st_uid, 1, st.st_mtime_ns)
    assert diod.walk(0, [b"dir", b"none"]).status == 2
    assert diod.readlink(diod.walk(0, [b"link"]).fids[0]) == b"dir/sub"


def test_client_changes_things_on_diod(diod: Client, tree: Path) -> None:
    f = diod.walk(0, [b"file"]).fids[0]
    d = diod.walk(0, [b"dir"]).fids[0]
    diod.link(d, f, b"third")
    diod.rename(0, b"file2", d, b"moved", 0)
    diod.unlink(d, b"third", 0)
    assert sorted(os.listdir(tree / "dir")) == ["moved", "sub"]
    a = diod.setattr(f, C.SETATTR_MODE | C.SETATTR_SIZE, 0o640, 0, 0, 2, 0, 0)
    assert (a.mode, a.size) == (stat.S_IFREG | 0o640, 2)
    assert diod.statfs(0)[8] >= 255
    diod.clunk(f)
    with pytest.raises(P9Error):
        diod.getattr(f)


def run_tool(tree: Path, readonly: bool, *command: str) -> str:
    """Runs one of diod's client tools against our server; what it prints."""
    path = str(tree.parent / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        tool = subprocess.Popen(
            [command[0], "-s", path, "-a", "/", *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        listener.settimeout(10)
        theirs, _ = listener.accept()
    ours, spare = socket.socketpair()
    spare.close()
    with Gofer((os.fsencode(tree), readonly), pair=(ours, theirs)):
        out, _ = tool.communicate(timeout=20)
    return out


def test_diodls_lists_our_server(tree: Path) -> None:
    for i in range(2000):
        (tree / "dir" / f"name-{i}").touch()
    out = run_tool(tree, True, "diodls", "dir")
    assert set(out.split()) >= set(os.listdir(tree / "dir"))


def test_diodls_long_shows_attributes(tree: Path) -> None:
    os.chmod(tree / "dir/sub/deep", 0o751)
    out = run_tool(tree, True, "diodls", "-l", "dir/sub")
    line = next(x for x in out.splitlines() if x.endswith(" deep"))
    assert line.startswith("-rwxr-x--x")
    assert " 5 " in line


def test_diodcat_reads_from_our_server(tree: Path) -> None:
    (tree / "big").write_bytes(os.urandom(300_000).hex().encode())
    assert run_tool(tree, True, "diodcat", "file", "dir/sub/deep") == "hello\ndeep\n"


def test_diodcat_reads_a_file_of_many_messages(tree: Path) -> None:
    text = os.urandom(300_000).hex()
    (tree / "big").write_text(text)
    assert run_tool(tree, True, "diodcat", "big") == text
