"""--profile: has native/trace/ record what tasks' time goes to, and names the tasks in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.errors import SandboxError

if TYPE_CHECKING:
    from sentry.kernel.task import Task

LIMIT: Final = 1 << 20  # records, of 48 bytes
ON: Final[list[bool]] = []  # not empty while a profile is taken


def start(fd: int) -> None:
    """Records go to `fd` from now on."""
    rc = lib.cn_trace_start(fd, LIMIT)
    if rc < 0:
        raise SandboxError(f"cannot take a profile: {os.strerror(-rc)}")
    ON.append(True)


def name(t: Task) -> None:
    """The calling host thread's task begins, or has another name now."""
    if ON:
        lib.cn_trace_name(t.tg.pid, t.tid, ffi.from_buffer(t.comm), len(t.comm))


def stop() -> None:
    """What was gathered is written; nothing is recorded any more."""
    if ON:
        ON.clear()
        lib.cn_trace_stop()
