"""Guest programs about processes and signals: the same lines natively and in the sandbox, none of them a failed check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c

GUEST = Path(__file__).parent.parent / "guest"


@pytest.mark.parametrize("name", ["signals", "process", "exec", "seccomp", "ptrace", "threads", "memory", "actions"])
def test_guest_program(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    compile_c(GUEST / f"{name}.c", tmp_path / name, "-pthread", "-w")
    result = sandbox.same([f"./{name}"])
    assert result.status == 0
    assert "FAIL" not in result.out


@pytest.mark.root
@pytest.mark.parametrize("name", ["facts", "rights"])
def test_guest_program_of_root(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """What a process is told and allowed, as root and after giving that up."""
    compile_c(GUEST / f"{name}.c", tmp_path / name, "-pthread", "-w")
    result = sandbox.same([f"./{name}"])
    assert result.status == 0
    assert ": FAILED" not in result.out


def test_core_file(sandbox: Sandbox) -> None:
    """RLIMIT_CORE decides whether a fatal signal leaves an ELF core file behind (not compared: the host's core_pattern may pipe it)."""
    script = "ulimit -c {}; sleep 9 & kill -SEGV $!; wait $!; echo $?; od -An -tx1 -N4 core"
    assert sandbox.run(["bash", "-c", script.format("unlimited")]).out == "139\n 7f 45 4c 46\n"
    assert sandbox.run(["bash", "-c", script.format("0")]).out == "139\n"
