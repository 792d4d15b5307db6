"""The one border between registers and handlers: decode, call, turn results and errors into rax."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from sentry.abi import errno as E
from sentry.errors import NO_RESULT, Errno, Restart
from sentry.kernel import seccomp, tracing
from sentry.kernel.task import Task
from sentry.syscalls.table import ROWS, Row

# How an argument of a kind is narrowed (struct's letters for the low bytes of a 64-bit word); others are 64 bits unsigned.
WIDTH: Final[dict[str, str]] = {
    **dict.fromkeys("fd dirfd int pid sig clock whence".split(), "i4x"),
    **dict.fromkeys("uint uid gid mode flags oflags cmd dev32 cap".split(), "I4x"),
    **dict.fromkeys("off long".split(), "q"),
}


M64: Final = 0xFFFFFFFFFFFFFFFF


class Entry:
    """A row made ready to call."""

    def __init__(self, row: Row) -> None:
        self.row: Row = row
        self.name: str = row.name
        self.handler: Callable[..., int] | None = row.handler
        kinds = [WIDTH.get(kind, "Q") for _, kind in row.arguments()]
        self.count: int = len(kinds)
        self.layout: struct.Struct = struct.Struct("<" + "".join(kinds))


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


def arguments(t: Task, entry: Entry) -> list[int]:
    """The arguments of the call that the task stopped at, narrowed."""
    return list(entry.layout.unpack_from(t.args))


def entry_of(number: int) -> Entry | None:
    return TABLE[number] if 0 <= number < len(TABLE) else None


def call(t: Task, entry: Entry | None) -> int:
    """Runs the handler; its result, or -errno. Raises Restart when interrupted before it had an effect."""
    if entry is None:
        return -E.ENOSYS
    handler = entry.handler
    if handler is None:
        return -E.ENOSYS
    a = entry.layout.unpack_from(t.args)
    n = entry.count
    try:
        if n == 3:
            return handler(t, a[0], a[1], a[2])
        if n == 2:
            return handler(t, a[0], a[1])
        if n == 4:
            return handler(t, a[0], a[1], a[2], a[3])
        if n == 1:
            return handler(t, a[0])
        if n == 0:
            return handler(t)
        return handler(t, *a)
    except Errno as e:
        return -e.errno


def call_with(t: Task, entry: Entry | None, args: list[int]) -> int:
    """The same with arguments that a watcher may have changed."""
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
            result = call_with(t, entry, args)
        return result
    except Restart as r:
        restart = r.kind
        raise
    finally:
        for w in WATCHERS:
            w.leave(t, entry, args, result, restart)


def syscall(t: Task, number: int) -> int:
    """The task stopped at a syscall (`number` negative: one that cn_task_go does not tell): answers it. NO_RESULT: its registers
    are as they should be already, or t.restart keeps a Restart for signal delivery."""
    if number < 0:
        number = t.regs.orig_rax
    if t.tracing is not None:
        return traced_call(t, number)
    return answer(t, number)


def traced_call(t: Task, number: int) -> int:
    """The same between the stops that its tracer may have asked for."""
    number = tracing.enter_call(t, number)
    result = NO_RESULT if number < 0 else answer(t, number)
    if t.must_exit:
        return result
    if result != NO_RESULT:
        t.regs.rax = result & M64
    tracing.leave_call(t)
    return NO_RESULT


def answer(t: Task, number: int) -> int:
    t.syscall_nr = number
    if t.seccomp is not None and not seccomp.allows(t):
        t.syscall_nr = -1
        return NO_RESULT
    entry = entry_of(number)
    try:
        if WATCHERS:
            result = watched_call(t, entry, arguments(t, entry) if entry is not None else [])
        else:
            result = call(t, entry)
    except Restart as r:
        t.restart = r.kind
        t.syscall_nr = -1
        return NO_RESULT
    t.syscall_nr = -1
    if result != NO_RESULT and t.saved_sigmask >= 0 and result != -E.EINTR:
        mask = t.saved_sigmask
        t.saved_sigmask = -1
        t.set_sigmask(mask)
    return result


def describe(t: Task) -> str:
    """The call that a task is in, for messages about bugs."""
    number = t.syscall_nr
    entry = entry_of(number)
    if entry is None:
        return f"syscall {number}"
    return f"{entry.name}({', '.join(hex(a) if a > 4096 else str(a) for a in arguments(t, entry))})"
