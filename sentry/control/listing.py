"""What the control protocol tells of processes and of the use of resources. With K held."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from sentry.errors import Errno
from sentry.fs.proc import memory, status
from sentry.fs.tty.pty import Pty
from sentry.mm import memfile

if TYPE_CHECKING:
    from sentry.kernel.container import Container, Record
    from sentry.kernel.threadgroup import ThreadGroup

MAX_ARGS: Final = 256  # words of a command line that are told
KIB: Final = 1024


def text(b: bytes) -> str:
    return os.fsdecode(b)


def terminal(tg: ThreadGroup) -> str:
    """The controlling terminal, as ps(1) shows it."""
    tty = tg.pgrp.session.tty
    if tty is None:
        return "?"
    return f"pts/{tty.index}" if isinstance(tty, Pty) else "console"


def arguments(tg: ThreadGroup) -> list[str]:
    """The command line, none of a zombie."""
    try:
        line = memory.cmdline(tg.main, tg.main)
    except Errno:
        return []
    words = line.split(b"\0")
    if words and not words[-1]:
        words.pop()
    return [text(w) for w in words[:MAX_ARGS]]


def describe(tg: ThreadGroup) -> dict[str, Any]:
    """One process."""
    t = tg.main
    utime, stime = tg.cpu_ns()
    return {
        "pid": tg.pid,
        "ppid": tg.parent.pid if tg.parent is not None else 0,
        "pgid": tg.pgrp.pgid,
        "sid": tg.pgrp.session.sid,
        "uid": t.creds.euid,
        "gid": t.creds.egid,
        "command": text(t.comm),
        "args": arguments(tg),
        "state": text(status.state_letter(t)),
        "threads": len(tg.tasks),
        "tty": terminal(tg),
        "start_ns": t.start_time - tg.kernel.boot_monotonic + tg.kernel.boot_realtime,
        "utime_ns": utime,
        "stime_ns": stime,
        "rss_bytes": status.resident(t),
    }


def peak(record: Record) -> int:
    """The most memory in use: of the whole sandbox for a container's init, of the process alone for others."""
    if record.init:
        return memfile.peak()
    return record.usage.maxrss * KIB if record.usage is not None else 0


def stats(container: Container) -> dict[str, Any]:
    """The use of resources."""
    user, system = container.cpu_ns()
    return {
        "cpu": {"user_ns": user, "system_ns": system},
        "memory": {
            "usage": container.memory_used(),
            "peak": memfile.peak(),
            "limit": container.memory_limit or container.kernel.memory_limit,
            "oom_kills": container.oom_kills,
        },
        "pids": {"current": container.tasks, "limit": container.pids_limit},
    }
