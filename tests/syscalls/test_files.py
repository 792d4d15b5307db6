"""Guest programs about files print what each call answers; native and sandboxed runs must print the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c, native

GUEST = Path(__file__).parent.parent / "guest"
QUIET = (
    "-Wno-unused-result",
    "-Wno-nonnull",
    "-Wno-format-overflow",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
)


def same_answers(sandbox: Sandbox, tmp_path: Path, name: str, shared: bool) -> None:
    """shared: the sandbox's directory is the host's, writable, instead of an overlay."""
    here, there = tmp_path / "native", tmp_path / "sandboxed"
    for directory in (here, there):
        directory.mkdir()
    program = compile_c(GUEST / f"{name}.c", here / name, *QUIET)
    (there / name).write_bytes(program.read_bytes())
    (there / name).chmod(0o755)
    theirs = native([f"./{name}"], here)
    sandbox.cwd = there
    options = ["--mount", f"{there}:{there}:rw"] if shared else []
    ours = sandbox.run([f"./{name}"], options, timeout=60)
    assert theirs.status == 0
    assert ": FAILED " not in theirs.out
    assert ours.out.splitlines() == theirs.out.splitlines()
    assert ours.status == theirs.status


@pytest.mark.root
@pytest.mark.parametrize("name", ["vfs_open", "vfs_names", "vfs_io", "vfs_events", "vfs_rungs", "vfs_reopen"])
def test_overlay(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    same_answers(sandbox, tmp_path, name, False)


# Without vfs_open (no O_TMPFILE over 9P) and vfs_names (9P's times are unsigned).
@pytest.mark.root
@pytest.mark.parametrize("name", ["vfs_io", "vfs_events", "vfs_rungs", "vfs_reopen"])
def test_shared_mount(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    same_answers(sandbox, tmp_path, name, True)
