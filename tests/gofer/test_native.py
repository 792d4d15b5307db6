"""The C unit tests of native/gofer, under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "native"
FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE=",
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-Wall",
    "-Wextra",
    f"-I{NATIVE}",
]


def test_unit_tests_pass_under_the_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "test_gofer"
    sources = [NATIVE / "tests" / "test_gofer.c", *sorted((NATIVE / "gofer").glob("*.c")), *sorted((NATIVE / "trace").glob("*.c"))]
    subprocess.run(["gcc", *FLAGS, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ok answers"
