"""How threads and processes end: exit, exit_group, fatal signals; who inherits children; telling the parent (_exit(2), wait(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.kernel import futex, rusage, signals, stop, tracing
from sentry.kernel.signals import SIG_IGN
from sentry.kernel.task import DEAD, EXITING, ZOMBIE

if TYPE_CHECKING:
    from sentry.kernel.session import ProcessGroup, Session
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

CORE_BIT: Final = 0x80


def kill_group(tg: ThreadGroup, status: int) -> None:
    """All threads of a process are to end with this wait status (the first such call decides it)."""
    if not tg.exiting:
        tg.exiting = True
        tg.exit_status = status
        tg.stop_signal = 0
        tg.stop_count = 0
    for t in tg.tasks:
        kill_task(t)


def kill_task(t: Task) -> None:
    """One thread is to end (exec by another one, too); its own host thread does it."""
    if t.alive and not t.must_exit:
        t.must_exit = True
        t.must_stop = False
        t.interrupt()


def status_of(t: Task) -> int:
    """The wait status that an ending thread ends with."""
    return t.tg.exit_status if t.tg.exiting else t.exit_status


def end_task(t: Task) -> None:
    """The thread ends. Called once, by its own host thread, when nothing of it runs any more."""
    tg = t.tg
    kernel = t.kernel
    stopping = t.must_stop
    t.state = EXITING
    t.must_stop = False
    last = len(tg.tasks) == 1
    if last and not tg.exiting:
        tg.exiting = True
        tg.exit_status = t.exit_status  # the last thread's, since Linux 5.17
    for hook in kernel.exit_hooks:
        hook(t, last)
    release_mm(t)
    t.fds.unref(t)
    t.fs.users -= 1
    retire_native(t)
    tg.account(t)
    t.mm.unref()
    tg.tasks.remove(t)
    if stopping and tg.stop_signal:
        stop.left(tg)
    tracing.tracer_ended(t)
    if not t.leader:
        tracing.thread_ended(t, status_of(t))
    if not tg.exiting:
        signals.retarget_from(t)
    signals.discard(t, t.pending, signals.ALL)
    give_away_children(t)
    if t.leader:
        t.state = ZOMBIE
    else:
        t.state = DEAD
        kernel.forget_task(t)
    if last:
        end_group(tg)
    else:
        tg.child_queue.notify(P.POLLIN)  # an exec waits for the others to go
    kernel.task_ended(t)


def never_ran(t: Task) -> None:
    """A process made from outside whose program could not be loaded: it goes without a trace."""
    tg = t.tg
    t.state = EXITING
    tg.exiting = True
    t.fds.unref(t)
    t.fs.users -= 1
    native = t.native
    t.native = ffi.NULL
    t.regs = ffi.NULL
    lib.cn_task_free(native)
    t.mm.unref()
    tg.tasks.remove(t)
    tg.dead = True
    t.container.living -= 1
    if tg.pidns.init is tg:
        tg.pidns.init = None
    reap(tg)


def retire_native(t: Task) -> None:
    """Gives up the native half; its CPU times are kept."""
    lib.cn_task_release_ctx(t.native)
    t.utime_final, t.stime_final = t.cpu_ns()
    t.blocks = t.nvcsw
    native = t.native
    t.native = ffi.NULL
    t.regs = ffi.NULL
    lib.cn_task_free(native)


def release_mm(t: Task) -> None:
    """Ends the use of the memory, at exit and at exec: robust futexes, the tid word, the parent of a vfork."""
    tg = t.tg
    if len(tg.tasks) == 1:
        tg.maxrss = max(tg.maxrss, rusage.memory_kib(t.mm))
    if t.robust_list:
        futex.exit_robust_list(t)
        t.robust_list = 0
    addr = t.clear_child_tid
    if addr:
        t.clear_child_tid = 0
        if t.mm.users > 1:
            try:
                t.mm.write(addr, b"\0\0\0\0")
                futex.wake_address(t, addr, 1)
            except Errno:
                pass
    finish_vfork(t)


def finish_vfork(t: Task) -> None:
    """The memory is the vfork parent's alone again."""
    parent = t.vfork_parent
    if parent is not None:
        t.vfork_parent = None
        parent.wake()


def reaper_of(tg: ThreadGroup) -> ThreadGroup:
    """Who inherits the children of a process: the nearest ancestor that is a subreaper, else init."""
    p = tg.parent
    while p is not None:
        if p.subreaper and not p.exiting and p.tasks:
            return p
        p = p.parent
    assert tg.pidns.init is not None
    return tg.pidns.init


def give_away_children(t: Task) -> None:
    """Another thread of the process, or else the reaper, becomes the parent of what the thread has made."""
    children = t.children
    if not children:
        return
    t.children = []
    tg = t.tg
    heir: Task | None = None
    for other in tg.tasks:
        if other.alive:
            heir = other
            break
    for child in children:
        if child.pdeath_of(t) and child.main.alive:
            signals.send_to_group(child, signals.user_info(t, child.main.pdeathsig))
        if heir is not None:
            child.parent_task = heir
            heir.children.append(child)
            continue
        new = reaper_of(tg)
        if new is tg or not new.tasks:  # init itself ends: everything dies with it
            child.parent = None
            child.parent_task = None
            publish_parent(child)
            continue
        child.parent = new
        publish_parent(child)
        child.parent_task = new.tasks[0]
        new.tasks[0].children.append(child)
        child.main.exit_signal = SIG.SIGCHLD
        if child.dead:
            if not child.unheard:
                tell_parent(child)
        else:
            hang_up_orphans(child.pgrp, child, tg)


def publish_parent(tg: ThreadGroup) -> None:
    """getppid(2) has another answer now."""
    for t in tg.tasks:
        if t.alive:
            t.publish_ids()


def hang_up_orphans(pg: ProcessGroup, of: ThreadGroup, parent: ThreadGroup | None) -> None:
    """If the process group became orphaned just now and has a stopped member: SIGHUP and SIGCONT to it (POSIX _exit)."""
    if parent is None or parent.pgrp is pg or parent.pgrp.session is not pg.session:
        return
    if pg.orphaned() and any(tg.stopped for tg in pg.members if not tg.dead):
        signals.send_to_pgrp(pg, signals.kernel_info(SIG.SIGHUP))
        signals.send_to_pgrp(pg, signals.kernel_info(SIG.SIGCONT))


def end_group(tg: ThreadGroup) -> None:
    """The last thread has gone: the process is a zombie now, or at once nothing if its parent does not care."""
    tg.dead = True
    signals.discard(tg.main, tg.pending, signals.ALL)
    tg.actions.users -= 1
    tracing.group_ended(tg)
    session = tg.pgrp.session
    if session.leader is tg:
        end_session(session)
    hang_up_orphans(tg.pgrp, tg, tg.parent)
    record = tg.record
    if record is not None:
        if record.init:
            tg.container.init_ended()
        else:
            record.end(tg)
    tg.exit_queue.notify(P.POLLIN)
    for lost in tg.lost:
        heard(lost.tg)
    tg.lost = []
    if not tg.unheard:
        tell_parent(tg)


def heard(tg: ThreadGroup) -> None:
    """A tracer has waited for a thread of the process that ended (or will not any more): the parent hears of the process's end
    after the tracers of its threads."""
    tg.unheard -= 1
    if tg.dead and not tg.unheard:
        tell_parent(tg)


def end_session(session: Session) -> None:
    """The session leader has gone: its terminal is free, and the foreground job hears of it."""
    session.leader = None
    tty = session.tty
    if tty is not None:
        tty.disassociate(session)
        return
    old = session.old_foreground
    if old is not None:
        session.old_foreground = None
        signals.send_to_pgrp(old, signals.kernel_info(SIG.SIGHUP))
        signals.send_to_pgrp(old, signals.kernel_info(SIG.SIGCONT))


def tell_parent(tg: ThreadGroup) -> None:
    """Sends the exit signal; reaps the process at once when the parent ignores SIGCHLD."""
    parent = tg.parent
    if parent is None:
        reap(tg)
        return
    sig = tg.main.exit_signal
    status = tg.exit_status
    auto = False
    if sig == SIG.SIGCHLD:
        ignored = parent.actions.handler(sig) == SIG_IGN
        auto = ignored or bool(parent.actions.flags(sig) & SIG.SA_NOCLDWAIT)
        if ignored:
            sig = 0
    if sig:
        signo = status & 0x7F
        if signo == 0:
            info = stop.child_info(tg, SIG.CLD_EXITED, status >> 8 & 0xFF)
        else:
            info = stop.child_info(tg, SIG.CLD_DUMPED if status & CORE_BIT else SIG.CLD_KILLED, signo)
        info.signo = sig
        signals.send_to_group(parent, info)
    if auto:
        reap(tg)
    parent.child_queue.notify(P.POLLIN)


def reap(tg: ThreadGroup) -> None:
    """A zombie's last trace goes: its numbers are free."""
    if tg.reaped:
        return
    tg.reaped = True
    leader = tg.main
    leader.state = DEAD
    kernel = tg.kernel
    kernel.forget_task(leader)
    tg.pidns.groups.pop(tg.pid, None)
    owner = tg.parent_task
    if owner is not None and tg in owner.children:
        owner.children.remove(tg)
    tg.parent_task = None
    tg.leave_pgrp()
