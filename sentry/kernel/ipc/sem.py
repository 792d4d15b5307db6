"""Semaphore sets (semop(2))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import ipc as I
from sentry.abi import poll as P
from sentry.errors import ERESTARTNOHAND, Errno, Restart
from sentry.kernel import clock
from sentry.kernel.ipc import limits as L
from sentry.kernel.ipc.registry import READ, WRITE, IpcObject, Registry
from sentry.kernel.wait import INTERRUPTED, TIMEOUT, TaskWaiter, WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.ipc.limits import Limits
    from sentry.kernel.task import Task

SEMVMX: Final = 32767
TAIL: Final = struct.Struct("<qqqqQQQ")
BLOCKED: Final = -1


class SemSet(IpcObject):
    """Values, who changed each last, how many wait for a rise or a zero, what exiting processes give back."""

    def __init__(self, t: Task, key: int, mode: int, count: int) -> None:
        super().__init__(t, key, mode)
        self.values: list[int] = [0] * count
        self.pids: list[int] = [0] * count
        self.ncnt: list[int] = [0] * count
        self.zcnt: list[int] = [0] * count
        self.otime: int = 0
        self.undo: dict[int, list[int]] = {}  # pid -> adjustments
        self.queue: WaitQueue = WaitQueue()

    def ds(self) -> bytes:
        """struct semid64_ds."""
        return self.perm() + TAIL.pack(self.otime, 0, self.ctime, 0, len(self.values), 0, 0)

    def attempt(self, t: Task, ops: list[tuple[int, int, int]]) -> int:
        """Does all operations or none: the index of the one that has to wait, or BLOCKED (-1) when all are done. ERANGE."""
        values = self.values[:]
        for i, (num, op, _) in enumerate(ops):
            if op == 0:
                if values[num]:
                    return i
            elif op < 0 and values[num] + op < 0:
                return i
            elif values[num] + op > SEMVMX:
                raise Errno(E.ERANGE)
            values[num] += op
        undo = self.undo.get(t.tg.pid)
        for num, op, flags in ops:
            if flags & I.SEM_UNDO and op:
                if undo is None:
                    undo = self.undo[t.tg.pid] = [0] * len(values)
                undo[num] -= op
            self.pids[num] = t.tg.pid
        changed = values != self.values
        self.values = values
        self.otime = clock.realtime() // clock.NS
        if changed:
            self.queue.notify(P.POLLIN)
        return BLOCKED

    def give_back(self, pid: int) -> None:
        """SEM_UNDO at exit."""
        undo = self.undo.pop(pid, None)
        if undo is None:
            return
        for num, adjust in enumerate(undo):
            if adjust:
                self.values[num] = min(SEMVMX, max(0, self.values[num] + adjust))
                self.pids[num] = pid
        self.queue.notify(P.POLLIN)


class Semaphores:
    """The sets of a namespace."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.registry: Registry[SemSet] = Registry(limits, L.SEMMNI)

    def get(self, t: Task, key: int, count: int, flags: int) -> int:
        if not 0 <= count <= self.limits.values[L.SEMMSL]:
            raise Errno(E.EINVAL)
        found = self.registry.lookup(t, key, flags)
        if found is None:
            if count == 0:
                raise Errno(E.EINVAL)
            if sum(len(s.values) for s in self.registry.slots.values()) + count > self.limits.values[L.SEMMNS]:
                raise Errno(E.ENOSPC)
            return self.registry.add(SemSet(t, key, flags, count))
        if count > len(found.values):
            raise Errno(E.EINVAL)
        return found.ident

    def operate(self, t: Task, ident: int, ops: list[tuple[int, int, int]], deadline: int) -> None:
        """semop(2): waits until all operations can be done at once."""
        s = self.registry.find(ident)
        if any(num >= len(s.values) for num, _, _ in ops):
            raise Errno(E.EFBIG)
        s.permit(t, WRITE if any(op for _, op, _ in ops) else READ)
        stuck = s.attempt(t, ops)
        if stuck == BLOCKED:
            return
        waiter = TaskWaiter(t, P.POLLIN)
        s.queue.add(waiter)
        try:
            while True:
                num, op, flags = ops[stuck]
                if flags & I.IPC_NOWAIT:
                    raise Errno(E.EAGAIN)
                counts = s.ncnt if op < 0 else s.zcnt
                counts[num] += 1
                why = t.block(deadline)
                counts[num] -= 1
                if s.removed:
                    raise Errno(E.EIDRM)
                stuck = s.attempt(t, ops)
                if stuck == BLOCKED:
                    return
                if why == TIMEOUT:
                    raise Errno(E.EAGAIN)
                if why == INTERRUPTED:
                    raise Restart(ERESTARTNOHAND) if deadline < 0 else Errno(E.EINTR)
        finally:
            s.queue.remove(waiter)

    def remove(self, t: Task, s: SemSet) -> None:
        s.own(t)
        self.registry.remove(s)
        s.queue.notify(P.POLLIN)

    def process_ended(self, pid: int) -> None:
        for s in list(self.registry.slots.values()):
            s.give_back(pid)
