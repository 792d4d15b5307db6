"""Pipes, terminals, sockets and event files: guest programs print the same natively and in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c, native

GUEST = Path(__file__).parent.parent / "guest"
QUIET = ("-Wno-unused-result", "-Wno-nonnull", "-Wno-stringop-overflow", "-Wno-stringop-overread", "-Wno-incompatible-pointer-types")


@pytest.mark.root
@pytest.mark.parametrize("name", ["pipes", "ptys", "unix_sockets", "event_files"])
def test_same_answers(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    here, there = tmp_path / "native", tmp_path / "sandboxed"
    for directory in (here, there):
        directory.mkdir()
    program = compile_c(GUEST / f"{name}.c", here / name, *QUIET)
    (there / name).write_bytes(program.read_bytes())
    (there / name).chmod(0o755)
    theirs = native([f"./{name}"], here)
    sandbox.cwd = there
    ours = sandbox.run([f"./{name}"], timeout=60)
    assert theirs.status == 0
    assert ours.out.splitlines() == theirs.out.splitlines()
    assert ours.status == theirs.status
