"""Signals sent to `cordon do` reach the command."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.harness import Sandbox


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"])
def test_forwarded(sandbox: Sandbox, name: str) -> None:
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(sandbox.argv(["bash", "-c", script]), cwd=sandbox.cwd, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == "ready\n"
        p.send_signal(signal.Signals[f"SIG{name}"])
        assert p.communicate(timeout=20)[0] == f"got {name}\n"
        assert p.returncode == 3


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1"])
def test_default_action(sandbox: Sandbox, name: str) -> None:
    sig = signal.Signals[f"SIG{name}"]
    with subprocess.Popen(sandbox.argv(["sh", "-c", "echo ready; exec sleep 100"]), cwd=sandbox.cwd, stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        p.send_signal(sig)
        p.communicate(timeout=20)
        assert p.returncode == 128 + sig


def test_front_killed_ends_all(sandbox: Sandbox) -> None:
    """SIGKILL of the front: stdout closes, because everything that held it is gone."""
    with subprocess.Popen(sandbox.argv(["sh", "-c", "echo ready; exec sleep 100"]), cwd=sandbox.cwd, stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == b"ready\n"
        p.kill()
        assert p.stdout.read() == b""
