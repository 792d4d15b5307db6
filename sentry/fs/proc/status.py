"""What /proc/PID tells of a task in numbers and words: stat, statm, status, limits, io and small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.abi import sched as SCHED
from sentry.errors import Errno
from sentry.fs.proc.base import may_inspect
from sentry.kernel import signals
from sentry.kernel import task as states
from sentry.kernel.limits import INFINITY
from sentry.syscalls.sched import CPUS

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.mm.address_space import Stats

TICK: Final = 10_000_000  # ns; USER_HZ is 100
PAGE_SHIFT: Final = 12
MAX_RT_PRIO: Final = 100

STATE_LETTERS: Final = {
    states.RUN: b"R",
    states.SYSCALL: b"R",
    states.BLOCKED: b"S",
    states.STOPPED: b"T",
    states.TRACED: b"t",
    states.EXITING: b"X",
    states.ZOMBIE: b"Z",
    states.DEAD: b"X",
}
STATE_NAMES: Final = {
    b"R": b"R (running)",
    b"S": b"S (sleeping)",
    b"T": b"T (stopped)",
    b"t": b"t (tracing stop)",
    b"X": b"X (dead)",
    b"Z": b"Z (zombie)",
}


def cpus() -> int:
    """Processors of the machine."""
    return CPUS


def has_memory(t: Task) -> bool:
    """Does the task still have its address space?"""
    return t.alive and t.mm.users > 0


def memory(t: Task) -> Stats | None:
    return t.mm.stats() if has_memory(t) else None


def resident(t: Task) -> int:
    """Bytes of memory that the process has resident."""
    return t.mm.resident().total if has_memory(t) else 0


def state_letter(t: Task) -> bytes:
    if t.state == states.ZOMBIE and not t.tg.dead:
        return b"Z"
    return b"S" if t.asleep else STATE_LETTERS[t.state]


def kernel_priority(t: Task) -> int:
    if t.policy in (SCHED.SCHED_FIFO, SCHED.SCHED_RR):
        return -1 - t.rt_priority
    return 20 + t.nice


def terminal(t: Task) -> tuple[int, int]:
    """(device number of the controlling terminal or 0, its foreground process group or -1)."""
    tty = t.tg.pgrp.session.tty
    if tty is None:
        return 0, -1
    return tty.rdev, tty.foreground.pgid if tty.foreground is not None else -1


def signal_sets(t: Task) -> tuple[int, int]:
    """(ignored, caught)."""
    ignored = caught = 0
    for sig in range(1, signals.NSIG + 1):
        handler = t.tg.actions.handler(sig)
        if handler == signals.SIG_IGN:
            ignored |= signals.bit(sig)
        elif handler:
            caught |= signals.bit(sig)
    return ignored, caught


def stat_line(reader: Task, t: Task, whole: bool) -> bytes:
    """/proc/PID/stat (whole process) and /proc/PID/task/TID/stat."""
    tg = t.tg
    mm = memory(t)
    tty, tpgid = terminal(t)
    if whole:
        utime, stime = tg.cpu_ns()
        minflt = tg.minflt + sum(o.minflt for o in tg.tasks)
        majflt = tg.majflt + sum(o.majflt for o in tg.tasks)
    else:
        utime, stime = t.cpu_ns()
        minflt, majflt = t.minflt, t.majflt
    ignored, caught = signal_sets(t)
    low = 0x7FFFFFFF
    full = may_inspect(reader, t)
    space = t.mm
    rss_limit = min(tg.limits.soft(R.RLIMIT_RSS), INFINITY)
    started = max(0, t.start_time - t.kernel.boot_monotonic) // TICK
    fields = [
        tg.parent.pid if tg.parent is not None else 0, tg.pgrp.pgid, tg.pgrp.session.sid, tty, tpgid, 0,
        minflt, tg.children_minflt, majflt, tg.children_majflt,
        utime // TICK, stime // TICK, tg.children_utime // TICK, tg.children_stime // TICK,
        kernel_priority(t), t.nice, max(1, len(tg.tasks)), 0, started,
        mm.total if mm is not None else 0, resident(t) >> PAGE_SHIFT, rss_limit,
    ]  # fmt: skip
    if mm is not None and full:
        fields += [space.start_code, space.end_code, space.start_stack, 0, 0]
    elif mm is not None:
        fields += [1, 1, 0, 0, 0]
    else:
        fields += [0, 0, 0, 0, 0]
    fields += [t.pending.set & low, t.sigmask & low, ignored & low, caught & low, 0, 0, 0]
    fields += [t.exit_signal if t.leader else -1, 0, t.rt_priority, t.policy, 0, 0, 0]
    if mm is not None and full:
        fields += [
            space.start_data, space.end_data, mm.brk_start, space.arg_start, space.arg_end, space.env_start, space.env_end
        ]  # fmt: skip
    else:
        fields += [0] * 7
    fields.append(tg.exit_status if tg.dead and full else 0)
    rest = b" ".join(b"%d" % f for f in fields)
    return b"%d (%s) %s %s\n" % (t.tid, t.comm, state_letter(t), rest)


def statm(reader: Task, t: Task) -> bytes:
    mm = memory(t)
    if mm is None:
        return b"0 0 0 0 0 0 0\n"
    text = max(0, t.mm.end_code - t.mm.start_code)
    there = t.mm.resident()
    pages = [mm.total, there.total, there.file + there.shmem, text, 0, mm.data + mm.stack, 0]
    return b" ".join(b"%d" % (n >> PAGE_SHIFT) for n in pages) + b"\n"


def cpu_mask(t: Task) -> int:
    every = (1 << cpus()) - 1
    return t.affinity & every if t.affinity else every


def cpu_list(mask: int) -> bytes:
    """0-3,5 for a set of CPUs."""
    parts: list[bytes] = []
    i = 0
    while mask >> i:
        if mask >> i & 1:
            end = i
            while mask >> (end + 1) & 1:
                end += 1
            parts.append(b"%d" % i if end == i else b"%d-%d" % (i, end))
            i = end
        i += 1
    return b",".join(parts)


def status(reader: Task, t: Task) -> bytes:
    tg = t.tg
    c = t.creds
    parent = tg.parent.pid if tg.parent is not None else 0
    lines = [
        b"Name:\t%s" % t.comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n"),
        b"Umask:\t%04o" % t.fs.umask,
        b"State:\t%s" % STATE_NAMES[state_letter(t)],
        b"Tgid:\t%d" % tg.pid,
        b"Ngid:\t0",
        b"Pid:\t%d" % t.tid,
        b"PPid:\t%d" % parent,
        b"TracerPid:\t%d" % (t.tracing.tracer.tid if t.tracing is not None else 0),
        b"Uid:\t%d\t%d\t%d\t%d" % (c.ruid, c.euid, c.suid, c.fsuid),
        b"Gid:\t%d\t%d\t%d\t%d" % (c.rgid, c.egid, c.sgid, c.fsgid),
        b"FDSize:\t%d" % (fd_size(t.fds.size()) if t.alive else 0),
        b"Groups:\t%s " % b" ".join(b"%d" % g for g in c.groups),
        b"NStgid:\t%d" % tg.pid,
        b"NSpid:\t%d" % t.tid,
        b"NSpgid:\t%d" % tg.pgrp.pgid,
        b"NSsid:\t%d" % tg.pgrp.session.sid,
        b"Kthread:\t0",
    ]
    mm = memory(t)
    if mm is not None:
        there = t.mm.resident()
        rss = there.total
        text = max(0, t.mm.end_code - t.mm.start_code)
        for name, size in (
            (b"VmPeak", mm.peak_total), (b"VmSize", mm.total), (b"VmLck", mm.locked), (b"VmPin", 0),
            (b"VmHWM", max(there.peak, tg.maxrss << 10)), (b"VmRSS", rss), (b"RssAnon", there.anon), (b"RssFile", there.file),
            (b"RssShmem", there.shmem), (b"VmData", mm.data), (b"VmStk", mm.stack), (b"VmExe", text), (b"VmLib", 0),
            (b"VmPTE", 0), (b"VmSwap", 0), (b"HugetlbPages", 0),
        ):  # fmt: skip
            lines.append(b"%s:\t%8d kB" % (name, size >> 10))
        lines += [b"CoreDumping:\t0", b"THP_enabled:\t0"]
    ignored, caught = signal_sets(t)
    mask = cpu_mask(t)
    width = max(8, (cpus() + 3) // 4)
    lines += [
        b"Threads:\t%d" % max(1, len(tg.tasks)),
        b"SigQ:\t%d/%d" % (t.kernel.sigpending.get(c.ruid, 0), tg.limits.soft(R.RLIMIT_SIGPENDING)),
        b"SigPnd:\t%016x" % t.pending.set,
        b"ShdPnd:\t%016x" % tg.pending.set,
        b"SigBlk:\t%016x" % t.sigmask,
        b"SigIgn:\t%016x" % ignored,
        b"SigCgt:\t%016x" % caught,
        b"CapInh:\t%016x" % c.inheritable,
        b"CapPrm:\t%016x" % c.permitted,
        b"CapEff:\t%016x" % c.effective,
        b"CapBnd:\t%016x" % c.bounding,
        b"CapAmb:\t%016x" % c.ambient,
        b"NoNewPrivs:\t%d" % int(c.no_new_privs),
        b"Seccomp:\t%d" % (0 if t.seccomp is None else 2),
        b"Cpus_allowed:\t%0*x" % (width, mask),
        b"Cpus_allowed_list:\t%s" % cpu_list(mask),
        b"Mems_allowed:\t1",
        b"Mems_allowed_list:\t0",
        b"voluntary_ctxt_switches:\t%d" % t.nvcsw,
        b"nonvoluntary_ctxt_switches:\t%d" % t.nivcsw,
    ]
    return b"\n".join(lines) + b"\n"


def fd_size(n: int) -> int:
    """Linux's tables grow in powers of two from 64."""
    size = 64
    while size < n:
        size *= 2
    return size


LIMIT_NAMES: Final = (
    (R.RLIMIT_CPU, b"Max cpu time", b"seconds"),
    (R.RLIMIT_FSIZE, b"Max file size", b"bytes"),
    (R.RLIMIT_DATA, b"Max data size", b"bytes"),
    (R.RLIMIT_STACK, b"Max stack size", b"bytes"),
    (R.RLIMIT_CORE, b"Max core file size", b"bytes"),
    (R.RLIMIT_RSS, b"Max resident set", b"bytes"),
    (R.RLIMIT_NPROC, b"Max processes", b"processes"),
    (R.RLIMIT_NOFILE, b"Max open files", b"files"),
    (R.RLIMIT_MEMLOCK, b"Max locked memory", b"bytes"),
    (R.RLIMIT_AS, b"Max address space", b"bytes"),
    (R.RLIMIT_LOCKS, b"Max file locks", b"locks"),
    (R.RLIMIT_SIGPENDING, b"Max pending signals", b"signals"),
    (R.RLIMIT_MSGQUEUE, b"Max msgqueue size", b"bytes"),
    (R.RLIMIT_NICE, b"Max nice priority", b""),
    (R.RLIMIT_RTPRIO, b"Max realtime priority", b""),
    (R.RLIMIT_RTTIME, b"Max realtime timeout", b"us"),
)


def limit_text(value: int) -> bytes:
    return b"unlimited" if value >= INFINITY else b"%d" % value


def limits(reader: Task, t: Task) -> bytes:
    lines = [b"%-25s %-20s %-20s %-10s" % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    for number, name, unit in LIMIT_NAMES:
        soft = limit_text(t.tg.limits.soft(number))
        hard = limit_text(t.tg.limits.hard(number))
        lines.append(b"%-25s %-20s %-20s " % (name, soft, hard) + (b"%-10s" % unit if unit else b""))
    return b"\n".join(lines) + b"\n"


def personality(reader: Task, t: Task) -> bytes:
    return b"%08x\n" % (t.tg.personality & 0xFFFFFFFF)


def comm(reader: Task, t: Task) -> bytes:
    return t.comm + b"\n"


def set_comm(writer: Task, t: Task, data: bytes) -> None:
    """Only threads of the same process may rename a thread."""
    if writer.tg is not t.tg:
        raise Errno(E.EINVAL)
    t.comm = data.partition(b"\0")[0][:15].rstrip(b"\n") if data else b""


def oom_score(reader: Task, t: Task) -> bytes:
    return b"%d\n" % max(0, min(2000, 667 + t.tg.oom_score_adj))


def oom_score_adj(reader: Task, t: Task) -> bytes:
    return b"%d\n" % t.tg.oom_score_adj


def set_oom_score_adj(writer: Task, t: Task, data: bytes) -> None:
    value = parse_int(data)
    if not -1000 <= value <= 1000:
        raise Errno(E.EINVAL)
    if value < t.tg.oom_score_adj and not writer.creds.has(C.CAP_SYS_RESOURCE):
        raise Errno(E.EACCES)
    t.tg.oom_score_adj = value


def oom_adj(reader: Task, t: Task) -> bytes:
    adj = t.tg.oom_score_adj
    return b"%d\n" % (15 if adj == 1000 else adj * 17 // 1000)


def parse_int(data: bytes) -> int:
    """A decimal number as a user writes it; EINVAL."""
    try:
        return int(data.strip(b" \t\n\0"))
    except ValueError:
        raise Errno(E.EINVAL) from None


def timerslack(reader: Task, t: Task) -> bytes:
    return b"%d\n" % t.timer_slack


def syscall(reader: Task, t: Task) -> bytes:
    """The call a task sleeps in, with its arguments, stack pointer and program counter."""
    if not t.alive or not t.asleep:
        return b"running\n"
    regs = t.regs
    sp, pc = int(regs.rsp), int(regs.rip)
    if t.syscall_nr < 0:
        return b"-1 0x%x 0x%x\n" % (sp, pc)
    args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
    return b"%d %s 0x%x 0x%x\n" % (t.syscall_nr, b" ".join(b"0x%x" % int(a) for a in args), sp, pc)


def wchan(reader: Task, t: Task) -> bytes:
    return b"0"


def schedstat(reader: Task, t: Task) -> bytes:
    utime, stime = t.cpu_ns()
    return b"%d 0 %d\n" % (utime + stime, t.nvcsw + t.nivcsw)


def sched(reader: Task, t: Task) -> bytes:
    utime, stime = t.cpu_ns()
    total = utime + stime
    lines = [
        b"%s (%d, #threads: %d)" % (t.comm, t.tid, max(1, len(t.tg.tasks))),
        b"-" * 67,
        b"%-45s:%21d.%06d" % (b"se.sum_exec_runtime", total // 1_000_000, total % 1_000_000),
        b"%-45s:%21d" % (b"nr_switches", t.nvcsw + t.nivcsw),
        b"%-45s:%21d" % (b"nr_voluntary_switches", t.nvcsw),
        b"%-45s:%21d" % (b"nr_involuntary_switches", t.nivcsw),
        b"%-45s:%21d" % (b"policy", t.policy),
        b"%-45s:%21d" % (b"prio", MAX_RT_PRIO + kernel_priority(t)),
    ]
    return b"\n".join(lines) + b"\n"


def cgroup(reader: Task, t: Task) -> bytes:
    return b"0::%s\n" % t.container.cgroup


def uid_map(reader: Task, t: Task) -> bytes:
    """The one user namespace of the container."""
    return b"".join(b"%10d %10d %10d\n" % row for row in t.container.uid_map)


def gid_map(reader: Task, t: Task) -> bytes:
    return b"".join(b"%10d %10d %10d\n" % row for row in t.container.gid_map)


def setgroups(reader: Task, t: Task) -> bytes:
    return b"allow\n"


def coredump_filter(reader: Task, t: Task) -> bytes:
    return b"00000033\n"


def children(reader: Task, t: Task) -> bytes:
    return b"".join(b"%d " % c.pid for c in t.children)
