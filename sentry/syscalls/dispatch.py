"""The one border between registers and handlers: decode, call, turn results and errors into rax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sentry.abi import errno as E
from sentry.errors import Errno, Restart
from sentry.kernel.task import Task
from sentry.syscalls.table import ROWS, Row

# A handler returns this when it set the registers itself (rt_sigreturn, execve).
NO_RESULT: Final = -(1 << 62)

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


TABLE: Final[list[Entry | None]] = [None] * 512
for _row in ROWS:
    TABLE[_row.number] = Entry(_row)


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


def syscall(t: Task) -> None:
    """The task stopped at a syscall: answers it. A Restart is kept in `t.restart` for signal delivery."""
    number: int = t.regs.orig_rax
    entry = entry_of(number)
    args = arguments(t, entry) if entry is not None else []
    try:
        result = call(t, entry, args)
    except Restart as r:
        t.restart = r.kind
        t.regs.rax = E.EINTR  # replaced when signals are looked at
        return
    if result != NO_RESULT:
        t.regs.rax = result & 0xFFFFFFFFFFFFFFFF
