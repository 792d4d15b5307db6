"""The memory manager's C tests (native/tests/test_mm*.c), with and without sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(out: Path, name: str, flags: tuple[str, ...]) -> Path:
    program = out / name
    sources = [
        *sorted((NATIVE / "mm").glob("*.c")),
        NATIVE / "tests" / "mm_fake.c",
        NATIVE / "tests" / f"{name}.c",
    ]
    command = [
        "gcc",
        "-std=gnu11",
        "-D_GNU_SOURCE=",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
        *flags,
    ]
    done = subprocess.run(
        [*command, "-o", str(program), *map(str, sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("flags", [(), SANITIZE], ids=["plain", "sanitized"])
@pytest.mark.parametrize("command", [("test_mm",), ("test_mm_random", "4000")], ids=lambda c: c[0])
def test_memory_manager(tmp_path: Path, command: tuple[str, ...], flags: tuple[str, ...]) -> None:
    program = build(tmp_path, command[0], flags)
    env = {**os.environ, "ASAN_OPTIONS": "hard_rss_limit_mb=4000"}
    done = subprocess.run(
        [str(program), *command[1:]], capture_output=True, text=True, timeout=300, check=False, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr  # the seed is in stdout
