"""The one border between registers and handlers: decode, call, turn results and errors into rax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sentry.abi import errno as E
from sentry.errors import NO_RESULT, Errno, Restart
from sentry.kernel import seccomp
from sentry.kernel.task import Task
from sentry.syscalls.table import ROWS, Row

U64: Final = 0
I32: Final = 1
U32: Final = 2
I64: Final = 3

# How an argument of a kind is narrowed; kinds not listed are 64 bits unsigned.
WIDTH: Final[dict[str, int]] = {
    **dict.fromkeys("fd dirfd int pid sig clock whence".split(), I32),
    **dict.fromkeys("uint uid gid mode flags oflags cmd dev32 cap".split(), U32),
    **dict.fromkeys("off long".split(), I64),
}


class Entry:
    """A row made ready to call."""

    def __init__(self, row: Row) -> None:
        self.row: Row = row
        self.name: str = row.name
        self.handler: Callable[..., int] | None = row.handler
        self.widths: list[int] = [WIDTH.get(kind, U64) for _, kind in row.arguments()]
        self.count: int = len(self.widths)


class Watcher:
    """Sees calls at the border (strace, hooks, fault injection). Both methods are called with K held by the calling task."""

    def enter(self, t: Task, entry: Entry | None, args: list[int]) -> int | None:
        """Before the handler: a number answers the call instead of it, None lets it go on."""
        return None

    def leave(self, t: Task, entry: Entry | None, args: list[int], result: int | None, restart: int) -> None:
        """After it: the result or -errno, NO_RESULT for one that returns otherwise, None when it was interrupted
        (`restart`: the kind) or does not return."""


TABLE: Final[list[Entry | None]] = [None] * 512
for _row in ROWS:
    TABLE[_row.number] = Entry(_row)

WATCHERS: Final[
    list[Watcher]
] = []  # for all calls of all tasks; whoever adds one turns the native fast paths off (cn_watch_set)


def narrow(value: int, width: int) -> int:
    """A register as the argument's C type sees it."""
    if width == I32:
        value &= 0xFFFFFFFF
        return value - 0x100000000 if value & 0x80000000 else value
    if width == U32:
        return value & 0xFFFFFFFF
    if width == I64:
        return value - 0x10000000000000000 if value & 0x8000000000000000 else value
    return value


def arguments(t: Task, entry: Entry) -> list[int]:
    """The call's arguments, narrowed."""
    regs = t.regs
    n = entry.count
    if n == 0:
        return []
    raw: list[int] = [regs.rdi]
    if n > 1:
        raw.append(regs.rsi)
    if n > 2:
        raw.append(regs.rdx)
    if n > 3:
        raw.append(regs.r10)
    if n > 4:
        raw.append(regs.r8)
    if n > 5:
        raw.append(regs.r9)
    widths = entry.widths
    return [narrow(value, widths[i]) if widths[i] else value for i, value in enumerate(raw)]


def entry_of(number: int) -> Entry | None:
    return TABLE[number] if 0 <= number < len(TABLE) else None


def call(t: Task, entry: Entry | None, args: list[int]) -> int:
    """Runs the handler; its result, or -errno. Raises Restart when interrupted before it had an effect."""
    if entry is None or entry.handler is None:
        return -E.ENOSYS
    try:
        return entry.handler(t, *args)
    except Errno as e:
        return -e.errno


def watched_call(t: Task, entry: Entry | None, args: list[int]) -> int:
    """`call` between the watchers' `enter` and `leave`."""
    result: int | None = None
    restart = 0
    try:
        for w in WATCHERS:
            result = w.enter(t, entry, args)
            if result is not None:
                break
        if result is None:
            result = call(t, entry, args)
        return result
    except Restart as r:
        restart = r.kind
        raise
    finally:
        for w in WATCHERS:
            w.leave(t, entry, args, result, restart)


def syscall(t: Task) -> None:
    """The task stopped at a syscall: answers it. A Restart is kept in `t.restart` for signal delivery."""
    number: int = t.regs.orig_rax
    t.syscall_nr = number
    if t.seccomp is not None and not seccomp.allows(t):
        t.syscall_nr = -1
        return
    entry = entry_of(number)
    args = arguments(t, entry) if entry is not None else []
    try:
        result = watched_call(t, entry, args) if WATCHERS else call(t, entry, args)
    except Restart as r:
        t.restart = r.kind
        t.syscall_nr = -1
        return
    t.syscall_nr = -1
    if result != NO_RESULT:
        t.regs.rax = result & 0xFFFFFFFFFFFFFFFF
        if t.saved_sigmask >= 0 and result != -E.EINTR:
            mask = t.saved_sigmask
            t.saved_sigmask = -1
            t.set_sigmask(mask)


def describe(t: Task) -> str:
    """The call that a task is in, for messages about bugs."""
    number = t.syscall_nr
    entry = entry_of(number)
    if entry is None:
        return f"syscall {number}"
    return f"{entry.name}({', '.join(hex(a) if a > 4096 else str(a) for a in arguments(t, entry))})"
