"""Errors of the runtime commands: one sentence for the user and one line for the engine's log."""

from __future__ import annotations

import os
import time

from cordon.errors import CordonError

#: Exit status of a runtime command that failed, as engines expect it.
STATUS_ERROR = 1


class RuntimeFailure(CordonError):
    """A runtime command failed; the text is one sentence that names the object and the cause."""

    def __init__(self, text: str, status: int = STATUS_ERROR) -> None:
        super().__init__(text, status)


class NoContainer(RuntimeFailure):
    """There is no container of that id. Engines look for the words "does not exist"."""

    def __init__(self, cid: str) -> None:
        super().__init__(f'container "{cid}" does not exist')


class NotRunning(RuntimeFailure):
    """The container has ended or was not started. Engines look for "container not running"."""

    def __init__(self, cid: str, status: str) -> None:
        super().__init__(f'container not running: "{cid}" is {status}')


def why(e: OSError) -> str:
    """The cause of an OSError in lower case, as it ends a sentence."""
    return os.strerror(e.errno).lower() if e.errno else str(e)


def executable(text: str, status: int) -> str:
    """The sentence about a program that can't be run, with the words that engines make 127 of."""
    if status == 127 and "no such file or directory" not in text:
        text = (
            text.removesuffix(": command not found")
            + ": executable file not found in $PATH: no such file or directory"
        )
    return text


def rfc3339(seconds: float | None = None) -> str:
    """A time (now by default; seconds since 1970) in UTC with nanoseconds, as in state and logs."""
    ns = time.time_ns() if seconds is None else int(seconds * 1e9)
    whole, rest = divmod(ns, 1_000_000_000)
    t = time.gmtime(whole)
    day = f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
    return f"{day}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{rest:09d}Z"


class Log:
    """Where `--log` says: lines of text, or of JSON ({"level", "msg", "time"}) with --log-format json."""

    def __init__(self) -> None:
        self.path = ""
        self.json = False
        self.debug = False
        #: Opened by `keep`, else -1.
        self.fd = -1

    def keep(self) -> int:
        """Opens the file for good, for a process that will change its root; its descriptor, -1 for none."""
        if self.path and self.fd < 0:
            try:
                self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError:
                pass
        return self.fd

    def write(self, level: str, text: str) -> None:
        """Appends one line. A log that can't be written never stops the command."""
        if not self.path or (level == "debug" and not self.debug):
            return
        try:
            data = self.line(level, text).encode("utf-8", "backslashreplace")
            if self.fd >= 0:
                os.write(self.fd, data)
                return
            with open(self.path, "ab") as f:
                f.write(data)
        except OSError:
            pass

    def line(self, level: str, text: str) -> str:
        if not self.json:
            return f'time="{rfc3339()}" level={level} msg={quoted(text)}\n'
        import json

        return json.dumps({"level": level, "msg": text, "time": rfc3339()}) + "\n"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


#: The log of this command.
log = Log()
