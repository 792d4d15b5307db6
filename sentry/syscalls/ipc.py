"""System V IPC calls: thin over sentry/kernel/ipc."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import ipc as I
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.kernel.ipc import limits as L
from sentry.kernel.ipc import sem, shm
from sentry.kernel.ipc.registry import PERM, READ, WRITE
from sentry.syscalls.time import read_ns

if TYPE_CHECKING:
    from sentry.kernel.ipc.sem import SemSet
    from sentry.kernel.task import Task

INT_MAX: Final = 0x7FFFFFFF
SEMBUF: Final = struct.Struct("<Hhh")
# SHM_STAT and its kin are numbers of Linux that the user headers show only partly.
SHM_STAT_ANY: Final = 15
SEM_STAT_ANY: Final = 20
MSG_STAT_ANY: Final = 13


def shmget(t: Task, key: int, size: int, flags: int) -> int:
    """shmget(2). SHM_HUGETLB is refused."""
    if flags & I.SHM_HUGETLB:
        raise Errno(E.EPERM)
    return t.container.ipc.shm.get(t, key, size, flags)


def shmat(t: Task, ident: int, addr: int, flags: int) -> int:
    """shmat(2)."""
    return t.container.ipc.shm.attach(t, ident, addr, flags)


def shmdt(t: Task, addr: int) -> int:
    """shmdt(2)."""
    t.container.ipc.shm.detach(t, addr)
    return 0


def shmctl(t: Task, ident: int, cmd: int, buf: int) -> int:
    """shmctl(2)."""
    ns = t.container.ipc.shm
    if cmd == I.IPC_INFO:
        v = ns.limits.values
        t.mm.write(buf, struct.pack("<5Q32x", v[L.SHMMAX], 1, v[L.SHMMNI], v[L.SHMMNI], v[L.SHMALL]))
        return ns.registry.highest()
    if cmd == I.SHM_INFO:
        pages = sum(s.size + 4095 >> 12 for s in ns.registry.slots.values())
        resident = sum(s.obj.allocated() >> 12 for s in ns.registry.slots.values())
        t.mm.write(buf, struct.pack("<i4x5Q", len(ns.registry.slots), pages, resident, 0, 0, 0))
        return ns.registry.highest()
    if cmd in (I.SHM_STAT, SHM_STAT_ANY):
        seg = ns.registry.at(ident)
        if cmd == I.SHM_STAT:
            seg.permit(t, READ)
        t.mm.write(buf, seg.ds(ns.attached(t, seg)))
        return seg.ident
    seg = ns.find(ident)
    if cmd == I.IPC_STAT:
        seg.permit(t, READ)
        t.mm.write(buf, seg.ds(ns.attached(t, seg)))
    elif cmd == I.IPC_SET:
        seg.set_perm(t, t.mm.read(buf, PERM.size))
    elif cmd == I.IPC_RMID:
        ns.remove(t, seg)
    elif cmd in (I.SHM_LOCK, I.SHM_UNLOCK):
        seg.own(t)
        seg.mode = seg.mode | shm.LOCKED if cmd == I.SHM_LOCK else seg.mode & ~shm.LOCKED
    else:
        raise Errno(E.EINVAL)
    return 0


def semget(t: Task, key: int, count: int, flags: int) -> int:
    """semget(2)."""
    return t.container.ipc.sem.get(t, key, count, flags)


def semop(t: Task, ident: int, ops: int, count: int) -> int:
    """semop(2)."""
    return semtimedop(t, ident, ops, count, 0)


def semtimedop(t: Task, ident: int, ops: int, count: int, timeout: int) -> int:
    """semtimedop(2)."""
    if count < 1 or ident < 0:
        raise Errno(E.EINVAL)
    if count > t.container.ipc.limits.values[L.SEMOPM]:
        raise Errno(E.E2BIG)
    raw = t.mm.read(ops, count * SEMBUF.size)
    deadline = clock.monotonic() + read_ns(t, timeout) if timeout else -1
    t.container.ipc.sem.operate(t, ident, list(SEMBUF.iter_unpack(raw)), deadline)
    return 0


def semctl(t: Task, ident: int, num: int, cmd: int, arg: int) -> int:
    """semctl(2)."""
    ns = t.container.ipc.sem
    if cmd in (I.IPC_INFO, I.SEM_INFO):
        used = len(ns.registry.slots) if cmd == I.SEM_INFO else 0
        total = sum(len(s.values) for s in ns.registry.slots.values()) if cmd == I.SEM_INFO else 0
        v = ns.limits.values
        t.mm.write(arg, struct.pack("<10i", v[L.SEMMNS], v[L.SEMMNI], v[L.SEMMNS], v[L.SEMMNS], v[L.SEMMSL], v[L.SEMOPM], 500,
                                    used or 20, sem.SEMVMX, total or sem.SEMVMX))  # fmt: skip
        return ns.registry.highest()
    if cmd in (I.SEM_STAT, SEM_STAT_ANY):
        s = ns.registry.at(ident)
        if cmd == I.SEM_STAT:
            s.permit(t, READ)
        t.mm.write(arg, s.ds())
        return s.ident
    s = ns.registry.find(ident)
    if cmd == I.IPC_STAT:
        s.permit(t, READ)
        t.mm.write(arg, s.ds())
        return 0
    if cmd == I.IPC_SET:
        s.set_perm(t, t.mm.read(arg, PERM.size))
        return 0
    if cmd == I.IPC_RMID:
        ns.remove(t, s)
        return 0
    if cmd == I.GETALL:
        s.permit(t, READ)
        t.mm.write(arg, struct.pack(f"<{len(s.values)}H", *s.values))
        return 0
    if cmd == I.SETALL:
        s.permit(t, WRITE)
        values = list(struct.unpack(f"<{len(s.values)}H", t.mm.read(arg, 2 * len(s.values))))
        set_values(t, s, 0, values)
        return 0
    if not 0 <= num < len(s.values):
        raise Errno(E.EINVAL)
    if cmd == I.SETVAL:
        s.permit(t, WRITE)
        value = arg & 0xFFFFFFFF
        set_values(t, s, num, [value - (1 << 32) if value >> 31 else value])
        return 0
    s.permit(t, READ)
    if cmd == I.GETVAL:
        return s.values[num]
    if cmd == I.GETPID:
        return s.pids[num]
    if cmd == I.GETNCNT:
        return s.ncnt[num]
    if cmd == I.GETZCNT:
        return s.zcnt[num]
    raise Errno(E.EINVAL)


def set_values(t: Task, s: SemSet, first: int, values: list[int]) -> None:
    """SETVAL and SETALL: adjustments of other processes are forgotten."""
    if any(not 0 <= v <= sem.SEMVMX for v in values):
        raise Errno(E.ERANGE)
    for i, value in enumerate(values, first):
        s.values[i] = value
        s.pids[i] = t.tg.pid
        for undo in s.undo.values():
            undo[i] = 0
    s.ctime = clock.realtime() // clock.NS
    s.queue.notify(1)


def msgget(t: Task, key: int, flags: int) -> int:
    """msgget(2)."""
    return t.container.ipc.msg.get(t, key, flags)


def msgsnd(t: Task, ident: int, addr: int, size: int, flags: int) -> int:
    """msgsnd(2)."""
    if size > t.container.ipc.limits.values[L.MSGMAX]:
        raise Errno(E.EINVAL)
    kind = t.mm.read_i64(addr)
    t.container.ipc.msg.send(t, ident, kind, t.mm.read(addr + 8, size), flags)
    return 0


def msgrcv(t: Task, ident: int, addr: int, size: int, kind: int, flags: int) -> int:
    """msgrcv(2)."""
    if size >> 63:
        raise Errno(E.EINVAL)
    m = t.container.ipc.msg.receive(t, ident, size, kind, flags)
    t.mm.write(addr, m.kind.to_bytes(8, "little") + m.data)
    return len(m.data)


def msgctl(t: Task, ident: int, cmd: int, buf: int) -> int:
    """msgctl(2)."""
    ns = t.container.ipc.msg
    if cmd in (I.IPC_INFO, I.MSG_INFO):
        queues = ns.registry.slots.values()
        v = ns.limits.values
        pool, mapped, total = v[L.MSGMNI] * v[L.MSGMNB] // 1024, v[L.MSGMNB], v[L.MSGMNB]
        if cmd == I.MSG_INFO:
            pool, mapped, total = len(queues), sum(len(q.messages) for q in queues), sum(q.bytes for q in queues)
        t.mm.write(buf, struct.pack("<7iH2x", pool & INT_MAX, mapped, v[L.MSGMAX], v[L.MSGMNB], v[L.MSGMNI], 16, total, 0xFFFF))
        return ns.registry.highest()
    if cmd in (I.MSG_STAT, MSG_STAT_ANY):
        q = ns.registry.at(ident)
        if cmd == I.MSG_STAT:
            q.permit(t, READ)
        t.mm.write(buf, q.ds())
        return q.ident
    q = ns.registry.find(ident)
    if cmd == I.IPC_STAT:
        q.permit(t, READ)
        t.mm.write(buf, q.ds())
    elif cmd == I.IPC_SET:
        raw = t.mm.read(buf, PERM.size + 48)
        limit = int.from_bytes(raw[PERM.size + 40 : PERM.size + 48], "little")
        if limit > ns.limits.values[L.MSGMNB] and not t.creds.has(C.CAP_SYS_RESOURCE):
            raise Errno(E.EPERM)
        q.set_perm(t, raw)
        q.limit = limit
        q.queue.notify(4)
    elif cmd == I.IPC_RMID:
        ns.remove(t, q)
    else:
        raise Errno(E.EINVAL)
    return 0
