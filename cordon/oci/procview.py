"""The guest's processes as files, for engines that list them by reading /proc in the container's mount namespace (podman top).

A tmpfs in the window (cordon/oci/namespaces.py) has a directory for each guest process with what such tools read. It is written anew
each time somebody opens it: the opener waits for that, so it never sees a list from before.
"""

from __future__ import annotations

import os
import time
from typing import Any

from cordon.oci.errors import log
from native._core import lib

TICK = 10_000_000  # nanoseconds, of the 1/100 s in /proc/PID/stat
SIZE = b"mode=0755,size=16m"
#: Of the machine, as they are: for the start times of processes.
COPIED = ("stat", "uptime", "meminfo", "version")


class ProcView:
    """The tmpfs, and the descriptor that tells of openers."""

    def __init__(self, pid_namespace: str) -> None:
        self.pid_namespace = pid_namespace
        #: Readable when somebody waits; -1: there is no view.
        self.fd = -1
        self.directory = -1
        self.shown: set[str] = set()
        self.host = {name: read(f"/proc/{name}") for name in COPIED}

    def open(self, place: str) -> None:
        """Mounts it at a place in the window. Engines see an empty directory where this can't be done."""
        r = int(lib.cn_mount(b"cordon", os.fsencode(place), b"tmpfs", MOUNT_FLAGS, SIZE))
        if r < 0:
            log.write("debug", f"engines will not see {place}: {os.strerror(-r)}")
            return
        self.directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name, data in self.host.items():
            self.write(self.directory, name, data)
        fd = int(lib.cn_opens_watch(self.directory))
        if fd < 0:
            log.write("debug", f"engines will not see the guest's processes: {os.strerror(-fd)}")
            return
        self.fd = fd

    def refresh(self, processes: list[dict[str, Any]]) -> None:
        """Shows these (as the control protocol's `ps` tells them), then lets the waiting openers go on."""
        try:
            now = {str(int(p["pid"])) for p in processes}
            for gone in self.shown - now:
                self.hide(gone)
            for p in processes:
                self.show(p)
            self.shown = now
        except (OSError, KeyError, TypeError, ValueError) as e:
            log.write("warning", f"the list of processes for engines: {e}")

    def allow(self) -> None:
        lib.cn_opens_allow(self.fd)

    def show(self, p: dict[str, Any]) -> None:
        name = str(int(p["pid"]))
        if name not in self.shown:
            os.mkdir(name, 0o755, dir_fd=self.directory)
        where = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory
        )
        try:
            if name not in self.shown:
                os.mkdir("ns", 0o755, dir_fd=where)
                os.mkdir("attr", 0o755, dir_fd=where)
                os.symlink(self.pid_namespace, "ns/pid", dir_fd=where)
                self.write(where, "attr/current", b"unconfined\n")
            self.write(where, "cmdline", b"".join(encode(a) + b"\0" for a in p.get("args", [])))
            self.write(where, "comm", encode(p["command"]) + b"\n")
            self.write(where, "stat", stat_line(p))
            self.write(where, "status", status_text(p))
        finally:
            os.close(where)

    def hide(self, name: str) -> None:
        for file in (*FILES, "ns/pid", "attr/current"):
            os.unlink(f"{name}/{file}", dir_fd=self.directory)
        for directory in (f"{name}/ns", f"{name}/attr", name):
            os.rmdir(directory, dir_fd=self.directory)

    def write(self, where: int, name: str, data: bytes) -> None:
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=where
        )
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


FILES = ("cmdline", "comm", "stat", "status")
MOUNT_FLAGS = 2 | 4 | 8  # nosuid, nodev, noexec


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read(1 << 20)
    except OSError:
        return b""


def encode(text: Any) -> bytes:
    return str(text).encode("utf-8", "surrogateescape")[:4096]


def stat_line(p: dict[str, Any]) -> bytes:
    """proc_pid_stat(5); what isn't known is 0."""
    fields = [0] * 52
    fields[3:7] = [int(p["ppid"]), int(p["pgid"]), int(p["sid"]), terminal(p.get("tty"))]
    fields[7] = -1
    fields[13], fields[14] = int(p["utime_ns"]) // TICK, int(p["stime_ns"]) // TICK
    fields[17], fields[19] = 20, int(p.get("threads", 1))
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    fields[21] = max(0, int(p["start_ns"]) - boot) // TICK
    fields[23] = int(p["rss_bytes"]) >> 12
    tail = " ".join(str(n) for n in fields[3:])
    comm = encode(p["command"])[:15].replace(b"\n", b" ")
    return b"%d (%b) %b %b\n" % (int(p["pid"]), comm, encode(p["state"])[:1], tail.encode())


def terminal(name: Any) -> int:
    """The device number of a terminal by its name below /dev, 0 for none."""
    kind, _, number = str(name or "").removeprefix("/dev/").partition("/")
    if kind == "pts" and number.isdigit():
        return 136 << 8 | int(number)
    return 5 << 8 | 1 if kind == "console" else 0


def status_text(p: dict[str, Any]) -> bytes:
    """The part of proc_pid_status(5) that tools read."""
    pid, uid, gid = int(p["pid"]), int(p["uid"]), int(p["gid"])
    rows = [
        (b"Name", encode(p["command"])[:15].replace(b"\n", b" ")),
        (b"State", encode(p["state"])[:1]),
        (b"Tgid", b"%d" % pid),
        (b"Pid", b"%d" % pid),
        (b"PPid", b"%d" % int(p["ppid"])),
        (b"Uid", b"\t".join([b"%d" % uid] * 4)),
        (b"Gid", b"\t".join([b"%d" % gid] * 4)),
        (b"Groups", b""),
        (b"NSpid", b"%d" % pid),
        (b"VmRSS", b"%d kB" % (int(p["rss_bytes"]) >> 10)),
        (b"Threads", b"%d" % int(p.get("threads", 1))),
    ]
    return b"".join(name + b":\t" + value + b"\n" for name, value in rows)
