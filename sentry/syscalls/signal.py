"""Signal syscalls: actions, masks, sending, waiting for signals, the way back from a handler."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.errors import ERESTARTNOHAND, NO_RESULT, Errno, Restart
from sentry.fs.proc.pid import TidDir
from sentry.kernel import clock, signals
from sentry.kernel.pidfd import PidFile
from sentry.kernel.signals import NSIG, SIGINFO_SIZE, UNBLOCKABLE, SigInfo, bit
from sentry.kernel.wait import INTERRUPTED, TIMEOUT

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

SIGSET_SIZE: Final = 8
TIMESPEC: Final = struct.Struct("<qq")
SECOND: Final = 1_000_000_000
U64: Final = 0xFFFFFFFFFFFFFFFF


def check_size(size: int) -> None:
    if size != SIGSET_SIZE:
        raise Errno(E.EINVAL)


def check_signal(sig: int) -> None:
    if not 0 <= sig <= NSIG:
        raise Errno(E.EINVAL)


def read_sigset(t: Task, addr: int) -> int:
    return int.from_bytes(t.mm.read(addr, SIGSET_SIZE), "little")


# Actions and masks


def rt_sigaction(t: Task, sig: int, act: int, oldact: int, size: int) -> int:
    """sigaction(2)."""
    rc: int = lib.cn_rt_sigaction(t.native, sig, act, oldact, size, 1)
    if act and 1 <= sig <= NSIG and signals.drops(t.tg.actions, sig):
        signals.discard_everywhere(t.tg, bit(sig))
    return rc


def rt_sigprocmask(t: Task, how: int, new: int, oldset: int, size: int) -> int:
    """sigprocmask(2)."""
    rc: int = lib.cn_rt_sigprocmask(t.native, how, new, oldset, size)
    return rc


def rt_sigpending(t: Task, addr: int, size: int) -> int:
    """sigpending(2)."""
    if size > SIGSET_SIZE:
        raise Errno(E.EINVAL)
    t.mm.write(addr, (signals.pending_set(t) & t.sigmask).to_bytes(SIGSET_SIZE, "little")[:size])
    return 0


def rt_sigsuspend(t: Task, addr: int, size: int) -> int:
    """sigsuspend(2)."""
    check_size(size)
    t.set_temporary_sigmask(read_sigset(t, addr))
    return pause(t)


def pause(t: Task) -> int:
    """pause(2)."""
    while t.block() != INTERRUPTED:
        pass
    raise Restart(ERESTARTNOHAND)


def sigaltstack(t: Task, ss: int, old: int) -> int:
    """sigaltstack(2)."""
    rc: int = lib.cn_sigaltstack(t.native, ss, old)
    return rc


def rt_sigreturn(t: Task) -> int:
    """sigreturn(2). SIGSEGV when there is no frame."""
    if lib.cn_rt_sigreturn(t.native) < 0:
        t.regs.orig_rax = U64
        signals.force_segv(t, 0)
    return NO_RESULT


# Sending


def may_kill(t: Task, tg: ThreadGroup, sig: int) -> bool:
    """kill(2): same user, CAP_KILL, or SIGCONT within the session."""
    if t.tg is tg:
        return True
    target = tg.main.creds
    own = t.creds
    if (
        own.euid in (target.suid, target.ruid)
        or own.ruid in (target.suid, target.ruid)
        or own.has(CAP.CAP_KILL)
    ):
        return True
    return sig == SIG.SIGCONT and t.tg.pgrp.session is tg.pgrp.session


def send(t: Task, tg: ThreadGroup, sig: int, info: SigInfo) -> None:
    """With the permission check; signal 0 checks only."""
    if not may_kill(t, tg, sig):
        raise Errno(E.EPERM)
    if sig and not signals.send_to_group(tg, info):
        raise Errno(E.EAGAIN)


def group_of(t: Task, pid: int) -> ThreadGroup:
    """The process with a thread of this number, as kill(2) finds it; ESRCH."""
    tg = t.pidns.groups.get(pid)
    if tg is None:
        task = t.pidns.tasks.get(pid)
        if task is None:
            raise Errno(E.ESRCH)
        tg = task.tg
    return tg


def kill(t: Task, pid: int, sig: int) -> int:
    """kill(2)."""
    check_signal(sig)
    if pid > 0:
        send(t, group_of(t, pid), sig, signals.user_info(t, sig))
        return 0
    if pid == -1:
        others = [tg for tg in t.pidns.groups.values() if tg is not t.tg and not tg.is_init]
        if not others:
            raise Errno(E.ESRCH)
        kill_many(t, others, sig)
        return 0  # even if none could be signalled: Linux counts no EPERM here
    pgid = t.tg.pgrp.pgid if pid == 0 else -pid
    pg = t.pidns.pgroups.get(pgid)
    if pg is None:
        raise Errno(E.ESRCH)
    if not kill_many(t, pg.members[:], sig):
        raise Errno(E.EPERM)
    return 0


def kill_many(t: Task, targets: list[ThreadGroup], sig: int) -> bool:
    """Could one be signalled? The others are skipped."""
    done = False
    for tg in targets:
        if may_kill(t, tg, sig):
            done = True
            if sig:
                signals.send_to_group(tg, signals.user_info(t, sig))
    return done


def tkill(t: Task, tid: int, sig: int) -> int:
    """tkill(2)."""
    if tid <= 0:
        raise Errno(E.EINVAL)
    return kill_thread(t, -1, tid, sig, signals.user_info(t, sig, SIG.SI_TKILL))


def tgkill(t: Task, tgid: int, tid: int, sig: int) -> int:
    """tgkill(2)."""
    if tid <= 0 or tgid <= 0:
        raise Errno(E.EINVAL)
    return kill_thread(t, tgid, tid, sig, signals.user_info(t, sig, SIG.SI_TKILL))


def kill_thread(t: Task, tgid: int, tid: int, sig: int, info: SigInfo) -> int:
    check_signal(sig)
    target = t.pidns.tasks.get(tid)
    if target is None or (tgid != -1 and target.tg.pid != tgid):
        raise Errno(E.ESRCH)
    if not may_kill(t, target.tg, sig):
        raise Errno(E.EPERM)
    if sig and not signals.send_to_task(target, info):
        raise Errno(E.EAGAIN)
    return 0


def queued_info(t: Task, sig: int, addr: int, own: bool) -> SigInfo:
    """The siginfo of rt_sigqueueinfo(2): only to itself may a process claim what kernel or kill send."""
    info = signals.from_guest(t.mm.read(addr, SIGINFO_SIZE), sig)
    if (info.code >= 0 or info.code == SIG.SI_TKILL) and not own:
        raise Errno(E.EPERM)
    return info


def rt_sigqueueinfo(t: Task, pid: int, sig: int, addr: int) -> int:
    """rt_sigqueueinfo(2)."""
    info = queued_info(t, sig, addr, pid == t.tg.pid)
    check_signal(sig)
    send(t, group_of(t, pid), sig, info)
    return 0


def rt_tgsigqueueinfo(t: Task, tgid: int, tid: int, sig: int, addr: int) -> int:
    """rt_tgsigqueueinfo(2)."""
    if tid <= 0 or tgid <= 0:
        raise Errno(E.EINVAL)
    info = queued_info(t, sig, addr, tid == t.tid or tgid == t.tg.pid)
    return kill_thread(t, tgid, tid, sig, info)


def pidfd_process(t: Task, fd: int) -> ThreadGroup:
    """The process of a pidfd or of an open /proc/PID directory; EBADF, ESRCH."""
    file = t.fds.get(fd)
    if isinstance(file, PidFile):
        return file.tg
    if isinstance(file.inode, TidDir) and file.inode.whole:
        return file.inode.ref.get().tg
    raise Errno(E.EBADF)


def pidfd_send_signal(t: Task, fd: int, sig: int, addr: int, flags: int) -> int:
    """pidfd_send_signal(2)."""
    if flags:
        raise Errno(E.EINVAL)
    check_signal(sig)
    tg = pidfd_process(t, fd)
    if addr:
        data = t.mm.read(addr, SIGINFO_SIZE)
        if int.from_bytes(data[:4], "little", signed=True) != sig:
            raise Errno(E.EINVAL)
        info = queued_info(t, sig, addr, tg is t.tg)
    else:
        info = signals.user_info(t, sig)
    if tg.reaped:
        raise Errno(E.ESRCH)
    send(t, tg, sig, info)
    return 0


# Waiting


def rt_sigtimedwait(t: Task, uset: int, uinfo: int, utimeout: int, size: int) -> int:
    """sigtimedwait(2)."""
    check_size(size)
    wanted = read_sigset(t, uset) & ~UNBLOCKABLE
    deadline = -1
    if utimeout:
        sec, nsec = TIMESPEC.unpack(t.mm.read(utimeout, TIMESPEC.size))
        if sec < 0 or not 0 <= nsec < SECOND:
            raise Errno(E.EINVAL)
        deadline = min(clock.monotonic() + sec * SECOND + nsec, (1 << 63) - 1)
    info = signals.dequeue(t, wanted)
    if info is None:
        t.waiting_for = wanted
        try:
            while True:
                why = t.block(deadline)
                info = signals.dequeue(t, wanted)
                if info is not None:
                    break
                if why == TIMEOUT:
                    raise Errno(E.EAGAIN)
                if why == INTERRUPTED:
                    raise Errno(E.EINTR)
        finally:
            t.waiting_for = 0
    if uinfo:
        t.mm.write(uinfo, info.pack())
    return info.signo


def restart_syscall(t: Task) -> int:
    """restart_syscall(2)."""
    fn = t.restart_fn
    t.restart_fn = None
    if fn is None:
        raise Errno(E.EINTR)
    return fn(t)
