"""Starts a real sentry and gofer with a control socket, as the front does, and gives connections to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cordon.control import Connection, ControlError

ROOT = Path(__file__).resolve().parents[2]
PREFIX = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
SENTRY = PREFIX + "from sentry.main import main; import os; os._exit(main(int(sys.argv[1])))"
GOFER = PREFIX + "from gofer.main import main; sys.exit(main(sys.argv))"
ENV = ["PATH=/bin:/usr/bin", "HOME=/"]


def make_root(path: Path) -> Path:
    """A root with busybox and the libraries that it needs."""
    for d in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (path / d).mkdir(parents=True)
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, path / "bin/busybox")
    for applet in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet != "busybox":
            (path / "bin" / applet).symlink_to("busybox")
    for word in subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False).stdout.split():
        if word.startswith("/"):
            (path / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, path / word[1:])
    return path


def document(data: bytes) -> int:
    """An inheritable descriptor from which these bytes can be read."""
    fd = os.memfd_create("document")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Gofer:
    """A gofer that serves directories; `sockets` are the sentry's ends."""

    def __init__(self, *exports: tuple[Path, bool]) -> None:
        """exports: directory, read-only."""
        pairs = [socket.socketpair() for _ in exports]
        self.sockets = [ours for ours, _ in pairs]
        theirs = [other for _, other in pairs]
        spec = {
            "exports": [
                {"source": str(path), "fd": sock.fileno(), "readonly": readonly}
                for (path, readonly), sock in zip(exports, theirs, strict=True)
            ]
        }
        fd = document(json.dumps(spec).encode())
        fds = [fd, *(s.fileno() for s in theirs)]
        self.process = subprocess.Popen([sys.executable, "-I", "-c", GOFER, str(fd)], pass_fds=fds)
        os.close(fd)
        for s in theirs:
            s.close()

    def close(self) -> None:
        for s in self.sockets:
            s.close()
        self.process.kill()
        self.process.wait()


def mounts() -> list[dict[str, Any]]:
    return [
        {"type": "proc", "dst": "/proc"},
        {"type": "tmpfs", "dst": "/dev", "flags": ["nosuid"], "options": "mode=755,size=65536k"},
        {"type": "devpts", "dst": "/dev/pts", "options": "newinstance,ptmxmode=0666,mode=0620,gid=5"},
        {"type": "tmpfs", "dst": "/dev/shm", "options": "mode=1777"},
        {"type": "mqueue", "dst": "/dev/mqueue"},
        {"type": "sysfs", "dst": "/sys", "flags": ["ro"]},
    ]


def process(args: Sequence[str], **more: Any) -> dict[str, Any]:
    """A process spec whose standard streams are the first three descriptors that are sent."""
    return {"args": list(args), "env": ENV, "cwd": "/", "stdio": [0, 1, 2], **more}


class Sandbox:
    """A sandbox with one container "c". Use as a context manager; nothing is left afterwards."""

    def __init__(self, tmp: Path, args: Sequence[str], start: bool = True, **options: Any) -> None:
        """options: `spec`, `container` and `process` are merged into the documents; `stdio`: descriptors of the first process."""
        self.tmp = tmp
        self.path = str(tmp / "control.sock")
        root = tmp / "root"
        self.root = root if root.exists() else make_root(root)
        self.gofer = Gofer((self.root, False))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        ours, theirs = socket.socketpair()
        self.line = Connection(ours)
        self.output: list[bytes] = []
        stdio = options.get("stdio")
        out = -1
        if stdio is None:
            null = os.open("/dev/null", os.O_RDONLY)
            out, write = os.pipe()
            stdio = [null, write, write]
        container = {
            "id": "c",
            "hostname": "box",
            "root": {"type": "gofer", "dst": "/", "fd": self.gofer.sockets[0].fileno()},
            "mounts": mounts(),
            **options.get("container", {}),
            "process": {**process(args), "stdio": stdio, **options.get("process", {})},
        }
        spec = {
            "platform": "ptrace",
            "control": theirs.fileno(),
            "listen": self.listener.fileno(),
            "start": start,
            "container": container,
            **options.get("spec", {}),
        }
        fd = document(json.dumps(spec).encode())
        fds = {
            fd,
            theirs.fileno(),
            self.listener.fileno(),
            self.gofer.sockets[0].fileno(),
            *stdio,
            *options.get("fds", []),
        }
        self.sentry = subprocess.Popen([sys.executable, "-I", "-c", SENTRY, str(fd)], pass_fds=sorted(fds))
        os.close(fd)
        theirs.close()
        self.gofer.sockets[0].close()
        self.listener.close()
        if out >= 0:
            for f in set(stdio):
                os.close(f)
            self.reader = threading.Thread(target=self.read_output, args=(out,))
            self.reader.start()

    def read_output(self, fd: int) -> None:
        while data := os.read(fd, 4096):
            self.output.append(data)
        os.close(fd)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()
        try:
            self.sentry.wait(10)
        finally:
            self.sentry.kill()
            self.sentry.wait()
            self.gofer.close()

    def text(self) -> str:
        """All that the first process wrote, once it has ended."""
        self.reader.join(10)
        return b"".join(self.output).decode()

    def connect(self) -> Connection:
        return Connection.open(self.path)

    def run(
        self, args: Sequence[str], data: bytes = b"", container: str = "c", **more: Any
    ) -> tuple[dict[str, Any], str]:
        """exec: how it ended, and what it wrote."""
        source, feed = os.pipe()
        out, write = os.pipe()
        os.write(feed, data)
        os.close(feed)
        with self.connect() as c:
            try:
                pid = c.exec(container, process(args, **more), [source, write, write])
            finally:
                os.close(source)
                os.close(write)
            text = b""
            while got := os.read(out, 4096):
                text += got
            os.close(out)
            return c.wait(container, pid), text.decode()


__all__ = ["Connection", "ControlError", "Gofer", "Sandbox", "make_root", "mounts", "process"]
