"""A directory to export, and gofers on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gofer.client import Client
from tests.gofer.harness import Gofer


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """export/ with a bit of everything, beside outside/ that must never be reached."""
    top = tmp_path / "export"
    (top / "dir" / "sub").mkdir(parents=True)
    (top / "file").write_text("hello\n")
    (top / "dir" / "sub" / "deep").write_text("deep\n")
    (top / "link").symlink_to("dir/sub")
    (top / "abs").symlink_to("/etc/passwd")
    (top / "up").symlink_to("../outside")
    os.link(top / "file", top / "file2")
    os.mkfifo(top / "fifo")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret\n")
    return top


@pytest.fixture
def ro(tree: Path) -> Iterator[Client]:
    with Gofer((os.fsencode(tree), True)) as g:
        c = g.client()
        yield c
        c.close()


@pytest.fixture
def rw(tree: Path) -> Iterator[Client]:
    with Gofer((os.fsencode(tree), False)) as g:
        c = g.client()
        yield c
        c.close()
