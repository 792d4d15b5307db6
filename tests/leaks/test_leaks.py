"""Nothing outlives a sandbox, however it ended: processes, mounts, files, descriptors."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from tests.harness import Sandbox
from tests.leaks.processes import descendants, host_state, in_sessions, wait_until_gone

SANDBOXES = int(os.environ.get("CORDON_LEAK_SANDBOXES", "1000"))
BATCHES = int(os.environ.get("CORDON_LEAK_BATCHES", "10"))
AT_A_TIME = 20


def start(sandbox: Sandbox, command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        sandbox.argv(command),
        cwd=sandbox.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.timeout(1800)
def test_started_and_stopped(sandbox: Sandbox) -> None:
    before = host_state()
    sessions = []
    for i in range(SANDBOXES):
        p = start(sandbox, ["sh", "-c", f"exit {i % 100}"])
        assert p.wait(60) == i % 100
        sessions.append(p.pid)
        assert not in_sessions([p.pid]), "something is left when the front has ended"
    assert not wait_until_gone(sessions)
    assert host_state() == before
    assert os.listdir(sandbox.cwd) == []


@pytest.mark.timeout(1200)
def test_killed_at_any_moment(sandbox: Sandbox) -> None:
    """Twenty at a time; SIGKILL for a process of each, after a random time: front, sentry, gofer, a helper."""
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    r = random.Random(seed)
    before = host_state()
    command = ["bash", "-c", "for i in 1 2 3; do sleep 100 & done; (cat /dev/zero >/dev/null) & wait"]
    for _ in range(BATCHES):
        fronts = [start(sandbox, command) for _ in range(AT_A_TIME)]
        moments = sorted((r.uniform(0, 2.5), p) for p in fronts)
        began = time.monotonic()
        for moment, p in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            victim = r.choice([p.pid, *descendants(p.pid)])
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                p.kill()
        for p in fronts:
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                # Its victim was a guest's stub: the sandbox goes on without that process, rightly.
                p.kill()
                p.wait(20)
        assert not wait_until_gone([p.pid for p in fronts]), f"seed {seed}"
    assert host_state() == before


@pytest.mark.parametrize("victim", ["front", "sentry", "gofer", "inner sentry", "inner gofer", "mother"])
def test_each_process_killed(sandbox: Sandbox, victim: str) -> None:
    with subprocess.Popen(
        sandbox.argv(["sh", "-c", "echo ready; sleep 100"]),
        cwd=sandbox.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as p:
        assert p.stdout is not None
        assert p.stderr is not None
        assert p.stdout.readline() == b"ready\n"
        sentry, gofer = sorted(d for d in descendants(p.pid) if parent(d) == p.pid)
        pids = {
            "front": p.pid,
            "sentry": sentry,
            "gofer": gofer,
            "inner sentry": children(sentry)[0],
            "inner gofer": children(gofer)[0],
            "mother": children(children(sentry)[0])[0],
        }
        os.kill(pids[victim], signal.SIGKILL)
        assert p.wait(20) != 0
        message = p.stderr.read()
    assert not wait_until_gone([p.pid], 5)
    if victim != "front":
        assert message.count(b"\n") == 1, message
        assert message.startswith(b"cordon: "), message


def parent(pid: int) -> int:
    from tests.leaks.processes import stat_fields

    return int(stat_fields(str(pid))[1])


def children(pid: int) -> list[int]:
    return sorted(d for d in descendants(pid) if parent(d) == pid)
