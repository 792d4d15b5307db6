"""Message queues (msgop(2))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import ipc as I
from sentry.abi import poll as P
from sentry.errors import ERESTARTNOHAND, Errno
from sentry.kernel import clock
from sentry.kernel.ipc import limits as L
from sentry.kernel.ipc.registry import READ, WRITE, IpcObject, Registry
from sentry.kernel.wait import NO_DEADLINE, WaitQueue, wait_for

if TYPE_CHECKING:
    from sentry.kernel.ipc.limits import Limits
    from sentry.kernel.task import Task

TAIL: Final = struct.Struct("<qqqQQQiiQQ")


class Message:
    def __init__(self, kind: int, data: bytes) -> None:
        self.kind: int = kind
        self.data: bytes = data


class MessageQueue(IpcObject):
    def __init__(self, t: Task, key: int, mode: int, limit: int) -> None:
        super().__init__(t, key, mode)
        self.messages: list[Message] = []
        self.bytes: int = 0
        self.limit: int = limit
        self.stime: int = 0
        self.rtime: int = 0
        self.lspid: int = 0
        self.lrpid: int = 0
        self.queue: WaitQueue = WaitQueue()  # POLLIN: a message came; POLLOUT: one went

    def ds(self) -> bytes:
        """struct msqid64_ds."""
        return self.perm() + TAIL.pack(
            self.stime,
            self.rtime,
            self.ctime,
            self.bytes,
            len(self.messages),
            self.limit,
            self.lspid,
            self.lrpid,
            0,
            0,
        )

    def fits(self, size: int) -> bool:
        return self.removed or (self.bytes + size <= self.limit and len(self.messages) < self.limit)

    def pick(self, kind: int, flags: int) -> int:
        """Index of the message that msgrcv(2) means, -1 when there is none."""
        if flags & I.MSG_COPY:
            return kind if kind < len(self.messages) else -1
        best = -1
        for i, m in enumerate(self.messages):
            if kind == 0:
                return i
            if kind > 0:
                if (m.kind != kind) == bool(flags & I.MSG_EXCEPT):
                    return i
            elif m.kind <= -kind and (best < 0 or m.kind < self.messages[best].kind):
                best = i
        return best


class MessageQueues:
    """The queues of a namespace."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.registry: Registry[MessageQueue] = Registry(limits, L.MSGMNI)

    def get(self, t: Task, key: int, flags: int) -> int:
        found = self.registry.lookup(t, key, flags)
        if found is not None:
            return found.ident
        return self.registry.add(MessageQueue(t, key, flags, self.limits.values[L.MSGMNB]))

    def send(self, t: Task, ident: int, kind: int, data: bytes, flags: int) -> None:
        q = self.registry.find(ident)
        if kind < 1 or len(data) > self.limits.values[L.MSGMAX]:
            raise Errno(E.EINVAL)
        q.permit(t, WRITE)
        if not q.fits(len(data)):
            if flags & I.IPC_NOWAIT:
                raise Errno(E.EAGAIN)
            wait_for(t, q.queue, P.POLLOUT, lambda: q.fits(len(data)), NO_DEADLINE, ERESTARTNOHAND)
        if q.removed:
            raise Errno(E.EIDRM)
        q.messages.append(Message(kind, data))
        q.bytes += len(data)
        q.stime = clock.realtime() // clock.NS
        q.lspid = t.tg.pid
        q.queue.notify(P.POLLIN)

    def receive(self, t: Task, ident: int, size: int, kind: int, flags: int) -> Message:
        q = self.registry.find(ident)
        if flags & I.MSG_COPY and (not flags & I.IPC_NOWAIT or flags & I.MSG_EXCEPT):
            raise Errno(E.EINVAL)
        q.permit(t, READ)
        if q.pick(kind, flags) < 0:
            if flags & I.IPC_NOWAIT:
                raise Errno(E.ENOMSG)
            wait_for(
                t,
                q.queue,
                P.POLLIN,
                lambda: q.removed or q.pick(kind, flags) >= 0,
                NO_DEADLINE,
                ERESTARTNOHAND,
            )
        if q.removed:
            raise Errno(E.EIDRM)
        index = q.pick(kind, flags)
        m = q.messages[index]
        if len(m.data) > size:
            if not flags & I.MSG_NOERROR:
                raise Errno(E.E2BIG)
            m = Message(m.kind, m.data[:size])
        if not flags & I.MSG_COPY:
            q.bytes -= len(q.messages[index].data)
            del q.messages[index]
            q.rtime = clock.realtime() // clock.NS
            q.lrpid = t.tg.pid
            q.queue.notify(P.POLLOUT)
        return m

    def remove(self, t: Task, q: MessageQueue) -> None:
        q.own(t)
        self.registry.remove(q)
        q.queue.notify(P.POLLIN | P.POLLOUT)
