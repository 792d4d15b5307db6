"""futex(2), its younger kin, membarrier."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import futex as F
from sentry.abi import time as T
from sentry.errors import ERESTART_RESTARTBLOCK, ERESTARTSYS, Errno, Restart
from sentry.kernel import clock, futex
from sentry.kernel.futex import ANY
from sentry.kernel.task import RUN
from sentry.kernel.wait import NO_DEADLINE, TIMEOUT, WOKEN
from sentry.syscalls.time import read_ns

if TYPE_CHECKING:
    from sentry.kernel.task import Task

U32: Final = 0xFFFFFFFF
WAITV: Final = struct.Struct("<QQII")
WAITV_MAX: Final = 128
INT_MAX: Final = 0x7FFFFFFF
FUTEX2_SIZE_U32: Final = 2
FUTEX2_PRIVATE: Final = 128


def signed(value: int) -> int:
    value &= U32
    return value - (1 << 32) if value & 0x80000000 else value


def deadline_of(t: Task, addr: int, which: int, relative: bool) -> int:
    """The monotonic deadline that a timeout argument means, -1 for none."""
    if addr == 0:
        return NO_DEADLINE
    ns = read_ns(t, addr)
    if relative:
        return clock.monotonic() + ns
    return clock.monotonic_deadline(which, ns)


class Wait:
    """A FUTEX_WAIT with a relative timeout, for restart_syscall(2)."""

    def __init__(self, uaddr: int, value: int, shared: bool, bits: int, deadline: int) -> None:
        self.uaddr: int = uaddr
        self.value: int = value
        self.shared: bool = shared
        self.bits: int = bits
        self.deadline: int = deadline

    def run(self, t: Task) -> int:
        rc = futex.wait(t, self.uaddr, self.value, self.shared, self.bits, self.deadline)
        return rc if rc == 0 else self.interrupted(t)

    def interrupted(self, t: Task) -> int:
        """The wait, or the first part of it, was interrupted."""
        if self.deadline == NO_DEADLINE:
            raise Restart(ERESTARTSYS)
        t.restart_fn = self.run
        raise Restart(ERESTART_RESTARTBLOCK)


def wake_op(t: Task, uaddr: int, uaddr2: int, wake: int, wake2: int, val3: int, shared: bool) -> int:
    """FUTEX_WAKE_OP."""
    op, cmp = val3 >> 28 & 15, val3 >> 24 & 15
    oparg = signed((val3 >> 12 & 0xFFF) | (0xFFFFF000 if val3 & 0x800000 else 0))
    cmparg = signed((val3 & 0xFFF) | (0xFFFFF000 if val3 & 0x800 else 0))
    if op & F.FUTEX_OP_OPARG_SHIFT:
        oparg = 1 << (oparg & 31)
        op &= 7
    t.mm.futex_key(uaddr, shared)
    t.mm.futex_key(uaddr2, shared)
    old = signed(t.mm.op32(uaddr2, op, oparg))
    if cmp > F.FUTEX_OP_CMP_GE:
        raise Errno(E.ENOSYS)
    results = (old == cmparg, old != cmparg, old < cmparg, old <= cmparg, old > cmparg, old >= cmparg)
    n = futex.wake(t, uaddr, shared, wake)
    if results[cmp]:
        n += futex.wake(t, uaddr2, shared, wake2)
    return n


def futex_(t: Task, uaddr: int, op: int, val: int, timeout: int, uaddr2: int, val3: int) -> int:
    """futex(2)."""
    cmd = op & F.FUTEX_CMD_MASK
    shared = not op & F.FUTEX_PRIVATE_FLAG
    which = T.CLOCK_REALTIME if op & F.FUTEX_CLOCK_REALTIME else T.CLOCK_MONOTONIC
    if op & F.FUTEX_CLOCK_REALTIME and cmd not in (
        F.FUTEX_WAIT,
        F.FUTEX_WAIT_BITSET,
        F.FUTEX_WAIT_REQUEUE_PI,
        F.FUTEX_LOCK_PI2,
    ):
        raise Errno(E.ENOSYS)
    val2 = signed(timeout)
    if cmd == F.FUTEX_WAIT or cmd == F.FUTEX_WAIT_BITSET:
        bits = val3 if cmd == F.FUTEX_WAIT_BITSET else ANY
        if bits == 0:
            raise Errno(E.EINVAL)
        if t.native.waited:
            return Wait(uaddr, val, shared, bits, t.native.wait_deadline).interrupted(t)
        return Wait(uaddr, val, shared, bits, deadline_of(t, timeout, which, cmd == F.FUTEX_WAIT)).run(t)
    if cmd == F.FUTEX_WAKE or cmd == F.FUTEX_WAKE_BITSET:
        bits = val3 if cmd == F.FUTEX_WAKE_BITSET else ANY
        if bits == 0:
            raise Errno(E.EINVAL)
        return futex.wake(t, uaddr, shared, max(1, signed(val)), bits)
    if cmd == F.FUTEX_REQUEUE or cmd == F.FUTEX_CMP_REQUEUE:
        if signed(val) < 0 or val2 < 0:
            raise Errno(E.EINVAL)
        check = cmd == F.FUTEX_CMP_REQUEUE
        # FUTEX_REQUEUE tells of those it moved, too, whatever futex(2) says
        return futex.requeue(t, uaddr, shared, uaddr2, shared, signed(val), val2, val3, check)
    if cmd == F.FUTEX_WAKE_OP:
        return wake_op(t, uaddr, uaddr2, signed(val), val2, val3, shared)
    if cmd in (F.FUTEX_LOCK_PI, F.FUTEX_LOCK_PI2, F.FUTEX_TRYLOCK_PI):
        which = T.CLOCK_REALTIME if cmd == F.FUTEX_LOCK_PI else which
        deadline = NO_DEADLINE if cmd == F.FUTEX_TRYLOCK_PI else deadline_of(t, timeout, which, False)
        if futex.lock_pi(t, uaddr, shared, deadline, cmd == F.FUTEX_TRYLOCK_PI) < 0:
            raise Restart(ERESTARTSYS)
        return 0
    if cmd == F.FUTEX_UNLOCK_PI:
        return futex.unlock_pi(t, uaddr, shared)
    if cmd == F.FUTEX_WAIT_REQUEUE_PI:
        if val3 == 0:
            raise Errno(E.EINVAL)
        deadline = deadline_of(t, timeout, which, False)
        if futex.wait_requeue_pi(t, uaddr, val, uaddr2, shared, val3, deadline) < 0:
            raise Restart(ERESTARTSYS)
        return 0
    if cmd == F.FUTEX_CMP_REQUEUE_PI:
        if val != 1:
            raise Errno(E.EINVAL)
        return futex.cmp_requeue_pi(t, uaddr, uaddr2, max(0, val2), val3, shared)
    raise Errno(E.ENOSYS)


def futex2_shared(flags: int) -> bool:
    """Checks the flags of the futex2 calls; is the word a shared one?"""
    if flags & ~(FUTEX2_PRIVATE | 3) or flags & 3 != FUTEX2_SIZE_U32:
        raise Errno(E.EINVAL)
    return not flags & FUTEX2_PRIVATE


def futex_waitv(t: Task, waiters: int, count: int, flags: int, timeout: int, which: int) -> int:
    """futex_waitv(2): the index of a word that was woken."""
    if flags or not 1 <= count <= WAITV_MAX or waiters == 0:
        raise Errno(E.EINVAL)
    if timeout and which not in (T.CLOCK_MONOTONIC, T.CLOCK_REALTIME):
        raise Errno(E.EINVAL)
    deadline = deadline_of(t, timeout, which, False)
    raw = t.mm.read(waiters, count * WAITV.size)
    queue = ffi.new("struct cn_futex_waiter[]", count)
    why = WOKEN
    try:
        for i in range(count):
            value, uaddr, bits, reserved = WAITV.unpack_from(raw, i * WAITV.size)
            shared = futex2_shared(bits)
            if reserved:
                raise Errno(E.EINVAL)
            rc = lib.cn_futex_add(queue + i, t.native, uaddr, int(shared), value & U32, ANY)
            if rc < 0:
                raise Errno(-rc)
        while why == WOKEN and not any(queue[i].woken for i in range(count)):
            why = t.block(deadline)
    finally:
        for i in range(count):
            lib.cn_futex_remove(queue + i)
    for i in range(count):
        if queue[i].woken:
            return i
    if why == TIMEOUT:
        raise Errno(E.ETIMEDOUT)
    raise Restart(ERESTARTSYS)


def futex_wake(t: Task, uaddr: int, mask: int, nr: int, flags: int) -> int:
    """futex_wake(2)."""
    shared = futex2_shared(flags)
    if mask & U32 == 0 or mask > U32:
        raise Errno(E.EINVAL)
    return futex.wake(t, uaddr, shared, nr, mask)


def futex_wait(t: Task, uaddr: int, val: int, mask: int, flags: int, timeout: int, which: int) -> int:
    """futex_wait(2)."""
    shared = futex2_shared(flags)
    if mask & U32 == 0 or mask > U32 or val > U32:
        raise Errno(E.EINVAL)
    if timeout and which not in (T.CLOCK_MONOTONIC, T.CLOCK_REALTIME):
        raise Errno(E.EINVAL)
    if futex.wait(t, uaddr, val, shared, mask, deadline_of(t, timeout, which, False)) < 0:
        raise Restart(ERESTARTSYS)
    return 0


def futex_requeue(t: Task, waiters: int, flags: int, nr_wake: int, nr_requeue: int) -> int:
    """futex_requeue(2)."""
    if flags or nr_wake < 0 or nr_requeue < 0 or waiters == 0:
        raise Errno(E.EINVAL)
    raw = t.mm.read(waiters, 2 * WAITV.size)
    value, source, bits, _ = WAITV.unpack_from(raw, 0)
    _, target, bits2, _ = WAITV.unpack_from(raw, WAITV.size)
    shared, shared2 = futex2_shared(bits), futex2_shared(bits2)
    return futex.requeue(t, source, shared, target, shared2, nr_wake, nr_requeue, value & U32, True)


REGISTRATIONS: Final[dict[int, int]] = {
    F.MEMBARRIER_CMD_PRIVATE_EXPEDITED: F.MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
    F.MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: F.MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
    F.MEMBARRIER_CMD_GLOBAL_EXPEDITED: F.MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
}


def membarrier(t: Task, cmd: int, flags: int, cpu: int) -> int:
    """membarrier(2): a stop of each running thread orders its memory accesses."""
    if flags:
        raise Errno(E.EINVAL)
    supported = F.MEMBARRIER_CMD_GLOBAL
    for command, registration in REGISTRATIONS.items():
        supported |= command | registration
    if cmd == F.MEMBARRIER_CMD_QUERY:
        return supported
    if cmd in REGISTRATIONS.values():
        t.mm.membarrier |= cmd
        return 0
    if cmd == F.MEMBARRIER_CMD_GLOBAL or cmd == F.MEMBARRIER_CMD_GLOBAL_EXPEDITED:
        everyone = t.kernel.every_task()
    elif cmd in REGISTRATIONS:
        if not t.mm.membarrier & REGISTRATIONS[cmd]:
            raise Errno(E.EPERM)
        everyone = [m for m in t.pidns.tasks.values() if m.mm is t.mm]
    else:
        raise Errno(E.EINVAL)
    for m in everyone:
        if m is not t and m.state == RUN:
            m.interrupt()
    return 0
