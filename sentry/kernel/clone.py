"""New threads and processes (clone(2), fork(2), vfork(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import ptrace as PT
from sentry.abi import resource as R
from sentry.abi import sched as S
from sentry.errors import Errno
from sentry.kernel import clock, tracing
from sentry.kernel.task import Task
from sentry.kernel.threadgroup import ThreadGroup
from sentry.vfs.mount import FSContext, Mount, Path

if TYPE_CHECKING:
    pass

NAMESPACES: Final = (
    S.CLONE_NEWNS
    | S.CLONE_NEWUTS
    | S.CLONE_NEWIPC
    | S.CLONE_NEWUSER
    | S.CLONE_NEWPID
    | S.CLONE_NEWNET
    | S.CLONE_NEWCGROUP
)
UNSUPPORTED: Final = NAMESPACES & ~(S.CLONE_NEWUTS | S.CLONE_NEWNS)


class CloneArgs:
    """What clone3(2) takes; clone(2), fork(2) and vfork(2) fill it in, too. Addresses are the guest's, 0 for none."""

    def __init__(self, flags: int, exit_signal: int) -> None:
        self.flags: int = flags
        self.exit_signal: int = exit_signal
        self.pidfd: int = 0
        self.child_tid: int = 0
        self.parent_tid: int = 0
        self.stack: int = 0  # the new stack pointer; 0: the caller's
        self.tls: int = 0
        self.set_tid: int = 0  # wanted pid; 0: any


def check(t: Task, a: CloneArgs) -> None:
    """The combinations that Linux refuses (copy_process in kernel/fork.c), and what this kernel does not have."""
    f = a.flags
    if f & (S.CLONE_NEWNS | S.CLONE_FS) == S.CLONE_NEWNS | S.CLONE_FS:
        raise Errno(E.EINVAL)
    if f & (S.CLONE_NEWUSER | S.CLONE_FS) == S.CLONE_NEWUSER | S.CLONE_FS:
        raise Errno(E.EINVAL)
    if f & S.CLONE_THREAD and not f & S.CLONE_SIGHAND:
        raise Errno(E.EINVAL)
    if f & S.CLONE_SIGHAND and not f & S.CLONE_VM:
        raise Errno(E.EINVAL)
    if f & S.CLONE_THREAD and f & (S.CLONE_NEWUSER | S.CLONE_NEWPID):
        raise Errno(E.EINVAL)
    if f & S.CLONE_PIDFD and f & (S.CLONE_THREAD | S.CLONE_DETACHED):
        raise Errno(E.EINVAL)
    if f & S.CLONE_CLEAR_SIGHAND and f & S.CLONE_SIGHAND:
        raise Errno(E.EINVAL)
    if f & S.CLONE_PARENT and t.tg.is_init:
        raise Errno(E.EINVAL)
    if f & NAMESPACES:
        if not t.creds.has(CAP.CAP_SYS_ADMIN) and f & NAMESPACES != S.CLONE_NEWUSER:
            raise Errno(E.EPERM)
        if f & UNSUPPORTED:  # what a Linux built without that namespace says
            raise Errno(E.EINVAL)
    if not f & S.CLONE_THREAD:
        check_nproc(t)


def check_nproc(t: Task) -> None:
    """RLIMIT_NPROC counts tasks of the real user."""
    if t.creds.has(CAP.CAP_SYS_RESOURCE) or t.creds.has(CAP.CAP_SYS_ADMIN) or t.creds.ruid == 0:
        return
    limit = t.tg.limits.soft(R.RLIMIT_NPROC)
    n = 0
    uid = t.creds.ruid
    for other in t.pidns.tasks.values():
        if other.creds.ruid == uid:
            n += 1
    if n >= limit:
        raise Errno(E.EAGAIN)


def clone(t: Task, a: CloneArgs) -> int:
    """Makes the new task and starts it; its tid. With CLONE_VFORK it returns when the child has execed or ended."""
    check(t, a)
    f = a.flags
    kernel = t.kernel
    tid = pick_pid(t, a)
    child = new_task(t, tid, a)
    if f & S.CLONE_PIDFD:
        try:
            give_pidfd(t, child.tg, a.pidfd)
        except BaseException:
            abandon(child, t)
            raise
    publish(t, child, a)
    if f & S.CLONE_PARENT_SETTID:
        put_tid(t, a.parent_tid, tid)
    if f & S.CLONE_CHILD_SETTID:
        put_tid(child, a.child_tid, tid)
    if f & S.CLONE_CHILD_CLEARTID:
        child.clear_child_tid = a.child_tid
    if f & S.CLONE_VFORK:
        child.vfork_parent = t
    event = tracing.cloned(t, child, f) if t.tracing is not None else 0
    try:
        kernel.start_task(child)
    except Errno:
        withdraw(t, child)
        raise
    if event:
        tracing.cloned_event(t, event, tid)
    if f & S.CLONE_VFORK:
        await_vfork(t, child)
        tracing.event(t, PT.PTRACE_EVENT_VFORK_DONE, PT.PTRACE_O_TRACEVFORKDONE, tid)
    return tid


def pick_pid(t: Task, a: CloneArgs) -> int:
    if t.policy == S.SCHED_DEADLINE:  # sched(7): only with SCHED_RESET_ON_FORK
        raise Errno(E.EAGAIN)
    if a.set_tid:
        if t.pidns.used(a.set_tid):
            raise Errno(E.EEXIST)
        t.container.check_pids()
        return a.set_tid
    return t.container.new_pid()


def new_task(t: Task, tid: int, a: CloneArgs) -> Task:
    """The child, complete but not to be seen yet."""
    f = a.flags
    kernel = t.kernel
    if f & S.CLONE_THREAD:
        tg = t.tg
    else:
        if f & S.CLONE_SIGHAND:
            actions = t.tg.actions
            actions.users += 1
        else:
            actions = t.tg.actions.copy()
            if f & S.CLONE_CLEAR_SIGHAND:
                actions.reset_handled()
        parent = t.tg.parent if f & S.CLONE_PARENT else t.tg
        tg = ThreadGroup(kernel, tid, parent, t.tg.pgrp, t.tg.limits.copy(), actions, t.container)
        tg.parent_task = t.tg.parent_task if f & S.CLONE_PARENT else t
        tg.personality = t.tg.personality
        tg.oom_score_adj = t.tg.oom_score_adj
    mm = t.mm.share() if f & S.CLONE_VM else t.mm.fork(t.regs.rsp)
    try:
        if f & S.CLONE_FS:
            fs = t.fs
            fs.users += 1
        else:
            fs = t.fs.copy()
        fds = t.fds.share() if f & S.CLONE_FILES else t.fds.copy()
        uts = t.uts.copy() if f & S.CLONE_NEWUTS else t.uts
        child = Task(kernel, tid, tg, mm, fs, fds, t.creds, uts)
    except BaseException:
        mm.unref()
        raise
    if f & S.CLONE_NEWNS:
        new_mount_namespace(fs)
    ffi.memmove(child.regs, t.regs, ffi.sizeof("struct cn_regs"))
    lib.cn_task_copy_xstate(child.native, t.native)
    child.regs.rax = 0
    if a.stack:
        child.regs.rsp = a.stack
    if f & S.CLONE_SETTLS:
        child.regs.fs_base = a.tls
    if t.seccomp is not None:
        lib.cn_task_set_slow(child.native, 1)
    child.comm = t.comm
    child.sigmask = t.sigmask if t.saved_sigmask < 0 else t.saved_sigmask
    if f & (S.CLONE_VM | S.CLONE_VFORK) != S.CLONE_VM:
        child.signals.stack = t.signals.stack
        child.signals.stack_size = t.signals.stack_size
        child.signals.stack_flags = t.signals.stack_flags
    if not f & S.CLONE_VM:
        child.rseq = t.rseq
        child.rseq_len = t.rseq_len
        child.rseq_sig = t.rseq_sig
    child.exit_signal = 0
    if not f & S.CLONE_THREAD:
        child.exit_signal = t.tg.main.exit_signal if f & S.CLONE_PARENT else a.exit_signal
    child.seccomp = t.seccomp
    child.timer_slack = child.default_timer_slack = t.timer_slack
    child.policy = t.policy
    child.rt_priority = t.rt_priority
    child.nice = t.nice
    child.ioprio = t.ioprio
    child.mempolicy = t.mempolicy
    child.mempolicy_nodes = t.mempolicy_nodes
    if t.policy & S.SCHED_RESET_ON_FORK:
        child.policy = S.SCHED_OTHER
        child.rt_priority = 0
        child.nice = max(child.nice, 0)
    child.affinity = t.affinity
    child.start_time = clock.monotonic()
    return child


def abandon(child: Task, t: Task) -> None:
    """The child will not be: gives back what it got."""
    child.fds.unref(t)
    child.fs.users -= 1
    if child.tg.leader is None:  # not published
        child.tg.actions.users -= 1
    lib.cn_task_free(child.native)
    child.native = ffi.NULL
    child.mm.unref()


def publish(t: Task, child: Task, a: CloneArgs) -> None:
    """From here on the child can be found, waited for and signalled."""
    kernel = t.kernel
    tg = child.tg
    kernel.add_task(child)
    tg.tasks.append(child)
    if a.flags & S.CLONE_THREAD:
        if tg.stop_signal and t.must_stop:
            tg.stop_count += 1
            child.must_stop = True
            child.interrupt()
        if tg.exiting:
            child.must_exit = True
            child.interrupt()
        return
    tg.leader = child
    tg.pidns.groups[tg.pid] = tg
    tg.pgrp.members.append(tg)
    owner = tg.parent_task
    if owner is not None:
        owner.children.append(tg)


def withdraw(t: Task, child: Task) -> None:
    """The host has no thread for the child: nobody has seen it run, and it goes as if it had never been."""
    kernel = t.kernel
    tg = child.tg
    if child.tracing is not None:
        tracing.end(child, child.tracing)
    kernel.forget_task(child)
    child.container.living -= 1
    tg.tasks.remove(child)
    if child.must_stop:
        tg.stop_count -= 1
    child.vfork_parent = None
    if tg.leader is child:
        del tg.pidns.groups[tg.pid]
        tg.leave_pgrp()
        owner = tg.parent_task
        if owner is not None:
            owner.children.remove(tg)
        tg.actions.users -= 1
        tg.dead = tg.reaped = True
    abandon(child, t)


def put_tid(t: Task, addr: int, tid: int) -> None:
    """Linux ignores a bad address here."""
    try:
        t.mm.write(addr, tid.to_bytes(4, "little"))
    except Errno:
        pass


def give_pidfd(t: Task, tg: ThreadGroup, addr: int) -> None:
    from sentry.kernel.pidfd import PidFile

    fd = t.fds.install(PidFile(tg), True, t.tg.limits.soft(R.RLIMIT_NOFILE))
    try:
        t.mm.write(addr, fd.to_bytes(4, "little"))
    except Errno:
        t.fds.close(t, fd)
        raise


def await_vfork(t: Task, child: Task) -> None:
    """Sleeps until the child no longer uses our memory; only death interrupts."""
    while child.vfork_parent is t and not t.must_exit:
        t.block()
        if t.work and not t.must_exit:
            lib.cn_task_clear_interrupt(t.native)  # looked at later: t.work stays
    child.vfork_parent = None


def new_mount_namespace(fs: FSContext) -> None:
    """The context sees a copy of its mounts from now on (CLONE_NEWNS)."""
    old = fs.root.mount.ns
    if old is None:
        raise Errno(E.EINVAL)
    _, made = old.clone()
    fs.set_root(moved(fs.root, made))
    fs.set_cwd(moved(fs.cwd, made))


def moved(path: Path, made: dict[int, Mount]) -> Path:
    """The same place in a copied mount tree."""
    mount = made.get(path.mount.ident)
    return path if mount is None else Path(mount, path.dentry)
