"""Nothing outlives a sandbox, however it ended: processes, mounts, files, descriptors."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import ROOT, Sandbox
from tests.leaks.processes import Quarters, descendants, in_sessions, stat_fields, wait_until_gone

pytestmark = pytest.mark.slow

SANDBOXES = int(os.environ.get("CORDON_LEAK_SANDBOXES", "1000"))
BATCHES = int(os.environ.get("CORDON_LEAK_BATCHES", "10"))
AT_A_TIME = 20
#: Of a process's flags in /proc/PID/stat: it is on its way out.
PF_EXITING = 4


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
def test_started_and_stopped(sandbox: Sandbox, quarters: Quarters) -> None:
    sessions = []
    for i in range(SANDBOXES):
        p = start(sandbox, ["sh", "-c", f"exit {i % 100}"])
        assert p.wait(60) == i % 100
        sessions.append(p.pid)
        assert not in_sessions([p.pid]), "something is left when the front has ended"
    assert not wait_until_gone(sessions)
    assert quarters.changes() == {}
    assert os.listdir(sandbox.cwd) == []


@pytest.mark.timeout(1200)
def test_killed_at_any_moment(sandbox: Sandbox, quarters: Quarters) -> None:
    """Twenty at a time; SIGKILL for a process of each, after a random time: front, sentry, gofer, a helper."""
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    r = random.Random(seed)
    command = ["bash", "-c", "for i in 1 2 3; do sleep 100 & done; (cat /dev/zero >/dev/null) & wait"]
    for _ in range(BATCHES):
        fronts = [start(sandbox, command) for _ in range(AT_A_TIME)]
        try:
            struck = strike(fronts, r)
            for p in fronts:
                try:
                    p.wait(60)  # many die at a time, on a machine that may have other things to do
                except subprocess.TimeoutExpired:
                    pytest.fail(f"seed {seed}: {struck[p.pid]} was killed, still there: {tree(p.pid)}")
        finally:
            for p in fronts:
                p.kill()
                p.wait()
        assert not wait_until_gone([p.pid for p in fronts], 30), f"seed {seed}"
    assert quarters.changes() == {}


def strike(fronts: list[subprocess.Popen[bytes]], r: random.Random) -> dict[int, str]:
    """Kills one process of each within 2.5 s, and the front where that was a guest's: such a sandbox may rightly go on.

    Returns what was killed, by the front's PID.
    """
    struck = {}
    moments = sorted(((r.uniform(0, 2.5), p) for p in fronts), key=lambda m: m[0])
    began = time.monotonic()
    for moment, p in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victim = r.choice([p.pid, *descendants(p.pid)])
        name = name_of(victim) if lives(victim) else ""
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        struck[p.pid] = f"{victim} {name!r}"
        if name in ("cordon-stub", ""):
            p.kill()
    return struck


def lives(pid: int) -> bool:
    """Whether a SIGKILL can still end it. A probe that is about to have ended has done its work: its sandbox may go on."""
    fields = stat_fields(str(pid))
    return bool(fields) and not int(fields[6]) & PF_EXITING


def tree(pid: int) -> list[str]:
    """A process and its descendants: PID, name, and where each sleeps in the kernel."""
    lines = []
    for member in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            lines.append(f"{member} {name_of(member)} {Path(f'/proc/{member}/wchan').read_text()}")
    return lines


SILENT = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from cordon import spawn
spawn.GOFER_TIMEOUT = 1
from cordon.__main__ import main
sys.exit(main())
"""


def test_silent_gofer(sandbox: Sandbox) -> None:
    """A gofer that does not answer ends the sandbox with one sentence."""
    python = ROOT / ".venv" / "bin" / "python"
    command = ["do", "--platform", sandbox.platform, "--", "sh", "-c", "echo ready; read line; ls -R /usr/share/doc"]
    with subprocess.Popen(
        [python, "-I", "-c", SILENT, str(ROOT), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == b"ready\n"
        [gofer] = [c for d in children(p.pid) for c in children(d) if not children(c)]
        os.kill(gofer, signal.SIGSTOP)
        _, err = p.communicate(b"go\n", timeout=20)
        assert p.returncode == 70
        assert err == b"cordon: the gofer failed: it does not answer\n"
    assert not wait_until_gone([p.pid], 5)


def cpu_ticks(pid: int) -> int:
    """CPU time of a process so far, in clock ticks of 10 ms."""
    fields = stat_fields(str(pid))
    return int(fields[11]) + int(fields[12])


def test_idle_uses_no_cpu(sandbox: Sandbox) -> None:
    """Over three seconds of a sleeping guest; then Ctrl-C (SIGINT to the front) ends it promptly."""
    with subprocess.Popen(
        sandbox.argv(["sh", "-c", "echo ready; exec sleep 100"]), stdout=subprocess.PIPE, start_new_session=True
    ) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == b"ready\n"
        time.sleep(2)
        everyone = [p.pid, *descendants(p.pid)]
        before = {pid: cpu_ticks(pid) for pid in everyone}
        time.sleep(3)
        assert sum(cpu_ticks(pid) - before[pid] for pid in everyone) <= 1
        began = time.monotonic()
        p.send_signal(signal.SIGINT)
        assert p.wait(10) == 128 + signal.SIGINT
        assert time.monotonic() - began < 3
    assert not wait_until_gone([p.pid], 5)


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
            "mother": children(children(sentry)[0])[0],  # the first stub: all others are made by it
        }
        os.kill(pids[victim], signal.SIGKILL)
        assert p.wait(20) != 0
        message = p.stderr.read()
    assert not wait_until_gone([p.pid], 5)
    if victim != "front":
        assert message.count(b"\n") == 1, message
        assert message.startswith(b"cordon: "), message


def name_of(pid: int) -> str:
    """What the process calls itself; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def parent(pid: int) -> int:
    """0: it has gone."""
    fields = stat_fields(str(pid))
    return int(fields[1]) if fields else 0


def children(pid: int) -> list[int]:
    return sorted(d for d in descendants(pid) if parent(d) == pid)
