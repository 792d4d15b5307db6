"""ptrace(2) on the side of the thread that is traced: its stops, and what its tracer hears of them.

A stop is a `Trap`. The thread makes it and sleeps in `stop` until its tracer lets it go on or somebody kills it; meanwhile the tracer
works on its registers and memory. The requests: sentry/syscalls/ptrace.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import ptrace as PT
from sentry.abi import sched as S
from sentry.abi import signal as SIG
from sentry.kernel import signals
from sentry.kernel.rusage import Usage, usage_of_group, usage_of_task
from sentry.kernel.signals import SIG_IGN, SigInfo, bit
from sentry.kernel.task import TRACED

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

SYSGOOD: Final = 0x80  # marks the SIGTRAP of a system call
EFLAGS_TF: Final = 0x100
AS_IT_IS: Final = -1
NO_CALL: Final = 0xFFFFFFFFFFFFFFFF
M64: Final = 0xFFFFFFFFFFFFFFFF

# Where in a system call a stop is: PTRACE_SYSCALL_INFO_*.
OUTSIDE: Final = PT.PTRACE_SYSCALL_INFO_NONE
ENTRY: Final = PT.PTRACE_SYSCALL_INFO_ENTRY
EXIT: Final = PT.PTRACE_SYSCALL_INFO_EXIT


class Trap:
    """One stop. `code` is the upper half of its wait status: the signal, and the PTRACE_EVENT_* << 8."""

    def __init__(self, code: int, info: SigInfo | None, call: int) -> None:
        self.code: int = code
        self.info: SigInfo | None = info  # None: a group stop, which has none
        self.call: int = call
        self.reported: bool = False  # to wait4
        self.signal: int = 0  # what the thread goes on with, the tracer's choice


class XstateOrder:
    """The tracer wants the thread's extended registers, or (`data`) changes them. The thread itself has to do it: a platform may tie
    them to its host thread."""

    def __init__(self, data: bytes | None) -> None:
        self.data: bytes | None = data
        self.image: bytes = b""
        self.errno: int = 0
        self.done: bool = False


class Tracing:
    """That a thread is traced, and how."""

    def __init__(self, tracer: Task, options: int, seized: bool) -> None:
        self.tracer: Task = tracer
        self.options: int = options
        self.seized: bool = seized  # PTRACE_SEIZE, not PTRACE_ATTACH or PTRACE_TRACEME
        self.mode: int = PT.PTRACE_CONT  # it was let go on by this request, PTRACE_SYSCALL or PTRACE_SINGLESTEP
        self.trap: Trap | None = None
        self.listening: bool = False  # PTRACE_LISTEN: in a group stop that its tracer leaves alone
        self.interrupt: bool = False  # PTRACE_INTERRUPT
        self.regroup: bool = False  # it was in a group stop when its tracer came
        self.message: int = 0  # PTRACE_GETEVENTMSG
        self.order: XstateOrder | None = None


class Lost:
    """A traced thread that ended, as its tracer's wait4 tells it; others wait for it by themselves."""

    def __init__(self, t: Task, status: int, usage: Usage) -> None:
        self.tg: ThreadGroup = t.tg
        self.tid: int = t.tid
        self.pgid: int = t.tg.pgrp.pgid
        self.uid: int = t.creds.ruid
        self.status: int = status
        self.usage: Usage = usage


# Beginning and end.


def begin(t: Task, tracer: Task, options: int, seized: bool) -> Tracing:
    """From now on `tracer` traces the thread."""
    tr = Tracing(tracer, options, seized)
    t.tracing = tr
    tracer.tracees.append(t)
    lib.cn_task_set_slow(t.native, 1)
    return tr


def end(t: Task, tr: Tracing, sig: int = AS_IT_IS) -> None:
    """Nobody traces the thread any more: it goes on, with this signal, or takes part in a group stop again."""
    tr.tracer.tracees.remove(t)
    t.tracing = None
    if t.native == ffi.NULL:
        return
    lib.cn_task_set_slow(t.native, int(t.seccomp is not None))
    trap = tr.trap
    if trap is not None:
        if sig != AS_IT_IS:
            trap.signal = sig
        t.wake()
    tg = t.tg
    if tg.stop_signal and not t.must_stop:
        tg.stop_count += 1
        t.must_stop = True
        t.interrupt()


def tracer_ended(tracer: Task) -> None:
    """Its tracees are free, or die with it (PTRACE_O_EXITKILL)."""
    for t in tracer.tracees[:]:
        tr = t.tracing
        if tr is None:
            continue
        kill = bool(tr.options & PT.PTRACE_O_EXITKILL)
        end(t, tr)
        if kill:
            signals.send_to_group(t.tg, signals.kernel_info(SIG.SIGKILL))


def thread_ended(t: Task, status: int) -> None:
    """A traced thread ended that is not the process's first: its tracer may wait for it."""
    tr = t.tracing
    if tr is not None:
        lose(t, tr, status, usage_of_task(t))


def group_ended(tg: ThreadGroup) -> None:
    """A process ended whose first thread was traced: a tracer that is not its parent hears of it, too."""
    t = tg.main
    tr = t.tracing
    if tr is not None:
        if tr.tracer.tg is tg.parent:
            end(t, tr)
        else:
            lose(t, tr, tg.exit_status, usage_of_group(tg))


def lose(t: Task, tr: Tracing, status: int, usage: Usage) -> None:
    tracer = tr.tracer.tg
    end(t, tr)
    actions = tracer.actions
    if actions.handler(SIG.SIGCHLD) == SIG_IGN or actions.flags(SIG.SIGCHLD) & SIG.SA_NOCLDWAIT:
        tracer.child_queue.notify(P.POLLIN)
        return
    tracer.lost.append(Lost(t, status, usage))
    t.tg.unheard += 1
    info = SigInfo(SIG.SIGCHLD, SIG.CLD_KILLED if status & 0x7F else SIG.CLD_EXITED)
    info.pid = t.tid
    info.uid = t.creds.ruid
    info.value = status & 0x7F or status >> 8 & 0xFF
    signals.send_to_group(tracer, info)
    tracer.child_queue.notify(P.POLLIN)


# Stops.


def notice(t: Task, code: int) -> SigInfo:
    """The siginfo of a stop that is not for a signal."""
    info = SigInfo(SIG.SIGTRAP if code & 0x7F == SIG.SIGTRAP else code & 0x7F, code)
    info.pid = t.tid
    info.uid = t.creds.ruid
    return info


def tell(t: Task, tr: Tracing, code: int) -> None:
    """The tracer gets SIGCHLD, unless it does not want it, and its wait4 looks again."""
    tg = tr.tracer.tg
    actions = tg.actions
    if actions.handler(SIG.SIGCHLD) != SIG_IGN and not actions.flags(SIG.SIGCHLD) & SIG.SA_NOCLDSTOP:
        info = SigInfo(SIG.SIGCHLD, SIG.CLD_TRAPPED)
        info.pid = t.tid
        info.uid = t.creds.ruid
        info.value = code & 0x7F
        signals.send_to_group(tg, info)
    tg.child_queue.notify(P.POLLIN)


def stop(
    t: Task, code: int, info: SigInfo | None, call: int = OUTSIDE, dying: bool = False, sig: int = 0
) -> Trap | None:
    """The thread stops for its tracer; None when there is none or the thread is killed. `dying`: it ends anyway, only SIGKILL
    shortens the stop. `sig`: the signal that it goes on with if its tracer ends. A call that was interrupted shows its ERESTART* in
    rax; it does not start again if the tracer changes that."""
    tr = t.tracing
    if tr is None or (t.must_exit and not dying):
        return None
    regs = t.regs
    regs.eflags &= ~EFLAGS_TF
    shown = regs.rax
    if t.restart:
        shown = -t.restart & M64
        regs.rax = shown
    trap = Trap(code, info, call)
    trap.signal = sig
    tr.trap = trap
    tell(t, tr, code)
    old = t.state
    t.state = TRACED
    while held(t, tr, trap) and not ended(t, dying):
        t.clear_interrupt()
        if not obey(t, tr):
            t.sleep(-1)
    t.state = old
    tr.trap = None
    tr.listening = False
    if t.restart and (regs.rax != shown or regs.orig_rax == NO_CALL):
        t.restart = 0
    if t.must_exit or t.must_stop or tr.interrupt or t.container.paused:
        t.interrupt()
    signals.recalculate(t)
    return trap


def held(t: Task, tr: Tracing, trap: Trap) -> bool:
    return t.tracing is tr and tr.trap is trap


def ended(t: Task, dying: bool) -> bool:
    if dying:
        return t.tg.exiting and t.tg.exit_status == SIG.SIGKILL
    return t.must_exit


def obey(t: Task, tr: Tracing) -> bool:
    """Reads or writes the extended registers, by their own host thread, if the tracer wants that."""
    order = tr.order
    if order is None:
        return False
    tr.order = None
    data = order.data
    if data is not None:
        order.errno = -lib.cn_task_set_xstate(t.native, data, len(data))
    else:
        size: int = lib.cn_xstate_size()
        image = ffi.new("uint8_t[]", size)
        n: int = lib.cn_task_get_xstate(t.native, image, size)
        order.errno = -n if n < 0 else 0
        order.image = bytes(ffi.buffer(image, size))
    order.done = True
    tr.tracer.wake()
    return True


def resume(t: Task, tr: Tracing, mode: int, sig: int) -> None:
    """Lets a stopped thread go on, with a signal."""
    trap = tr.trap
    assert trap is not None
    trap.signal = sig
    tr.mode = mode
    if mode == PT.PTRACE_SINGLESTEP:
        t.regs.eflags |= EFLAGS_TF
    tr.trap = None
    t.wake()


def retrap(t: Task, tr: Tracing) -> None:
    """A thread in PTRACE_LISTEN has news: its group stop began or ended, or PTRACE_INTERRUPT."""
    trap = tr.trap
    if trap is None:
        return
    tr.listening = False
    trap.code = (t.tg.stop_signal or SIG.SIGTRAP) | PT.PTRACE_EVENT_STOP << 8
    trap.info = notice(t, trap.code)
    trap.reported = False
    tell(t, tr, trap.code)


def at_signal(t: Task, info: SigInfo) -> SigInfo | None:
    """A signal is about to be taken: what its tracer makes of it; None for nothing."""
    trap = stop(t, info.signo, info, OUTSIDE, False, info.signo)
    if trap is None:
        return None
    sig = trap.signal
    if not sig:
        return None
    new = trap.info
    if new is None or new.signo != sig:
        new = signals.user_info(t, sig)
    if bit(sig) & t.sigmask:
        signals.send_to_task(t, new)
        return None
    return new


def at_border(t: Task, tr: Tracing) -> bool:
    """Stops that the tracer asked for; True: look at everything again."""
    if tr.regroup:
        tr.regroup = False
        at_group_stop(t)
        return True
    if tr.interrupt:
        tr.interrupt = False
        code = SIG.SIGTRAP | PT.PTRACE_EVENT_STOP << 8
        stop(t, code, notice(t, code))
        return True
    return False


def at_group_stop(t: Task) -> None:
    """Its process stops: so does the thread, but it is its tracer who says how long."""
    tr = t.tracing
    sig = t.tg.stop_signal
    if tr is None or not sig:
        return
    if tr.seized:
        code = sig | PT.PTRACE_EVENT_STOP << 8
        stop(t, code, notice(t, code))
    else:
        stop(t, sig, None)


def at_handler(t: Task) -> None:
    """A handler was entered while the thread goes step by step."""
    tr = t.tracing
    if tr is not None and tr.mode == PT.PTRACE_SINGLESTEP:
        stop(t, SIG.SIGTRAP, notice(t, SIG.SIGTRAP))


def event(t: Task, which: int, option: int, message: int, dying: bool = False) -> bool:
    """One of the PTRACE_EVENT_* stops, if the tracer wants it."""
    tr = t.tracing
    if tr is None or not tr.options & option:
        return False
    tr.message = message
    code = SIG.SIGTRAP | which << 8
    stop(t, code, notice(t, code), OUTSIDE, dying)
    return True


# System calls.


def at_call(t: Task, where: int) -> None:
    tr = t.tracing
    if tr is None or tr.mode != PT.PTRACE_SYSCALL:
        return
    tr.message = PT.PTRACE_EVENTMSG_SYSCALL_ENTRY if where == ENTRY else PT.PTRACE_EVENTMSG_SYSCALL_EXIT
    code = SIG.SIGTRAP | (SYSGOOD if tr.options & PT.PTRACE_O_TRACESYSGOOD else 0)
    trap = stop(t, code, notice(t, code), where)
    if trap is not None and trap.signal:
        signals.send_to_task(t, signals.user_info(t, trap.signal))


def enter_call(t: Task, number: int) -> int:
    """Before a call: its number, which the tracer may have changed, as its arguments; negative: it is not made."""
    regs = t.regs
    regs.rax = -E.ENOSYS & M64
    at_call(t, ENTRY)
    if t.must_exit:
        return -1
    args = t.native.args
    args[0], args[1], args[2] = regs.rdi, regs.rsi, regs.rdx
    args[3], args[4], args[5] = regs.r10, regs.r8, regs.r9
    changed: int = regs.orig_rax
    return changed if changed < 1 << 63 else -1


def leave_call(t: Task) -> None:
    """After a call, its result in the registers."""
    tr = t.tracing
    if tr is None:
        return
    if tr.mode == PT.PTRACE_SINGLESTEP:
        signals.force(t, SigInfo(SIG.SIGTRAP, SIG.TRAP_BRKPT))
    else:
        at_call(t, EXIT)


# Clones and programs.


def cloned(t: Task, child: Task, flags: int) -> int:
    """The child is traced, too, if the tracer of t wants that: the PTRACE_EVENT_* that t stops with once it runs, 0 for none."""
    tr = t.tracing
    if tr is None or flags & S.CLONE_UNTRACED:
        return 0
    if flags & S.CLONE_VFORK:
        which, option = PT.PTRACE_EVENT_VFORK, PT.PTRACE_O_TRACEVFORK
    elif child.exit_signal == SIG.SIGCHLD:
        which, option = PT.PTRACE_EVENT_FORK, PT.PTRACE_O_TRACEFORK
    else:
        which, option = PT.PTRACE_EVENT_CLONE, PT.PTRACE_O_TRACECLONE
    wanted = bool(tr.options & option)
    if wanted or flags & S.CLONE_PTRACE:
        new = begin(child, tr.tracer, tr.options, tr.seized)
        if tr.seized:
            new.interrupt = True
        else:
            child.pending.set |= bit(SIG.SIGSTOP)
        child.interrupt()
    return which if wanted else 0


def cloned_event(t: Task, which: int, tid: int) -> None:
    tr = t.tracing
    if tr is not None:
        event(t, which, tr.options, tid)


def executed(t: Task, old_tid: int) -> None:
    """A traced thread runs another program."""
    tr = t.tracing
    if tr is None or event(t, PT.PTRACE_EVENT_EXEC, PT.PTRACE_O_TRACEEXEC, old_tid) or tr.seized:
        return
    signals.send_to_task(t, signals.user_info(t, SIG.SIGTRAP))


def may_gain(t: Task) -> bool:
    """May exec give the thread more than it has? Not under a tracer that may not do the same (ptrace(2), execve(2))."""
    tr = t.tracing
    return tr is None or tr.tracer.creds.has(CAP.CAP_SYS_PTRACE)
