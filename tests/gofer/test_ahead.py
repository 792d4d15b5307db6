"""Directories that are read ahead: what the server sends, and that nobody sees anything but what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gofer.client import Block, Client
from gofer.p9 import const as C
from sentry.fs import gofer
from sentry.fs.gofer import GoferDir, GoferSuper
from tests.gofer.harness import Gofer

BRANCHES = 100


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    """Many directories with two levels below each; the last level has a file."""
    top = tmp_path / "forest"
    for i in range(BRANCHES):
        (top / f"d{i}" / "e" / "f").mkdir(parents=True)
        (top / f"d{i}" / "e" / "f" / "leaf").touch()
        (top / f"d{i}" / "file").touch()
    (top / "d0" / "link").symlink_to("e")
    return top


@pytest.fixture
def fs(forest: Path) -> Iterator[tuple[GoferSuper, GoferDir]]:
    """The tree as a file system that nobody else changes; it may be written to."""
    with Gofer((os.fsencode(forest), False)) as g:
        sb, root = gofer.attach(os.dup(g.sockets[0].fileno()), 1)
        assert isinstance(root, GoferDir)
        yield sb, root
        sb.client.close()


def below(inode: GoferDir, name: bytes) -> GoferDir:
    found = inode.lookup(name)
    assert isinstance(found, GoferDir)
    return found


def names(inode: GoferDir) -> set[bytes]:
    return {e.name for e in inode.readdir()}


def walk_first(root: GoferDir, count: int) -> list[bytes]:
    """Lists the first directories one after the other, as find(1) does; the names of all, in order."""
    inodes = [e.name for e in root.readdir() if e.dtype == 4]
    for name in inodes[:count]:
        below(root, name).listing()
    return inodes


def paths(c: Client, asked: bytes, blocks: list[Block]) -> dict[bytes, set[bytes]]:
    at: list[bytes] = [asked]
    out: dict[bytes, set[bytes]] = {}
    for b in blocks:
        at.append(b.name if b.parent == C.BESIDE else at[b.parent] + b"/" + b.name)
        out[at[-1]] = {e.name for e in c.parse(b.part)}
    return out


def test_the_server_lists_what_is_below_and_beside(forest: Path) -> None:
    with Gofer((os.fsencode(forest), True)) as g:
        c = g.client()
        _, _, part, offset, blocks = c.list_at(0, b"d0", True, [b"d1", b"d2", b"none", b"..", b"d0/e", b"", b"d0"])
        assert offset == -1
        assert {e.name for e in c.parse(part)} == {b"e", b"file", b"link"}
        found = paths(c, b"d0", blocks)
        assert set(found) == {d + e for d in (b"d0", b"d1", b"d2") for e in (b"", b"/e", b"/e/f")}
        for path, entries in found.items():
            assert entries == {os.fsencode(n) for n in os.listdir(os.fsencode(forest) + b"/" + path)}
        for b, (path, _) in zip(blocks, found.items(), strict=False):
            assert b.path == (forest / os.fsdecode(path)).stat().st_ino


def test_an_answer_that_is_full_ends_with_a_whole_directory(forest: Path) -> None:
    with Gofer((os.fsencode(forest), True)) as g:
        c = g.client()
        c.msize = 8192
        _, _, _, offset, blocks = c.list_at(0, b"d0", True, [b"d%d" % i for i in range(1, BRANCHES)])
        assert offset == -1
        found = paths(c, b"d0", blocks)
        assert 3 < len(found) < BRANCHES
        for path, entries in found.items():
            assert entries == {os.fsencode(n) for n in os.listdir(os.fsencode(forest) + b"/" + path)}


def test_who_lists_in_order_finds_the_next_ones_there(fs: tuple[GoferSuper, GoferDir]) -> None:
    sb, root = fs
    order = walk_first(root, 2)
    assert root.content is not None and set(order[2:10]) <= set(root.content.ahead)
    for name in order[2:]:
        d = below(root, name)
        assert {b"e", b"file"} <= names(d)
        assert names(below(d, b"e")) == {b"f"}
        assert names(below(below(d, b"e"), b"f")) == {b"leaf"}
    assert root.content is not None and not root.content.ahead
    assert sb.listed_size == sum(content.size for _, content in sb.listed)


def test_who_lists_here_and_there_reads_nothing_ahead(fs: tuple[GoferSuper, GoferDir]) -> None:
    _, root = fs
    order = [e.name for e in root.readdir()]
    for i in (0, 5, 3, 9):
        below(root, order[i]).listing()
    assert root.content is not None and not root.content.ahead


def test_what_was_changed_since_is_read_again(fs: tuple[GoferSuper, GoferDir]) -> None:
    _, root = fs
    order = walk_first(root, 2)
    assert root.content is not None and order[4] in root.content.ahead
    deep = below(below(below(root, order[4]), b"e"), b"f")
    deep.create(b"new", 0o644, os.getuid(), os.getgid())
    leaf = deep.lookup(b"leaf")
    assert leaf is not None
    deep.unlink(b"leaf", leaf)
    again = below(below(below(root, order[4]), b"e"), b"f")
    assert names(again) == {b"new"}
    below(root, order[5]).mkdir(b"made", 0o755, os.getuid(), os.getgid())
    assert b"made" in names(below(root, order[5]))
