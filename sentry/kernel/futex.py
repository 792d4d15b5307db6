"""Futexes (futex(2)).

Waiting, waking and requeueing are native (native/run/futex.h), and most calls never come here. Python's own are the waiters of
PI futexes; while there are some, all wakes and requeues come here and look at both. Python checks their words and enqueues
them with K held, and wakes them with K held, so no wake-up is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import futex as F
from sentry.errors import Errno
from sentry.kernel.wait import INTERRUPTED, TIMEOUT, WOKEN

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.address_space import AddressSpace

ANY: Final = 0xFFFFFFFF  # FUTEX_BITSET_MATCH_ANY
ROBUST_LIMIT: Final = 2048
U32: Final = 0xFFFFFFFF
INT_MAX: Final = 0x7FFFFFFF

Key = tuple[int, int]


class FutexWaiter:
    """A task that sleeps in a call about PI futexes. `key` changes when it is requeued; `woken` is set by whoever wakes it."""

    def __init__(self, t: Task, key: Key, bits: int) -> None:
        self.task: Task = t
        self.key: Key = key
        self.bits: int = bits
        self.woken: bool = False
        self.queued: bool = False
        self.pi: PIState | None = None  # requeued to, or waiting for, a PI futex
        self.requeue_to: Key = (0, 0)  # FUTEX_WAIT_REQUEUE_PI: the only PI futex it may be moved to
        self.owns: bool = False  # got the PI futex


class PIState:
    """A PI futex that somebody waits for: its owner, and where the word is."""

    def __init__(self, owner: Task | None) -> None:
        self.owner: Task | None = owner


class FutexTable:
    """The queues of PI futexes, and of the words whose waiters are to be moved to one."""

    def __init__(self) -> None:
        self.queues: dict[Key, list[FutexWaiter]] = {}

    def add(self, w: FutexWaiter) -> None:
        queue = self.queues.get(w.key)
        if queue is None:
            self.queues[w.key] = [w]
        else:
            queue.append(w)
        w.queued = True

    def remove(self, w: FutexWaiter) -> None:
        """Takes a waiter out if it is still queued."""
        if not w.queued:
            return
        queue = self.queues[w.key]
        queue.remove(w)
        if not queue:
            del self.queues[w.key]
        w.queued = False

    def wake(self, key: Key, count: int, bits: int = ANY) -> int:
        """Wakes up to `count` waiters whose bits match; how many. PI waiters are not woken so: EINVAL."""
        queue = self.queues.get(key)
        if queue is None:
            return 0
        n = 0
        for w in queue[:]:
            if n >= count:
                break
            if w.pi is not None:
                raise Errno(E.EINVAL)
            if w.bits & bits:
                self.remove(w)
                w.woken = True
                w.task.wake()
                n += 1
        return n

    def requeue(self, source: Key, target: Key, wake: int, move: int) -> tuple[int, int]:
        """Wakes `wake` waiters and moves `move` others to the target: (woken, moved)."""
        woken = self.wake(source, wake)
        queue = self.queues.get(source)
        moved = 0
        if queue is not None and source != target:
            for w in queue[:]:
                if moved >= move:
                    break
                self.remove(w)
                w.key = target
                self.add(w)
                moved += 1
        elif queue is not None:
            moved = min(move, len(queue))
        return woken, moved


def wait(t: Task, uaddr: int, value: int, shared: bool, bits: int, deadline: int) -> int:
    """FUTEX_WAIT: sleeps if the word is `value`. 0, or Errno (EAGAIN, ETIMEDOUT, EFAULT); returns -EINTR when interrupted."""
    w = ffi.new("struct cn_futex_waiter *")
    rc = lib.cn_futex_add(w, t.native, uaddr, int(shared), value & U32, bits)
    if rc < 0:
        raise Errno(-rc)
    why = WOKEN
    woken = 0
    try:
        while why == WOKEN and not w.woken:
            why = t.block(deadline)
    finally:
        woken = lib.cn_futex_remove(w)
    if woken:
        return 0
    if why == TIMEOUT:
        raise Errno(E.ETIMEDOUT)
    return -E.EINTR


def wake(t: Task, uaddr: int, shared: bool, count: int, bits: int = ANY) -> int:
    """FUTEX_WAKE: how many were woken."""
    n: int = lib.cn_futex_wake_at(t.mm.native, uaddr, int(shared), count, bits)
    if n < 0:
        raise Errno(-n)
    table = t.kernel.futexes
    if table.queues:
        n += table.wake(t.mm.futex_key(uaddr, shared), count - n, bits)
    return n


def requeue(
    t: Task,
    source: int,
    shared: bool,
    target: int,
    target_shared: bool,
    count: int,
    move: int,
    value: int,
    check: bool,
) -> int:
    """FUTEX_CMP_REQUEUE (FUTEX_REQUEUE without `check`): how many were woken and moved."""
    mm = t.mm
    rc: int = lib.cn_futex_requeue(
        mm.native, source, int(shared), target, int(target_shared), count, move, int(check), value & U32
    )
    if rc < 0:
        raise Errno(-rc)
    woken, moved = rc >> 32, rc & U32
    table = t.kernel.futexes
    if table.queues:
        key, key2 = mm.futex_key(source, shared), mm.futex_key(target, target_shared)
        more = table.requeue(key, key2, count - woken, move - moved)
        woken += more[0]
        moved += more[1]
    return woken + moved


def plain_waiters(mm: AddressSpace, uaddr: int, shared: bool) -> int:
    """How many sleep on the word in calls that have nothing to do with PI."""
    n: int = lib.cn_futex_requeue(mm.native, uaddr, int(shared), uaddr, int(shared), 0, INT_MAX, 0, 0)
    return max(0, n)


def sleep(t: Task, table: FutexTable, w: FutexWaiter, deadline: int) -> int:
    """Until woken: 0; -EINTR when interrupted; ETIMEDOUT raised."""
    try:
        while not w.woken:
            why = t.block(deadline)
            if w.woken:
                break
            if why == TIMEOUT:
                raise Errno(E.ETIMEDOUT)
            if why == INTERRUPTED:
                return -E.EINTR
    finally:
        table.remove(w)
    return 0


def wake_address(t: Task, uaddr: int, count: int) -> int:
    """Wakes waiters of a word, private and shared ones (the tid word of an ending thread)."""
    n = wake(t, uaddr, False, count)
    if t.mm.futex_key(uaddr, True) != t.mm.futex_key(uaddr, False):
        n += wake(t, uaddr, True, count)
    return n


# Priority inheritance: ownership and hand-over only; host threads have no priorities to inherit here.


def pi_queue(table: FutexTable, key: Key) -> list[FutexWaiter]:
    return table.queues.get(key, [])


def lock_pi(t: Task, uaddr: int, shared: bool, deadline: int, try_only: bool) -> int:
    """FUTEX_LOCK_PI, TRYLOCK_PI: takes the lock whose word holds the owner's tid. -EINTR when interrupted."""
    lib.cn_futex_elsewhere(t.mm.native, 1)
    try:
        return take_pi(t, uaddr, shared, deadline, try_only)
    finally:
        lib.cn_futex_elsewhere(t.mm.native, -1)


def take_pi(t: Task, uaddr: int, shared: bool, deadline: int, try_only: bool) -> int:
    table = t.kernel.futexes
    key = t.mm.futex_key(uaddr, shared)
    while True:
        word = t.mm.load32(uaddr)
        owner = word & F.FUTEX_TID_MASK
        if owner == t.tid:
            raise Errno(E.EDEADLK)
        if owner == 0:
            new = t.tid | word & F.FUTEX_OWNER_DIED | (F.FUTEX_WAITERS if pi_queue(table, key) else 0)
            if t.mm.cmpxchg32(uaddr, word, new) == word:
                return 0
            continue
        holder = t.pidns.tasks.get(owner)
        if holder is None or not holder.alive:
            if t.mm.load32(uaddr) != word:
                continue
            raise Errno(E.ESRCH)
        if try_only:
            raise Errno(E.EAGAIN)
        if t.mm.cmpxchg32(uaddr, word, word | F.FUTEX_WAITERS) != word:
            continue
        w = FutexWaiter(t, key, ANY)
        w.pi = PIState(holder)
        table.add(w)
        try:
            return sleep(t, table, w, deadline)
        finally:
            if not w.owns and not pi_queue(table, key):
                clear_waiters(t, uaddr)


def clear_waiters(t: Task, uaddr: int) -> None:
    """Nobody waits any more: the owner may unlock without the kernel."""
    try:
        word = t.mm.load32(uaddr)
        t.mm.cmpxchg32(uaddr, word, word & ~F.FUTEX_WAITERS)
    except Errno:
        pass


def unlock_pi(t: Task, uaddr: int, shared: bool) -> int:
    """FUTEX_UNLOCK_PI: hands the lock to the first waiter."""
    key = t.mm.futex_key(uaddr, shared)
    word = t.mm.load32(uaddr)
    if word & F.FUTEX_TID_MASK != t.tid:
        raise Errno(E.EPERM)
    hand_over(t, key, uaddr, word, 0)
    return 0


def hand_over(t: Task, key: Key, uaddr: int, word: int, flag: int) -> None:
    """The first PI waiter owns the word from now on; with none it is free."""
    table = t.kernel.futexes
    queue = pi_queue(table, key)
    while True:
        first = next((w for w in queue if w.pi is not None), None)
        more = len(queue) > 1
        new = flag if first is None else first.task.tid | flag | (F.FUTEX_WAITERS if more else 0)
        old = t.mm.cmpxchg32(uaddr, word, new)
        if old == word:
            break
        word = old
    if first is not None:
        table.remove(first)
        first.owns = True
        first.woken = True
        first.task.wake()


def wait_requeue_pi(t: Task, uaddr: int, value: int, uaddr2: int, shared: bool, bits: int, deadline: int) -> int:
    """FUTEX_WAIT_REQUEUE_PI: waits on one word to be moved to the PI lock at another, which is held on return 0."""
    lib.cn_futex_elsewhere(t.mm.native, 1)
    try:
        return await_pi(t, uaddr, value, uaddr2, shared, bits, deadline)
    finally:
        lib.cn_futex_elsewhere(t.mm.native, -1)


def await_pi(t: Task, uaddr: int, value: int, uaddr2: int, shared: bool, bits: int, deadline: int) -> int:
    table = t.kernel.futexes
    key = t.mm.futex_key(uaddr, shared)
    target = t.mm.futex_key(uaddr2, shared)
    if key == target:
        raise Errno(E.EINVAL)
    if t.mm.load32(uaddr) != value & U32:
        raise Errno(E.EAGAIN)
    w = FutexWaiter(t, key, bits)
    w.requeue_to = target
    table.add(w)
    rc = sleep(t, table, w, deadline)
    if rc == 0 and not w.owns:
        return lock_pi(t, uaddr2, shared, deadline, False)
    if rc < 0 and w.key == key:
        raise Errno(E.EAGAIN)
    return rc


def cmp_requeue_pi(t: Task, uaddr: int, uaddr2: int, move: int, value: int, shared: bool) -> int:
    """FUTEX_CMP_REQUEUE_PI: one waiter gets the PI lock if it is free, the others wait for it."""
    table = t.kernel.futexes
    key = t.mm.futex_key(uaddr, shared)
    target = t.mm.futex_key(uaddr2, shared)
    if key == target:
        raise Errno(E.EINVAL)
    if t.mm.load32(uaddr) != value & U32:
        raise Errno(E.EAGAIN)
    if plain_waiters(t.mm, uaddr, shared):
        raise Errno(E.EINVAL)
    n = 0
    for w in table.queues.get(key, [])[:]:
        if n > move:
            break
        if w.requeue_to != target:
            raise Errno(E.EINVAL)
        word = t.mm.load32(uaddr2)
        if word & F.FUTEX_TID_MASK == 0 and not pi_queue(table, target):
            if t.mm.cmpxchg32(uaddr2, word, w.task.tid | word & F.FUTEX_OWNER_DIED) != word:
                raise Errno(E.EAGAIN)
            table.remove(w)
            w.owns = True
            w.woken = True
            w.task.wake()
        else:
            t.mm.op32(uaddr2, F.FUTEX_OP_OR, F.FUTEX_WAITERS)
            table.remove(w)
            w.key = target
            w.pi = PIState(t.pidns.tasks.get(word & F.FUTEX_TID_MASK))
            table.add(w)
        n += 1
    return n


# Robust lists (set_robust_list(2); Documentation/locking/robust-futexes.rst)


def exit_robust_list(t: Task) -> None:
    """A thread ends: locks that it holds say so, and one waiter of each is woken. Bad lists end the walk."""
    head = t.robust_list
    try:
        entry = t.mm.read_u64(head)
        offset = t.mm.read_i64(head + 8)
        pending = t.mm.read_u64(head + 16)
        seen = 0
        while entry & ~1 != head and seen < ROBUST_LIMIT:
            following = t.mm.read_u64(entry & ~1)
            if entry != pending:
                owner_died(t, (entry & ~1) + offset, bool(entry & 1), False)
            entry = following
            seen += 1
        if pending:
            owner_died(t, (pending & ~1) + offset, bool(pending & 1), True)
    except Errno:
        return


def owner_died(t: Task, uaddr: int, pi: bool, pending: bool) -> None:
    """Marks one lock of a dead owner."""
    while True:
        word = t.mm.load32(uaddr & ~3 if uaddr & 3 else uaddr)
        if pending and not pi and word == 0:
            wake_address(t, uaddr, 1)
            return
        if word & F.FUTEX_TID_MASK != t.tid:
            return
        if pi and word & F.FUTEX_WAITERS:
            for shared in (False, True):
                key = t.mm.futex_key(uaddr, shared)
                if pi_queue(t.kernel.futexes, key):
                    hand_over(t, key, uaddr, word, F.FUTEX_OWNER_DIED)
                    return
        if t.mm.cmpxchg32(uaddr, word, word & F.FUTEX_WAITERS | F.FUTEX_OWNER_DIED) == word:
            if word & F.FUTEX_WAITERS and not pi:
                wake_address(t, uaddr, 1)
            return
