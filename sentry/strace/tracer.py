"""--strace: prints every system call at the dispatch border.

A line is begun when a call begins (so a call that blocks can be seen) and ended when it returns; when another task prints
in between, it is broken into `<unfinished ...>` and `<... resumed>`, as strace(1) does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.errors import NO_RESULT
from sentry.strace import names, printing
from sentry.syscalls import dispatch
from sentry.syscalls.dispatch import Entry, Watcher

if TYPE_CHECKING:
    from sentry.kernel.task import Task

WIDTH: Final = 40  # column of the result


class Strace(Watcher):
    """Writes to the descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.open: int = 0  # task whose line has no end yet
        self.begun: dict[int, str] = {}  # what stands in the line of a task that is in a call

    def write(self, text: str) -> None:
        try:
            os.write(self.fd, text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass

    def line_of(self, t: Task) -> str:
        """What the current line needs before `t` can go on writing."""
        if self.open and self.open != t.tid:
            return " <unfinished ...>\n"
        return ""

    def enter(self, t: Task, entry: Entry | None, args: list[int]) -> int | None:
        text = f"[{t.tid:5}] {entry.name}(" if entry is not None else f"[{t.tid:5}] syscall_{t.regs.orig_rax}("
        if entry is not None:
            words: list[str] = []
            for i, (_, kind) in enumerate(entry.row.arguments()):
                if kind in printing.FILLED:
                    break
                words.append(printing.argument(t, entry.row, i, args, 0, False))
            text += ", ".join(words)
        self.write(self.line_of(t) + text)
        self.begun[t.tid] = text
        self.open = t.tid
        return None

    def leave(self, t: Task, entry: Entry | None, args: list[int], result: int | None, restart: int) -> None:
        text = self.line_of(t)
        before = self.begun.pop(t.tid, "")
        if self.open != t.tid:
            before = f"[{t.tid:5}] <... {entry.name if entry is not None else 'syscall'} resumed>"
            text += before
        end = ""
        if entry is not None:
            words: list[str] = []
            arguments = entry.row.arguments()
            first = len(arguments)
            for i, (_, kind) in enumerate(arguments):
                if kind in printing.FILLED:
                    first = i
                    break
            for i in range(first, len(arguments)):
                words.append(printing.argument(t, entry.row, i, args, -1 if result is None else result, True))
            end = (", " if first and words else "") + ", ".join(words)
        end += ")"
        pad = " " * max(1, WIDTH - len(before) - len(end))
        if result is None:
            what = f"= ? {names.RESTARTS.get(restart, str(restart))} (To be restarted)" if restart else "= ?"
        elif result == NO_RESULT:
            what = "= ?" if entry is not None and entry.name.startswith("exit") else "= 0"
        else:
            what = printing.outcome(result)
        self.write(f"{text}{end}{pad}{what}\n")
        self.open = 0


def start(fd: int) -> None:
    """From now on every call of every task is printed to `fd`; the native fast paths are off."""
    for number in range(lib.CN_NR_SYSCALLS):
        lib.cn_watch_set(number, lib.CN_WATCH_STRACE, 1)
    dispatch.WATCHERS.append(Strace(fd))
