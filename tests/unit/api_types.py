"""Pins the public interface: `mypy --strict` must accept this file (tests/unit/test_api_types.py)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Literal, assert_type

import cordon

r = cordon.run(["echo", b"x", Path("y")])
assert_type(r, cordon.Result[bytes])
assert_type(r.stdout, bytes | None)
t = cordon.run(
    ("echo",),
    input="text",
    capture_output=True,
    text=True,
    timeout=1.5,
    check=False,
    env=dict(os.environ),
    cwd=Path("/"),
    memory="1G",
    pids=3,
    mounts=["/a:/b", cordon.Mount("/a", "/b", writable=True)],
    root="/",
    user="1:2",
    hostname="h",
    platform="ptrace",
    strace=False,
    debug_log=None,
)
assert_type(t, cordon.Result[str])
assert_type(t.stderr, str | None)
assert_type(t.returncode, int)
assert_type(t.signal, int)
assert_type(t.verdict, Literal["ok", "exit", "signal", "timeout", "memory"])
assert_type(t.wall_time, float)
assert_type(t.cpu_time, float)
assert_type(t.peak_memory, int)
assert_type(t.exceeded, list[str])
assert_type(t.args, list[str])
cordon.run(["x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, memory=1 << 20, user=5)
cordon.run(["x"], input="text")  # type: ignore[call-overload]
cordon.run("x", memory=1.5)  # type: ignore[call-overload]
try:
    t.check_returncode()
except cordon.SandboxFailed as failed:
    assert_type(failed.result.returncode, int)
except cordon.CordonError as error:
    assert_type(error.status, int)
assert_type(cordon.__version__, str)
