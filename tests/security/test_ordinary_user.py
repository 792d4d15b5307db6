"""An ordinary user (nobody) runs sandboxes, too: by way of user namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # the tree's may lie in a home directory
BOOT = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from cordon.__main__ import main; sys.exit(main())"
DROP = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.needs("setpriv", "unshare")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of nobody's that every user can reach the way to."""
    path = Path("/tmp") / f"cordon-nobody-{os.getpid()}"
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def cordon(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if subprocess.run([*DROP, "unshare", "--user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("user namespaces are off for ordinary users")
    packages = sysconfig.get_path("purelib")
    command = [PYTHON, "-I", "-c", BOOT, str(ROOT), packages, "do", *arguments]
    if subprocess.run([*DROP, PYTHON, "-I", "-c", BOOT, str(ROOT), packages, "--version"], check=False, capture_output=True).returncode:
        pytest.skip(f"{PYTHON} as nobody cannot import cordon from {ROOT}")
    return subprocess.run([*DROP, *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_ids(folder: Path) -> None:
    p = cordon(folder, "--", "sh", "-c", "id -u; id -g; pwd; stat -c %u .")  # other ids of the host are shown as nobody
    assert (p.returncode, p.stderr) == (0, "")
    assert p.stdout.split() == ["65534", "65534", str(folder), "65534"]


def test_unreadable_stays_so(folder: Path) -> None:
    p = cordon(folder, "--root", "/", "--", "cat", "/etc/shadow")
    assert p.returncode == 1
    assert p.stdout == ""


def test_writable_mount(folder: Path) -> None:
    (folder / "data").mkdir()
    os.chown(folder / "data", NOBODY, NOBODY)
    p = cordon(folder, "--mount", f"{folder}/data:/mnt:rw", "--", "sh", "-c", "echo hello > /mnt/file && mkdir /mnt/d && cat /mnt/file")
    assert (p.returncode, p.stdout, p.stderr) == (0, "hello\n", "")
    made = folder / "data" / "file"
    assert made.read_text() == "hello\n"
    assert made.stat().st_uid == NOBODY


def test_memory_limit(folder: Path) -> None:
    p = cordon(folder, "--memory", "64M", "--", "perl", "-e", "$x = 'a' x (1 << 28); print length $x")
    assert p.returncode != 0
    assert "memory limit" in p.stderr
    q = cordon(folder, "--memory", "64M", "--", "true")
    assert (q.returncode, q.stderr) == (0, "")


def test_unreachable_cwd(folder: Path) -> None:
    """A directory that the caller stands in, but cannot reach by its name, is not shown: the command starts at the root."""
    inner = folder / "closed" / "inner"
    inner.mkdir(parents=True)
    (folder / "closed").chmod(0o700)  # root's
    p = cordon(inner, "--", "pwd")
    assert (p.returncode, p.stdout, p.stderr) == (0, "/\n", "")
