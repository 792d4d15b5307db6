"""How sentry code says that a call fails; both become registers only in sentry/syscalls/dispatch.py."""

from __future__ import annotations

from typing import Final

from sentry.abi.errno import NAMES


class Errno(Exception):
    """A syscall fails with this error number (`Errno(E.ENOENT)`)."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno: int = errno

    def __str__(self) -> str:
        return NAMES.get(self.errno, str(self.errno))


# Why an interrupted call may be restarted (signal(7), "Interruption of system calls"); never seen by the guest.
ERESTARTSYS: Final = 512  # restart if the handler has SA_RESTART, else EINTR
ERESTARTNOINTR: Final = 513  # always restart
ERESTARTNOHAND: Final = 514  # restart only if no handler runs, else EINTR
ERESTART_RESTARTBLOCK: Final = 516  # like NOHAND, by restart_syscall(2) with task.restart_block


class Restart(Exception):
    """A blocked call was interrupted by a signal (or a stop) before it did anything that must not be repeated."""

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self.kind: int = kind


# A handler returns this when it set the registers itself (rt_sigreturn, execve).
NO_RESULT: Final = -(1 << 62)


class SandboxError(Exception):
    """The sandbox cannot start or go on; the text is the one sentence that the caller sees.

    `status` is the exit status that the front gives: 127 command not found, 126 not executable, else 125 as container engines do.
    """

    def __init__(self, text: str, status: int = 125) -> None:
        super().__init__(text)
        self.status: int = status


def trace(e: BaseException) -> str:
    """An exception with the places it came through, for stderr. Not by traceback, which looks for the source files: a sealed
    sentry must not."""
    lines = [f"{type(e).__name__}: {e}"]
    frame = e.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{frame.tb_lineno} in {code.co_name}")
        frame = frame.tb_next
    return "\n".join(lines)
