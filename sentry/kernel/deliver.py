"""What a thread looks at before it goes on in the guest: exit, stops, signals, the restart of an interrupted call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.abi import sysno as NR
from sentry.errors import ERESTART_RESTARTBLOCK, ERESTARTNOINTR, ERESTARTSYS
from sentry.kernel import coredump, signals, stop, tracing
from sentry.kernel import exit as exiting
from sentry.kernel.signals import COREDUMPS, IGNORED, SIG_DFL, SIG_IGN, STOPS, SigInfo, bit

if TYPE_CHECKING:
    from sentry.kernel.task import Task

SYSCALL_INSN: Final = 2  # bytes of the syscall instruction


class TaskExit(Exception):
    """The thread ends here; its wait status is in task.exit_status. Caught by run.py only."""


def work(t: Task) -> None:
    """Called at the border when t.work is set or a call was interrupted. Raises TaskExit."""
    while True:
        t.clear_interrupt()
        if t.must_exit:
            raise TaskExit
        if t.container.paused:
            stop.freeze(t)
            continue
        if t.must_stop:
            stop.here(t)
            continue
        tr = t.tracing
        if tr is not None and tracing.at_border(t, tr):
            continue
        info = next_signal(t)
        if info is None:
            break
        take(t, info)
    if t.tg.pending.set & t.sigmask:  # what the thread has blocked in C since it was chosen to take it
        signals.retarget(t, t.sigmask)
    if t.restart:
        restart(t)
    if t.saved_sigmask >= 0:
        mask = t.saved_sigmask
        t.saved_sigmask = -1
        signals.set_mask(t, mask)
        if t.work:
            work(t)


def next_signal(t: Task) -> SigInfo | None:
    """The next signal that is not blocked; synchronous ones of this thread come before everything else."""
    return signals.dequeue(t, ~t.sigmask)


def take(t: Task, info: SigInfo) -> None:
    """Does what the action of a signal says, after what a tracer says."""
    if t.tracing is not None and info.signo != SIG.SIGKILL:
        chosen = tracing.at_signal(t, info)
        if chosen is None:
            return
        info = chosen
    sig = info.signo
    tg = t.tg
    action = tg.actions.get(sig)
    if action.handler == SIG_IGN:
        return
    if action.handler != SIG_DFL:
        handle(t, info, action)
        return
    if bit(sig) & IGNORED or tg.unkillable:
        return
    if bit(sig) & STOPS:
        if sig == SIG.SIGSTOP or not tg.pgrp.orphaned():
            stop.begin(t, sig)
        return
    core = bit(sig) & COREDUMPS and coredump.dump(t, info)
    exiting.kill_group(tg, sig | exiting.CORE_BIT if core else sig)
    raise TaskExit


def handle(t: Task, info: SigInfo, action: ffi.CData) -> None:
    """Enters the handler: settles the interrupted call, writes the frame, blocks what the handler wants blocked."""
    sig = info.signo
    regs = t.regs
    if t.restart:
        kind = t.restart
        t.restart = 0
        if kind == ERESTARTNOINTR or (kind == ERESTARTSYS and action.flags & SIG.SA_RESTART):
            regs.rax = regs.orig_rax
            regs.rip -= SYSCALL_INSN
        else:
            regs.rax = -E.EINTR & 0xFFFFFFFFFFFFFFFF
    regs.orig_rax = 0xFFFFFFFFFFFFFFFF
    if action.flags & SIG.SA_RESETHAND:
        t.tg.actions.native.action[sig].handler = SIG_DFL
    saved = t.sigmask
    if t.saved_sigmask >= 0:
        saved = t.saved_sigmask
        t.saved_sigmask = -1
    if lib.cn_signal_enter(t.native, sig, action, info.pack(), saved) < 0:
        signals.force_segv(t, sig)
        if saved != t.sigmask:  # Linux leaves the temporary mask's successor in force
            signals.set_mask(t, saved & ~bit(SIG.SIGSEGV))
    elif t.tracing is not None:
        tracing.at_handler(t)


def restart(t: Task) -> None:
    """No handler ran: the interrupted call starts again."""
    kind = t.restart
    t.restart = 0
    regs = t.regs
    if kind == ERESTART_RESTARTBLOCK:
        regs.rax = NR.restart_syscall
    else:
        regs.rax = regs.orig_rax
    regs.rip -= SYSCALL_INSN
