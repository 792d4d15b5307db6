"""Process syscalls: creation, programs, ends, waiting, identity, sessions, prctl and kin."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import resource as R
from sentry.abi import sched as S
from sentry.abi import seccomp as SC
from sentry.abi import signal as SIG
from sentry.abi import wait as W
from sentry.errors import NO_RESULT, Errno
from sentry.kernel import clone as cloning
from sentry.kernel import execve as execing
from sentry.kernel import exit as exiting
from sentry.kernel import seccomp as filters
from sentry.kernel import waiting
from sentry.kernel.clone import CloneArgs
from sentry.kernel.deliver import TaskExit
from sentry.kernel.pidfd import PidFile
from sentry.kernel.session import ProcessGroup, Session
from sentry.kernel.signals import NSIG
from sentry.vfs.epoll import Epoll

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup

CSIGNAL: Final = 0xFF
CLONE_ARGS: Final = struct.Struct("<11Q")
CLONE_ARGS_VER0: Final = 64
PAGE: Final = 4096
MAX_PID_LEVELS: Final = 32
WAIT4_OPTIONS: Final = W.WNOHANG | W.WUNTRACED | W.WCONTINUED | W.__WALL | W.__WCLONE | W.__WNOTHREAD
WAITID_OPTIONS: Final = (
    W.WNOHANG | W.WEXITED | W.WSTOPPED | W.WCONTINUED | W.WNOWAIT | W.__WALL | W.__WCLONE | W.__WNOTHREAD
)
WAITID_INFO: Final = struct.Struct("<iiiiiIi")
ROBUST_HEAD_SIZE: Final = 24
U64: Final = 0xFFFFFFFFFFFFFFFF

# clone, fork, vfork


def clone(t: Task, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> int:
    """clone(2), the raw x86-64 call."""
    a = CloneArgs(flags & 0xFFFFFFFF & ~CSIGNAL, flags & CSIGNAL)
    if a.flags & S.CLONE_PIDFD and a.flags & S.CLONE_PARENT_SETTID:
        raise Errno(E.EINVAL)
    a.stack = stack
    a.parent_tid = parent_tid
    a.child_tid = child_tid
    a.pidfd = parent_tid
    a.tls = tls
    if a.exit_signal > NSIG:
        raise Errno(E.EINVAL)
    return cloning.clone(t, a)


def fork(t: Task) -> int:
    """fork(2)."""
    return cloning.clone(t, CloneArgs(0, SIG.SIGCHLD))


def vfork(t: Task) -> int:
    """vfork(2)."""
    return cloning.clone(t, CloneArgs(S.CLONE_VFORK | S.CLONE_VM, SIG.SIGCHLD))


def clone3(t: Task, uargs: int, size: int) -> int:
    """clone3(2). Not done: CLONE_INTO_CGROUP."""
    if size > PAGE:
        raise Errno(E.E2BIG)
    if size < CLONE_ARGS_VER0:
        raise Errno(E.EINVAL)
    data = t.mm.read(uargs, size)
    if any(data[CLONE_ARGS.size :]):
        raise Errno(E.E2BIG)
    f = CLONE_ARGS.unpack(data[: CLONE_ARGS.size].ljust(CLONE_ARGS.size, b"\0"))
    flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _ = f
    known = 0xFFFFFFFF & ~CSIGNAL | S.CLONE_CLEAR_SIGHAND | S.CLONE_INTO_CGROUP | S.CLONE_NEWTIME
    if flags & ~known or flags & (S.CLONE_DETACHED | S.CLONE_INTO_CGROUP | S.CLONE_NEWTIME):
        raise Errno(E.EINVAL)
    if exit_signal > NSIG or (flags & (S.CLONE_THREAD | S.CLONE_PARENT) and exit_signal):
        raise Errno(E.EINVAL)
    if (stack == 0) != (stack_size == 0) or stack + stack_size > U64:
        raise Errno(E.EINVAL)
    if set_tid_size > MAX_PID_LEVELS or (set_tid == 0) != (set_tid_size == 0):
        raise Errno(E.EINVAL)
    a = CloneArgs(flags, exit_signal)
    a.pidfd = pidfd
    a.child_tid = child_tid
    a.parent_tid = parent_tid
    a.stack = stack + stack_size
    a.tls = tls
    if set_tid_size:
        if set_tid_size > 1:
            raise Errno(E.EINVAL)
        a.set_tid = int.from_bytes(t.mm.read(set_tid, 4), "little", signed=True)
        if not 0 < a.set_tid < (1 << 22):
            raise Errno(E.EINVAL)
        if not t.creds.has(CAP.CAP_SYS_ADMIN) and not t.creds.has(CAP.CAP_CHECKPOINT_RESTORE):
            raise Errno(E.EPERM)
    return cloning.clone(t, a)


# Programs


def execve(t: Task, path: int, argv: int, envp: int) -> int:
    """execve(2)."""
    return execveat(t, F.AT_FDCWD, path, argv, envp, 0)


def execveat(t: Task, dirfd: int, path: int, argv: int, envp: int, flags: int) -> int:
    """execveat(2)."""
    if flags & ~(F.AT_EMPTY_PATH | F.AT_SYMLINK_NOFOLLOW):
        raise Errno(E.EINVAL)
    name = t.mm.read_path(path)
    args = execing.Arguments(t)
    args.read(argv, envp)
    execing.execute(t, dirfd, name, flags, args)
    return NO_RESULT


# Ends and waiting


def exit(t: Task, status: int) -> int:
    """_exit(2) of one thread."""
    t.exit_status = (status & 0xFF) << 8
    raise TaskExit


def exit_group(t: Task, status: int) -> int:
    """exit_group(2)."""
    exiting.kill_group(t.tg, (status & 0xFF) << 8)
    t.exit_status = t.tg.exit_status
    raise TaskExit


def wait4(t: Task, pid: int, ustatus: int, options: int, urusage: int) -> int:
    """wait4(2)."""
    if options & 0xFFFFFFFF & ~WAIT4_OPTIONS:
        raise Errno(E.EINVAL)
    if pid == -(1 << 31):
        raise Errno(E.ESRCH)
    if pid == -1:
        idtype, ident = W.P_ALL, 0
    elif pid < 0:
        idtype, ident = W.P_PGID, -pid
    elif pid == 0:
        idtype, ident = W.P_PGID, t.tg.pgrp.pgid
    else:
        idtype, ident = W.P_PID, pid
    report = waiting.wait(t, idtype, ident, options | W.WEXITED)
    if report is None:
        return 0
    if ustatus:
        t.mm.write(ustatus, report.status.to_bytes(4, "little"))
    if urusage:
        t.mm.write(urusage, report.usage.pack())
    return report.pid


def waitid(t: Task, idtype: int, ident: int, uinfo: int, options: int, urusage: int) -> int:
    """waitid(2)."""
    if options & 0xFFFFFFFF & ~WAITID_OPTIONS or not options & (W.WEXITED | W.WSTOPPED | W.WCONTINUED):
        raise Errno(E.EINVAL)
    if idtype == W.P_PID:
        if ident <= 0:
            raise Errno(E.EINVAL)
    elif idtype == W.P_PGID:
        if ident < 0:
            raise Errno(E.EINVAL)
        ident = ident or t.tg.pgrp.pgid
    elif idtype == W.P_PIDFD:
        if ident < 0:
            raise Errno(E.EINVAL)
        file = t.fds.get(ident)
        if not isinstance(file, PidFile):
            raise Errno(E.EBADF)
        idtype, ident = W.P_PID, -1 if file.tg.reaped else file.tg.pid
        if file.nonblocking and not options & W.WNOHANG:
            if waiting.peek(t, idtype, ident, options) is None:
                raise Errno(E.EAGAIN)
    elif idtype != W.P_ALL:
        raise Errno(E.EINVAL)
    report = waiting.wait(t, idtype, ident, options)
    if report is not None and urusage:
        t.mm.write(urusage, report.usage.pack())
    if uinfo:
        if report is None:
            t.mm.write(uinfo, bytes(WAITID_INFO.size))
        else:
            data = WAITID_INFO.pack(
                SIG.SIGCHLD, 0, report.code, 0, report.pid, report.uid, report.si_status()
            )
            t.mm.write(uinfo, data)
    return 0


# Identity


def getpid(t: Task) -> int:
    """getpid(2)."""
    return t.tg.pid


def gettid(t: Task) -> int:
    """gettid(2)."""
    return t.tid


def getppid(t: Task) -> int:
    """getppid(2)."""
    parent = t.tg.parent
    return parent.pid if parent is not None else 0


def set_tid_address(t: Task, addr: int) -> int:
    """set_tid_address(2)."""
    t.clear_child_tid = addr
    return t.tid


def set_robust_list(t: Task, head: int, length: int) -> int:
    """set_robust_list(2)."""
    if length != ROBUST_HEAD_SIZE:
        raise Errno(E.EINVAL)
    t.robust_list = head
    t.robust_len = length
    return 0


def get_robust_list(t: Task, pid: int, uhead: int, ulength: int) -> int:
    """get_robust_list(2)."""
    other = t
    if pid:
        found = t.pidns.tasks.get(pid)
        if found is None:
            raise Errno(E.ESRCH)
        other = found
        may_inspect(t, other)
    t.mm.write(ulength, ROBUST_HEAD_SIZE.to_bytes(8, "little"))
    t.mm.write(uhead, other.robust_list.to_bytes(8, "little"))
    return 0


def may_inspect(t: Task, other: Task) -> None:
    """EPERM unless t may see into the other task (ptrace(2), "Ptrace access mode checking")."""
    if t.tg is other.tg:
        return
    c = t.creds
    o = other.creds
    same = c.fsuid == o.euid == o.suid == o.ruid and c.fsgid == o.egid == o.sgid == o.rgid
    if (same and other.mm.dumpable == 1 and o.permitted & ~c.permitted == 0) or c.has(CAP.CAP_SYS_PTRACE):
        return
    raise Errno(E.EPERM)


# Process groups and sessions


def process(t: Task, pid: int) -> ThreadGroup:
    """The process of this number, the caller's own for 0; ESRCH."""
    if pid == 0:
        return t.tg
    tg = t.pidns.groups.get(pid)
    if tg is None:
        raise Errno(E.ESRCH)
    return tg


def setpgid(t: Task, pid: int, pgid: int) -> int:
    """setpgid(2)."""
    if pgid < 0:
        raise Errno(E.EINVAL)
    own = t.tg
    tg = process(t, pid)
    pgid = pgid or tg.pid
    if tg.parent is own and tg is not own:
        if tg.pgrp.session is not own.pgrp.session:
            raise Errno(E.EPERM)
        if tg.did_exec:
            raise Errno(E.EACCES)
    elif tg is not own:
        raise Errno(E.ESRCH)
    session = tg.pgrp.session
    if session.sid == tg.pid:
        raise Errno(E.EPERM)
    if pgid == tg.pid:
        pg = t.pidns.pgroups.get(pgid)
        if pg is None:
            pg = ProcessGroup(pgid, session)
            t.pidns.pgroups[pgid] = pg
    else:
        found = t.pidns.pgroups.get(pgid)
        if found is None or found.session is not own.pgrp.session:
            raise Errno(E.EPERM)
        pg = found
    tg.join_pgrp(pg)
    return 0


def getpgid(t: Task, pid: int) -> int:
    """getpgid(2)."""
    if pid == 0:
        return t.tg.pgrp.pgid
    task = t.pidns.tasks.get(pid)
    if task is None:
        raise Errno(E.ESRCH)
    return task.tg.pgrp.pgid


def getpgrp(t: Task) -> int:
    """getpgrp(2)."""
    return t.tg.pgrp.pgid


def setsid(t: Task) -> int:
    """setsid(2)."""
    tg = t.tg
    pidns = t.pidns
    if tg.pid in pidns.pgroups:
        raise Errno(E.EPERM)
    session = Session(tg.pid, tg)
    pg = ProcessGroup(tg.pid, session)
    tg.join_pgrp(pg)
    pidns.sessions[tg.pid] = session
    pidns.pgroups[tg.pid] = pg
    return tg.pid


def getsid(t: Task, pid: int) -> int:
    """getsid(2)."""
    if pid == 0:
        return t.tg.pgrp.session.sid
    task = t.pidns.tasks.get(pid)
    if task is None:
        raise Errno(E.ESRCH)
    return task.tg.pgrp.session.sid


# Pid file descriptors


def pidfd_open(t: Task, pid: int, flags: int) -> int:
    """pidfd_open(2)."""
    if flags & ~F.O_NONBLOCK or pid <= 0:
        raise Errno(E.EINVAL)
    task = t.pidns.tasks.get(pid)
    if task is None:
        raise Errno(E.ESRCH)
    if not task.leader:
        raise Errno(E.EINVAL)
    return t.fds.install(PidFile(task.tg, flags & F.O_NONBLOCK), True, t.tg.limits.soft(R.RLIMIT_NOFILE))


def pidfd_getfd(t: Task, pidfd: int, fd: int, flags: int) -> int:
    """pidfd_getfd(2)."""
    if flags:
        raise Errno(E.EINVAL)
    file = t.fds.get(pidfd)
    if not isinstance(file, PidFile):
        raise Errno(E.EBADF)
    tg = file.tg
    if tg.dead or not tg.main.alive:
        raise Errno(E.ESRCH)
    may_inspect(t, tg.main)
    return t.fds.install(tg.main.fds.get(fd), True, t.tg.limits.soft(R.RLIMIT_NOFILE))


# Filters on one's own calls


def seccomp(t: Task, op: int, flags: int, uargs: int) -> int:
    """seccomp(2). Not done: SECCOMP_FILTER_FLAG_NEW_LISTENER."""
    if op == SC.SECCOMP_SET_MODE_STRICT:
        if flags or uargs:
            raise Errno(E.EINVAL)
        filters.strict(t)
        return 0
    if op == SC.SECCOMP_SET_MODE_FILTER:
        return set_filter(t, flags, uargs)
    if op == SC.SECCOMP_GET_ACTION_AVAIL:
        if flags:
            raise Errno(E.EINVAL)
        action = int.from_bytes(t.mm.read(uargs, 4), "little")
        if action not in (
            SC.SECCOMP_RET_KILL_PROCESS,
            SC.SECCOMP_RET_KILL_THREAD,
            SC.SECCOMP_RET_TRAP,
            SC.SECCOMP_RET_ERRNO,
            SC.SECCOMP_RET_LOG,
            SC.SECCOMP_RET_ALLOW,
        ):
            raise Errno(E.EOPNOTSUPP)
        return 0
    raise Errno(E.EINVAL)


def set_filter(t: Task, flags: int, uprog: int) -> int:
    """Reads a struct sock_fprog and attaches its program."""
    length, addr = struct.unpack("<H6xQ", t.mm.read(uprog, 16))
    if not 1 <= length <= SC.BPF_MAXINSNS:
        raise Errno(E.EINVAL)
    filters.attach(t, t.mm.read(addr, length * 8), flags)
    return 0


# Comparing what processes share

# Enumerators of <linux/kcmp.h>.
KCMP_FILE: Final = 0
KCMP_VM: Final = 1
KCMP_FILES: Final = 2
KCMP_FS: Final = 3
KCMP_SIGHAND: Final = 4
KCMP_EPOLL_TFD: Final = 7
KCMP_TYPES: Final = 8
KCMP_EPOLL_SLOT: Final = struct.Struct("<III")  # struct kcmp_epoll_slot: epoll instance, number registered, which of several


def kcmp_object(t: Task, kind: int, fd: int) -> object:
    if kind == KCMP_FILE:
        return t.fds.get(to_fd(fd))
    if kind == KCMP_VM:
        return t.mm
    if kind == KCMP_FILES:
        return t.fds
    if kind == KCMP_FS:
        return t.fs
    if kind == KCMP_SIGHAND:
        return t.tg.actions
    raise Errno(E.EOPNOTSUPP)


def to_fd(value: int) -> int:
    return value if value < 1 << 31 else -1


def kcmp(t: Task, pid1: int, pid2: int, kind: int, idx1: int, idx2: int) -> int:
    """kcmp(2): 0 the same, 1 or 2 in an order that means nothing else."""
    one = t.pidns.tasks.get(pid1)
    two = t.pidns.tasks.get(pid2)
    if one is None or two is None or not one.alive or not two.alive:
        raise Errno(E.ESRCH)
    may_inspect(t, one)
    may_inspect(t, two)
    if not 0 <= kind < KCMP_TYPES:
        raise Errno(E.EINVAL)
    a: object
    b: object
    if kind == KCMP_EPOLL_TFD:
        efd, tfd, nth = KCMP_EPOLL_SLOT.unpack(t.mm.read(idx2, KCMP_EPOLL_SLOT.size))
        a = one.fds.get(to_fd(idx1))
        epoll = two.fds.get(to_fd(efd))
        if not isinstance(epoll, Epoll):
            raise Errno(E.EINVAL)
        b = epoll.registered(tfd, nth)
    else:
        a = kcmp_object(one, kind, idx1)
        b = kcmp_object(two, kind, idx2)
    return 0 if a is b else 1 if id(a) < id(b) else 2


def process_mrelease(t: Task, pidfd: int, flags: int) -> int:
    """process_mrelease(2): a dying process gives its memory back at once anyway."""
    if flags:
        raise Errno(E.EINVAL)
    file = t.fds.get(pidfd)
    if not isinstance(file, PidFile):
        raise Errno(E.EBADF)
    if file.tg.dead:
        raise Errno(E.ESRCH)
    if not file.tg.exiting:
        raise Errno(E.EINVAL)
    return 0
