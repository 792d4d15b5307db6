"""Guest programs about futexes, sleeping, clocks and timers: the same lines natively and in the sandbox, none of them a failed check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c

GUEST = Path(__file__).parent.parent / "guest"


@pytest.mark.parametrize("name", ["futexes", "sleeps", "clocks", "notices"])
def test_guest_program(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    compile_c(GUEST / f"{name}.c", tmp_path / name, "-pthread", "-w")
    result = sandbox.same([f"./{name}"])
    assert result.status == 0
    assert "FAILED" not in result.out
