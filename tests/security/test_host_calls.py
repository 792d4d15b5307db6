"""strace on a running sentry: none of its calls to the host takes a path, whatever the guest opens, makes or executes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import CORDON

# Starts once it has read a line, so that strace is there first; ends with a mark.
GUEST = """
read go
cd /tmp
mkdir -p guest-dir/sub; ln -s ../../../../etc guest-dir/up; ln -s /proc/self/root/../.. guest-dir/out
cat /etc/passwd guest-dir/up/passwd guest-dir/out/etc/hostname ../../../../etc/hosts /proc/self/maps >/dev/null 2>&1
cp /bin/true guest-dir/program; ./guest-dir/program; mv guest-dir/program guest-dir/renamed; rm guest-dir/renamed
ls -laR /etc >/dev/null 2>&1; echo x >/dev/null; mkfifo guest-dir/fifo; touch guest-dir/file; chmod 600 guest-dir/file
python3 -c '
import mmap, os, socket
s = socket.socket(socket.AF_UNIX); s.bind("guest-dir/socket"); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect("guest-dir/socket")
m = mmap.mmap(os.open("/etc/passwd", 0), 0, prot=mmap.PROT_READ); m[0]
os.openpty(); os.statvfs("/usr"); os.listdir("/sys")
try: os.mount("a", "b", "c", 0)
except AttributeError: pass
'
echo guest-ended
"""


def status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def sentry_of(front: int) -> int:
    """The process that traces a stub below the front, and goes on doing so: the platform's probe does it for a moment."""
    deadline = time.monotonic() + 20
    last = 0
    while time.monotonic() < deadline:
        try:
            for pid in descendants(front):
                tracer = status(pid, "TracerPid")
                if tracer and tracer == last:
                    return status(tracer, "Tgid")
                last = tracer or last
        except FileNotFoundError:
            pass
        time.sleep(0.2)
    raise AssertionError("no sentry with a stub")


def traced(calls: str, log: Path) -> tuple[list[str], str]:
    """The sentry's host calls of a class while the guest runs, and what the guest wrote."""
    with subprocess.Popen(
        [CORDON, "do", "--platform", "ptrace", "--", "bash", "-c", GUEST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as front:
        assert front.stdin is not None
        sentry = sentry_of(front.pid)
        with subprocess.Popen(
            [
                "strace",
                "-f",
                "-qq",
                "-e",
                f"trace={calls}",
                "-e",
                "signal=none",
                "-o",
                str(log),
                "-p",
                str(sentry),
            ],
            stderr=subprocess.PIPE,
        ) as strace:
            deadline = time.monotonic() + 10
            while not all(
                status(int(t.name), "TracerPid") == strace.pid for t in Path(f"/proc/{sentry}/task").iterdir()
            ):
                assert strace.poll() is None, strace.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            out, _ = front.communicate("go\n", timeout=100)
            strace.wait(20)
    lines = [
        line for line in log.read_text().splitlines() if "exited with" not in line and "resumed>" not in line
    ]
    return [line for line in lines if "killed by" not in line], out


@pytest.mark.skipif(
    shutil.which("strace") is None or os.geteuid() != 0, reason="needs strace, and root to attach"
)
@pytest.mark.timeout(240)
def test_no_host_call_takes_a_path(tmp_path: Path) -> None:
    everything, out = traced("all", tmp_path / "all")
    assert out.endswith("guest-ended\n")
    assert any(" ptrace(" in line for line in everything), "strace sees the run loop"
    with_path, out = traced("%file", tmp_path / "file")
    assert out.endswith("guest-ended\n")
    # fstat(2) of a descriptor is newfstatat with an empty path in today's C library; another thread's call may split its line
    begun = [line for line in with_path if " resumed>" not in line]
    assert [x for x in begun if not ('""' in x and ("AT_EMPTY_PATH" in x or "<unfinished" in x))] == []
