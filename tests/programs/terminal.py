"""A terminal in front of a command, for tests: types, waits for what is shown."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Terminal:
    """A command with a pseudo-terminal as its controlling terminal and standard streams."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self.seen = ""
        self.all = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execvpe(argv[0], list(argv), dict(env))
            finally:
                os._exit(127)
        self.resize(rows, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        os.close(self.fd)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, timeout: float = 20) -> str:
        """Waits until the pattern is shown after what was expected before; the matching text."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                raise AssertionError(f"{pattern!r} was not shown; shown was {self.all[-3000:]!r}")
        self.seen = self.seen[match.end() :]
        return match[0]

    def read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        text = data.decode("utf-8", "replace").replace("\x1b[?2004l\r", "").replace("\x1b[?2004h", "")
        self.seen += text
        self.all += text
        return bool(data)

    def wait(self, timeout: float = 20) -> int:
        """Reads to the end; the exit status as a shell says it."""
        status = self.ended(timeout)
        assert status is not None, f"did not end; shown was {self.all[-3000:]!r}"
        return status

    def ended(self, timeout: float) -> int | None:
        """`wait`, but None when it goes on after the time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code
            self.read(0.05)
        return None
