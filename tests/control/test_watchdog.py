"""The watchdog: a gofer that does not answer makes a task stick in the kernel."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.control.harness import ControlError, Sandbox

LOOK = ["sh", "-c", "while :; do ls /etc > /dev/null; sleep 0.05; done"]


def gofer_pids(s: Sandbox) -> list[int]:
    pid = s.gofer.process.pid
    inner = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, inner)]


def stop(s: Sandbox, sig: int) -> None:
    import os

    for pid in gofer_pids(s):
        os.kill(pid, sig)


def test_a_stuck_task_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox(tmp_path, LOOK, spec={"watchdog": 1}) as s, s.connect() as e:
        s.line.ready()
        ident = e.request("events", {})
        e.call("containers", {})
        stop(s, signal.SIGSTOP)
        time.sleep(4)
        stop(s, signal.SIGCONT)
        event = e.next_for(ident)["event"]
        assert event["event"] == "stuck"
        assert event["pid"] > 1
        assert event["seconds"] >= 1
        assert event["call"].partition("(")[0] in (
            "open",
            "openat",
            "stat",
            "newfstatat",
            "lstat",
            "getdents64",
            "execve",
            "statx",
        )
        assert any("thread" in line for line in event["stack"])
        assert s.run(["echo", "on"])[1] == "on\n"
    assert "the kernel has been busy for" in capfd.readouterr().err


def test_a_stuck_task_ends_the_sandbox_by_flag(tmp_path: Path) -> None:
    with Sandbox(tmp_path, LOOK, spec={"watchdog": 1, "watchdog_ends": True}) as s:
        s.line.ready()
        stop(s, signal.SIGSTOP)
        with pytest.raises(ControlError, match="the sandbox was ended because its kernel was stuck for"):
            s.line.wait("c")
        s.sentry.wait(10)
        stop(s, signal.SIGCONT)
