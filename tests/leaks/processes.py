"""Who is there: processes of a session, and what the host holds."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self


def stat_fields(pid: str) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, ppid, pgrp, session."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def in_sessions(sessions: Iterable[int]) -> list[int]:
    """Processes (zombies too) of the sessions; everything below a front stays in its session unless it was exec'ed to leave it."""
    wanted = {str(s) for s in sessions}
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and (f := stat_fields(p)) and f[3] in wanted]


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    parents: dict[int, list[int]] = {}
    for p in os.listdir("/proc"):
        if p.isdigit() and (f := stat_fields(p)):
            parents.setdefault(int(f[1]), []).append(int(p))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


def wait_until_gone(sessions: Iterable[int], seconds: float = 10) -> list[int]:
    """What is left of the sessions after at most that time."""
    sessions = list(sessions)
    deadline = time.monotonic() + seconds
    while (left := in_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


class Quarters:
    """Where a test's sandboxes live: mount and IPC namespaces, /run and /dev/shm that nobody else uses.

    What `changes` tells is then their doing, whatever else goes on on the machine. An ordinary user has the host's own.
    """

    SETUP = "mount --make-rshared / && mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && echo ready && exec cat"

    def __init__(self) -> None:
        self.keeper: subprocess.Popen[bytes] | None = None
        self.proc = Path("/proc/self")
        if os.geteuid() == 0:
            argv = ["unshare", "--mount", "--ipc", "--propagation", "private", "sh", "-c", self.SETUP]
            self.keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self.keeper.stdout is not None
            assert self.keeper.stdout.readline() == b"ready\n"
            self.proc = Path(f"/proc/{self.keeper.pid}")
        self.before = self.state()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.keeper is not None:
            self.keeper.communicate()

    def enter(self, cwd: Path) -> list[str]:
        """What starts a command there."""
        if self.keeper is None:
            return []
        return ["nsenter", f"--mount={self.proc}/ns/mnt", f"--ipc={self.proc}/ns/ipc", f"--wdns={cwd}", "--"]

    def changes(self) -> dict[str, list[str]]:
        """What sandboxes left behind besides processes, or took away; "+" and "-" before it. Empty: nothing."""
        found: dict[str, list[str]] = {}
        for kind, now in self.state().items():
            gone: Iterator[str] = (self.before[kind] - now).elements()
            if kind == "mounts":  # a mount also goes when somebody removes its mount point, in whatever namespace
                gone = filter(lambda path: os.path.lexists(f"{self.proc}/root{path}"), gone)
            changed = [f"+{x}" for x in (now - self.before[kind]).elements()] + [f"-{x}" for x in gone]
            if changed:
                found[kind] = changed
        return found

    def state(self) -> dict[str, Counter[str]]:
        root = self.proc / "root"
        sysv = ["cat", "/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"]
        listed = subprocess.run([*self.enter(Path("/")), *sysv], capture_output=True, text=True, check=False).stdout
        return {
            "mounts": Counter(line.split()[4] for line in (self.proc / "mountinfo").read_text().splitlines()),
            "descriptors": Counter(os.listdir("/proc/self/fd")),
            "shm": Counter(os.listdir(root / "dev/shm")),
            "run": Counter(os.listdir(root / "run")),
            "sysv": Counter(listed.splitlines()),
        }
