"""Signals: what they carry, queues, sending (signal(7)). Taking them: deliver.py; stops: stop.py.

Masks, actions and frames are C's (native/run/signals.h), which also does without us what a thread does to itself.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import poll as P
from sentry.abi import resource as R
from sentry.abi import signal as SIG

if TYPE_CHECKING:
    from sentry.kernel.session import ProcessGroup
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

SIGINFO_SIZE: Final = 128
SIG_DFL: Final = 0
SIG_IGN: Final = 1
NSIG: Final = 64
NSIGPOLL: Final = SIG.POLL_HUP  # greatest si_code of SIGPOLL


def bit(sig: int) -> int:
    """The signal's place in a set."""
    return 1 << (sig - 1)


def bits(*sigs: int) -> int:
    """A set of signals."""
    s = 0
    for sig in sigs:
        s |= 1 << (sig - 1)
    return s


ALL: Final = (1 << NSIG) - 1
UNBLOCKABLE: Final = bits(SIG.SIGKILL, SIG.SIGSTOP)
STOPS: Final = bits(SIG.SIGSTOP, SIG.SIGTSTP, SIG.SIGTTIN, SIG.SIGTTOU)
IGNORED: Final = bits(SIG.SIGCONT, SIG.SIGCHLD, SIG.SIGWINCH, SIG.SIGURG)  # default action: nothing
SYNCHRONOUS: Final = bits(SIG.SIGSEGV, SIG.SIGBUS, SIG.SIGILL, SIG.SIGTRAP, SIG.SIGFPE, SIG.SIGSYS)
COREDUMPS: Final = SYNCHRONOUS | bits(SIG.SIGQUIT, SIG.SIGABRT, SIG.SIGXCPU, SIG.SIGXFSZ)
STANDARD: Final = (1 << (SIG.SIGRTMIN - 1)) - 1  # one of each is queued at most

HEAD: Final = struct.Struct("<iiii")
KILL: Final = struct.Struct("<iI")
TIMER: Final = struct.Struct("<iiQ")
RT: Final = struct.Struct("<iIQ")
CHLD: Final = struct.Struct("<iIiiqq")
FAULT: Final = struct.Struct("<Q")
POLL: Final = struct.Struct("<qi")
SYS: Final = struct.Struct("<QiI")


class SigInfo:
    """What a signal carries (siginfo_t, sigaction(2)). The fields in use depend on signo and code."""

    def __init__(self, signo: int, code: int = SIG.SI_USER) -> None:
        self.signo: int = signo
        self.code: int = code
        self.errno: int = 0
        self.pid: int = 0  # sender; or the timer's id (SI_TIMER)
        self.uid: int = 0  # sender; or the overrun count (SI_TIMER)
        self.value: int = 0  # sigval as 64 bits; or the status (SIGCHLD)
        self.utime: int = 0  # SIGCHLD, clock ticks
        self.stime: int = 0
        self.addr: int = 0  # faults; call address (SIGSYS); band (SIGIO)
        self.fd: int = 0  # SIGIO; syscall number (SIGSYS)
        self.arch: int = 0  # SIGSYS
        self.raw: bytes | None = None  # given by rt_sigqueueinfo(2): all 128 bytes as they came
        self.trapno: int = 0  # x86 trap number and error code, for the sigcontext
        self.err: int = 0
        self.charged: int = -1  # uid whose RLIMIT_SIGPENDING it counts against while queued; -1: none

    def pack(self) -> bytes:
        """The 128 bytes a guest sees."""
        head = HEAD.pack(self.signo, self.errno, self.code, 0)
        if self.raw is not None:
            return head[:12] + self.raw[12:]
        code = self.code
        sig = self.signo
        value = self.value & 0xFFFFFFFFFFFFFFFF
        if code == SIG.SI_TIMER:
            body = TIMER.pack(self.pid, self.uid, value)
        elif code == SIG.SI_SIGIO or (sig == SIG.SIGPOLL and 0 < code < SIG.SI_KERNEL):
            body = POLL.pack(self.addr, self.fd)
        elif code < 0 and code != SIG.SI_TKILL:
            body = RT.pack(self.pid, self.uid, value)
        elif not 0 < code < SIG.SI_KERNEL:
            body = KILL.pack(self.pid, self.uid)
        elif sig == SIG.SIGCHLD:
            body = CHLD.pack(self.pid, self.uid, self.value, 0, self.utime, self.stime)
        elif sig == SIG.SIGSYS:
            body = SYS.pack(self.addr, self.fd, self.arch)
        elif 1 << (sig - 1) & SYNCHRONOUS:
            body = FAULT.pack(self.addr)
        elif code <= NSIGPOLL:  # F_SETSIG
            body = POLL.pack(self.addr, self.fd)
        else:
            body = KILL.pack(self.pid, self.uid)
        return (head + body).ljust(SIGINFO_SIZE, b"\0")


def from_guest(data: bytes, signo: int) -> SigInfo:
    """The siginfo that rt_sigqueueinfo(2) was given: passed on as it is, but for the number."""
    _, errno, code, _ = HEAD.unpack_from(data, 0)
    info = SigInfo(signo, code)
    info.errno = errno
    info.pid, info.uid, info.value = RT.unpack_from(data, 16)
    info.raw = data
    return info


class Pending:
    """A queue of pending signals: one each of the standard ones, any number of the real-time ones."""

    def __init__(self) -> None:
        self.word: ffi.CData = ffi.new("uint64_t *")  # `set`, for threads that change their masks in C
        self.queue: list[SigInfo] = []

    @property
    def set(self) -> int:
        word: int = self.word[0]
        return word

    @set.setter
    def set(self, value: int) -> None:
        lib.cn_pending_set(self.word, value)

    def count(self, sig: int) -> int:
        n = 0
        for info in self.queue:
            if info.signo == sig:
                n += 1
        return n


class Actions:
    """What sigaction(2) set for the signals of a process; shared by CLONE_SIGHAND. `native` holds it: threads change it in C."""

    def __init__(self) -> None:
        self.native: ffi.CData = ffi.new("struct cn_sighand *")
        self.users: int = 1

    def handler(self, sig: int) -> int:
        handler: int = self.native.action[sig].handler
        return handler

    def flags(self, sig: int) -> int:
        flags: int = self.native.action[sig].flags
        return flags

    def get(self, sig: int) -> ffi.CData:
        """A copy, as `struct cn_sigaction *`."""
        action = ffi.new("struct cn_sigaction *")
        lib.cn_sighand_get(self.native, sig, action)
        return action

    def reset(self, sig: int) -> None:
        """Back to the default."""
        lib.cn_sighand_reset(self.native, sig)

    def reset_handled(self) -> None:
        """All but ignored signals get their default (exec, CLONE_CLEAR_SIGHAND)."""
        lib.cn_sighand_reset_handled(self.native)

    def copy(self) -> Actions:
        new = Actions()
        lib.cn_sighand_copy(new.native, self.native)
        return new


def user_info(sender: Task, sig: int, code: int = SIG.SI_USER) -> SigInfo:
    """The siginfo of kill(2) (code SI_USER) or tgkill(2) (SI_TKILL) by `sender`."""
    info = SigInfo(sig, code)
    info.pid = sender.tg.pid
    info.uid = sender.creds.ruid
    return info


def kernel_info(sig: int) -> SigInfo:
    """A signal from the kernel itself (SI_KERNEL)."""
    return SigInfo(sig, SIG.SI_KERNEL)


# Queues.


def discard(t: Task, pending: Pending, sigs: int) -> None:
    """Drops the pending signals of the set `sigs`."""
    if pending.set & sigs:
        for info in pending.queue:
            if bit(info.signo) & sigs:
                uncharge(t, info)
        pending.queue = [info for info in pending.queue if not bit(info.signo) & sigs]
        pending.set &= ~sigs


def discard_everywhere(tg: ThreadGroup, sigs: int) -> None:
    """Drops pending signals of a process and all its threads."""
    discard(tg.main, tg.pending, sigs)
    for t in tg.tasks:
        discard(t, t.pending, sigs)


def uncharge(t: Task, info: SigInfo) -> None:
    if info.charged >= 0:
        t.kernel.sigpending[info.charged] -= 1
        lib.cn_signals_queued(-1)
        info.charged = -1


def charge(t: Task, info: SigInfo) -> bool:
    """Counts a queued signal against the receiver's RLIMIT_SIGPENDING; False when that is used up."""
    counts = t.kernel.sigpending
    uid = t.creds.ruid
    n = counts.get(uid, 0)
    if n >= t.tg.limits.soft(R.RLIMIT_SIGPENDING):
        return False
    counts[uid] = n + 1
    info.charged = uid
    lib.cn_signals_queued(1)
    return True


def take(t: Task, pending: Pending, wanted: int) -> SigInfo | None:
    """Takes the next signal of the set out of one queue: synchronous ones first, then by number."""
    ready = pending.set & wanted
    if not ready:
        return None
    if ready & SYNCHRONOUS:
        ready &= SYNCHRONOUS
    sig = (ready & -ready).bit_length()
    found: SigInfo | None = None
    more = False
    for i, info in enumerate(pending.queue):
        if info.signo == sig:
            if found is None:
                found = info
                index = i
            else:
                more = True
                break
    if not more:
        pending.set &= ~bit(sig)
    if found is None:  # it was over the limit of queued ones: only the bit was kept
        return SigInfo(sig)
    del pending.queue[index]
    uncharge(t, found)
    return found


def withdraw(t: Task, pending: Pending, info: SigInfo) -> None:
    """Takes one queued signal back (a timer's that was deleted)."""
    pending.queue.remove(info)
    if not any(i.signo == info.signo for i in pending.queue):
        pending.set &= ~bit(info.signo)
    uncharge(t, info)


def dequeue(t: Task, wanted: int) -> SigInfo | None:
    """Takes the next pending signal out of the set `wanted`, the thread's own first, then the process's (signalfd, sigtimedwait)."""
    info = take(t, t.pending, wanted)
    if info is None:
        info = take(t, t.tg.pending, wanted)
    return info


def pending_set(t: Task) -> int:
    """Signals pending for the thread or its process."""
    return t.pending.set | t.tg.pending.set


# Sending. None of these checks permissions or blocks; a signal that is ignored is dropped.


def ignored(t: Task, sig: int) -> bool:
    """Would the signal do nothing? Blocked ones never count as ignored: the action may change until they are taken."""
    if (t.sigmask | (t.saved_sigmask if t.saved_sigmask >= 0 else 0)) >> (sig - 1) & 1:
        return False
    if t.tracing is not None and sig != SIG.SIGKILL:  # its tracer wants to see it
        return False
    handler = t.tg.actions.handler(sig)
    if handler == SIG_DFL:
        return bool(bit(sig) & IGNORED) or t.tg.unkillable
    return handler == SIG_IGN


def drops(actions: Actions, sig: int) -> bool:
    """Does the action say that the signal is ignored, so that what is pending of it goes, too?"""
    handler = actions.handler(sig)
    return handler == SIG_IGN or (handler == SIG_DFL and bool(bit(sig) & IGNORED))


def prepare(t: Task, sig: int) -> bool:
    """What a signal does as soon as it is generated: stops and continues cancel each other. False: nothing is left to do."""
    tg = t.tg
    if tg.exiting or tg.dead:
        return sig == SIG.SIGKILL and not tg.dead
    if bit(sig) & STOPS:
        discard_everywhere(tg, bit(SIG.SIGCONT))
    elif sig == SIG.SIGCONT:
        discard_everywhere(tg, STOPS)
        from sentry.kernel import stop

        stop.resume(tg)
    return not ignored(t, sig)


def queue(t: Task, pending: Pending, info: SigInfo) -> bool:
    """Puts a signal on a queue; False when a real-time signal with a payload does not fit (EAGAIN for its sender)."""
    sig = info.signo
    if pending.set & bit(sig) & STANDARD:
        return True  # merged with the one that is pending
    if sig != SIG.SIGKILL:
        if charge(t, info) or (bit(sig) & STANDARD and (info.code >= 0 or info.code == SIG.SI_TKILL)):
            pending.queue.append(info)
        elif sig >= SIG.SIGRTMIN and info.code != SIG.SI_USER:
            return False
    pending.set |= bit(sig)
    return True


def wants(t: Task, sig: int) -> bool:
    """May this thread take a signal of its process now?"""
    if t.sigmask >> (sig - 1) & 1 or not t.alive:
        return False
    return sig == SIG.SIGKILL or not t.stopped


def fatal(t: Task, sig: int) -> bool:
    """Ends the process at once, when a thread that does not block it gets it (core dumps go the longer way)."""
    return (
        t.tg.actions.handler(sig) == SIG_DFL
        and not bit(sig) & (IGNORED | STOPS | COREDUMPS)
        and not t.tg.unkillable
        and t.tracing is None
        and not (t.sigmask | (t.saved_sigmask if t.saved_sigmask >= 0 else 0)) >> (sig - 1) & 1
    )


def complete(t: Task, sig: int, group: bool) -> None:
    """A signal was queued: kicks the thread that shall take it."""
    target: Task | None = None
    if wants(t, sig):
        target = t
    elif group:
        for other in t.tg.tasks:
            if other is not t and wants(other, sig):
                target = other
                break
    if target is None:
        for other in t.tg.tasks if group else [t]:  # sigtimedwait sleeps for blocked signals
            if other.waiting_for & bit(sig):
                other.wake()
        return
    if sig == SIG.SIGKILL or fatal(target, sig):
        from sentry.kernel import exit as exiting

        exiting.kill_group(t.tg, sig)
        return
    target.interrupt()


def send_to_task(t: Task, info: SigInfo) -> bool:
    """To one thread (tgkill, SIGPIPE). False when a real-time signal with a payload does not fit in the queue."""
    if not t.alive:
        return True
    if prepare(t, info.signo):
        if not queue(t, t.pending, info):
            return False
        t.tg.signal_queue.notify(P.POLLIN)
        complete(t, info.signo, False)
    return True


def send_to_group(tg: ThreadGroup, info: SigInfo) -> bool:
    """To a process: any thread that does not block it. False as for send_to_task."""
    if tg.dead:
        return True
    t = tg.main if tg.main.alive or not tg.tasks else tg.tasks[0]
    if prepare(t, info.signo):
        if not queue(t, tg.pending, info):
            return False
        tg.signal_queue.notify(P.POLLIN)
        complete(t, info.signo, True)
    return True


def send_to_pgrp(pg: ProcessGroup, info: SigInfo) -> None:
    """To every process of a job (terminals, kill(-pgid))."""
    for tg in pg.members[:]:
        one = SigInfo(info.signo, info.code)
        one.pid = info.pid
        one.uid = info.uid
        send_to_group(tg, one)


def force(t: Task, info: SigInfo) -> None:
    """A synchronous fault of this thread: delivered even if blocked or ignored (then with the default action)."""
    sig = info.signo
    actions = t.tg.actions
    blocked = bool(t.sigmask & bit(sig))
    if blocked or actions.handler(sig) == SIG_IGN:
        actions.reset(sig)
        t.sigmask &= ~bit(sig)
    if actions.handler(sig) == SIG_DFL:
        t.tg.unkillable = False
    if not t.pending.set & bit(sig):
        t.pending.set |= bit(sig)
        t.pending.queue.append(info)
    t.interrupt()


def force_segv(t: Task, sig: int) -> None:
    """A frame for signal `sig` could not be written or read: SIGSEGV, fatal if that was the one being delivered."""
    if sig == SIG.SIGSEGV:
        t.tg.actions.reset(sig)
    force(t, kernel_info(SIG.SIGSEGV))


# Masks.


def recalculate(t: Task) -> None:
    """Has the thread look at signals if one may be taken."""
    if (t.pending.set | t.tg.pending.set) & ~t.sigmask:
        t.interrupt()


def set_mask(t: Task, mask: int) -> None:
    """See Task.set_sigmask."""
    mask &= ALL & ~UNBLOCKABLE
    newly = mask & ~t.sigmask
    t.sigmask = mask
    if newly & t.tg.pending.set:
        retarget(t, newly)
    recalculate(t)


def retarget(t: Task, sigs: int) -> None:
    """The thread won't take these signals of its process any more: others may have to."""
    waiting = t.tg.pending.set & sigs
    for other in t.tg.tasks:
        if not waiting:
            return
        if other is not t and other.alive and waiting & ~other.sigmask:
            waiting &= other.sigmask
            other.interrupt()


def retarget_from(t: Task) -> None:
    """The thread ends: whatever it might have taken is for the others."""
    retarget(t, ~t.sigmask & ALL)
