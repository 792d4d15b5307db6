"""`cordon do --profile`: the trace loads, and its slices nest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cordon import profile
from tests.harness import CORDON, ROOT, native

NAMES = {0: "read", 1: "write"}


def nested(events: list[dict[str, Any]]) -> None:
    """No two slices of one thread cross."""
    by: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for e in events:
        if e["ph"] == "X":
            assert e["dur"] >= 0
            by.setdefault((e["pid"], e["tid"]), []).append((e["ts"], e["ts"] + e["dur"]))
    for spans in by.values():
        open_until: list[float] = []
        for start, end in sorted(spans, key=lambda s: (s[0], -s[1])):
            while open_until and start >= open_until[-1] - 0.0005:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 0.0005
            open_until.append(end)


def record(now: int, phase: int, nr: int = 0xFFFF, reason: int = 0, result: int = 0) -> tuple[int, ...]:
    return (now, 7, nr, phase, reason, 1, 2, 3, result)


def test_phases_of_a_call() -> None:
    records = [
        (0, 7, 0xFFFF, profile.NAME, 0, 5, 6, int.from_bytes(b"program\0", "little"), 0),
        record(1000, profile.GUEST),
        record(2000, profile.STOP, 1, 1),
        record(2500, profile.LOCK),
        record(2600, profile.KERNEL),
        record(3000, profile.GOFER),
        record(7000, profile.KERNEL),
        record(7500, profile.GUEST, result=-2),
        record(8000, profile.STOP, 0, 1),
        record(8200, profile.GUEST, result=1),
    ]
    events = list(profile.events(iter(records), NAMES))
    nested(events)
    call = next(e for e in events if e["name"] == "write")
    assert (call["pid"], call["tid"], call["ts"], call["dur"]) == (5, 6, 2.0, 5.5)
    assert call["args"]["result"] == -2 and call["args"]["rung"] == 2
    assert call["args"]["us"] == {"rung 1 (C)": 0.5, "kernel lock": 0.1, "rung 2 (Python)": 0.9, "gofer": 4.0}
    assert next(e for e in events if e["name"] == "read")["args"]["rung"] == 1
    assert [e["args"]["name"] for e in events if e["name"] == "thread_name"] == ["program"]


@pytest.mark.root
def test_of_a_program(tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    script = "ls / >/dev/null; (echo a; sleep 0.01) | cat"
    done = native([CORDON, "do", "--profile", str(target), "--", "/bin/sh", "-c", script], tmp_path)
    assert done.status == 0, done.err
    events = json.loads(target.read_text())["traceEvents"]
    nested(events)
    names = {e["name"] for e in events}
    assert {"guest", "execve", "write", "gofer", "rung 2 (Python)", "sleep"} <= names
    assert {"ls", "cat"} <= {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert any(e.get("args", {}).get("rung") == 1 for e in events)


def test_bad_file() -> None:
    done = native([CORDON, "do", "--profile", "/no/such/file", "--", "/bin/true"], ROOT)
    assert done.status != 0 and "profile /no/such/file: no such file or directory" in done.err
