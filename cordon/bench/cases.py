"""What is measured: one Case a row, with the targets and gVisor's figures of the project's table (issue 3)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Case(NamedTuple):
    """One row."""

    name: str
    title: str
    group: str
    #: Ratio to native to reach on a quiet machine; None: no target.
    target: float | None = None
    #: gVisor's newest release with systrap on the same kind of machine, x native: median of a busy hour, best quiet run.
    gvisor: tuple[float, float] | None = None
    #: How it is run: "guest" (a case of the guest program), "program" (timed inside), or "launch" (from outside).
    kind: str = "guest"
    #: Of a guest case: its name in the guest program, when that differs.
    guest: str = ""
    #: The whole sandbox on one core.
    one_core: bool = False
    #: Of a program: shell command to prepare, and the command.
    before: str = ""
    command: tuple[str, ...] = ()
    #: ns, or bytes, or a share (CPU seconds a second).
    unit: str = "ns"
    #: Of the target: gVisor's absolute ns of which it is a part (create + unlink, where the native figure is the disk's).
    target_ns: float = 0.0
    #: Left out of --quick.
    long: bool = False

    @property
    def guest_name(self) -> str:
        return self.guest or self.name


def program(
    name: str, title: str, target: float, gvisor: tuple[float, float], command: tuple[str, ...], before: str = "", long: bool = False
) -> Case:
    return Case(name, title, TABLE, target, gvisor, "program", command=command, before=before, long=long)


def shell(name: str, title: str, target: float, gvisor: tuple[float, float], text: str, before: str = "", long: bool = False) -> Case:
    return program(name, title, target, gvisor, ("/bin/sh", "-c", text), before, long)


TABLE = "table"
CLASSES = "classes"
SCALING = "scaling"
MORE = "more"
SANDBOX = "sandbox"

GROUPS = {
    TABLE: "The table",
    MORE: "Memory, faults, context switches",
    SCALING: "Scaling: ns a call, mixed calls",
    CLASSES: "Classes of calls by number",
    SANDBOX: "Sandboxes",
}

SQLITE_BULK = (
    "import sqlite3; d = sqlite3.connect('bulk.db', isolation_level=None); c = d.cursor(); "
    "c.execute('create table t(a integer primary key, b text)'); c.execute('begin'); "
    "[c.execute('insert into t values (?, ?)', (i, 'row %d' % i)) for i in range(20000)]; c.execute('commit')"
)
SQLITE_MANY = (
    "import sqlite3; d = sqlite3.connect('many.db', isolation_level=None); c = d.cursor(); "
    "c.execute('create table t(a integer primary key, b text)'); "
    "[c.execute('insert into t values (?, ?)', (i, 'row %d' % i)) for i in range(200)]"
)
FILES_500 = "for i in $(seq 500); do echo file $i > repo/f$i; done"
GIT = (
    "cd repo && git init -q . && git add . && "
    "git -c user.name=bench -c user.email=bench@localhost -c gc.auto=0 commit -qm all"
)
HELLO = r'''printf '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n' > hello.c'''
FORKS = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"

#: The table of issue 3, in its order.
ROWS = (
    Case("getpid", "getpid", TABLE, 1, (24, 20)),
    Case("gettid", "gettid", TABLE, 1, (93, 20)),
    Case("getppid_libc", "getppid through the libc wrapper", TABLE, 2.2, (3.8, 3.1)),
    Case("getppid_syscall", "getppid through glibc's syscall()", TABLE, 3, (25, 23)),
    Case("clock_vdso", "clock_gettime through the vDSO", TABLE, 1.2, (1.3, 1.2)),
    Case("clock_syscall", "clock_gettime by syscall", TABLE, 2.5, (31, 18)),
    Case("read_zero", "read 1 byte of /dev/zero", TABLE, 3, (43, 20)),
    Case("write_null", "write 1 byte to /dev/null", TABLE, 3, (20, 4.5)),
    Case("open_close", "open + close", TABLE, 2.2, (8.2, 2.9)),
    Case("stat", "stat", TABLE, 2.2, (8.6, 5.0)),
    Case("stat_missing", "stat of a missing name", TABLE, 2.5, (18, 6.7)),
    Case("pread_4k", "pread 4 KiB from page cache", TABLE, 1.8, (9.5, 2.6)),
    Case("seq_read", "sequential read 256 MiB, 64 KiB blocks", TABLE, 1.3, (3.8, 3.0)),
    Case("seq_write", "sequential write 64 MiB", TABLE, 2, (4.7, 2.5)),
    Case("create_unlink", "create + unlink a file", TABLE, None, (0.4, 2.9), target_ns=44e3),
    Case("readdir_1000", "readdir of 1,000 entries", TABLE, 0.5, (1.3, 0.7)),
    Case("pipe_pingpong", "pipe ping-pong, 2 processes", TABLE, 4, (10.6, 9.9)),
    Case("socket_pingpong", "unix socket ping-pong", TABLE, 4, (9.3, 7.3)),
    Case("futex_pingpong", "futex ping-pong, 2 threads", TABLE, 1.8, (4.9, 2.1)),
    Case("thread_create", "thread create + join", TABLE, 3.5, (5.6, 6.4)),
    Case("fork_wait", "fork + wait", TABLE, 5, (10, 14)),
    Case("exec_wait", "fork + exec + wait of /bin/true", TABLE, 3, (7.9, 6.8)),
    Case("mmap_1m", "mmap, touch, munmap 1 MiB", TABLE, 1.5, (3.1, 2.3)),
    Case("mprotect_2", "2 mprotect", TABLE, 5, (9.9, 8.2)),
    Case("segv_caught", "SIGSEGV caught", TABLE, 6, (29, 16)),
    Case("signal_self", "signal to self, handled", TABLE, 2.5, (11.5, 3.5)),
    Case("start_up", "start-up of /bin/true", TABLE, None, (174, 141), "launch", target_ns=60e6),
    shell("sh_forks", "sh, 200 forks of /bin/true", 3, (5.5, 5.8), FORKS),
    program("python_pass", "python3 -c pass", 1.6, (2.6, 1.9), ("python3", "-c", "pass")),
    program("python_imports", "python3 -c 'import json,asyncio,email'", 1.5, (2.1, 2.2),
            ("python3", "-c", "import json,asyncio,email")),
    shell("gcc_hello", "gcc -O2 hello.c", 2.2, (3.7, 3.3), "gcc -O2 -o hello hello.c", HELLO),
    shell("git_500", "git init + add + commit of 500 files", 1.2, (1.1, 2.1), GIT, f"rm -rf repo; mkdir repo; {FILES_500}"),
    program("sqlite_bulk", "sqlite, 20,000 inserts in 1 transaction", 1.2, (1.6, 1.6),
            ("python3", "-c", SQLITE_BULK), "rm -f bulk.db"),
    program("sqlite_many", "sqlite, 200 transactions", 0.3, (0.6, 0.4), ("python3", "-c", SQLITE_MANY), "rm -f many.db"),
    shell("find_usr", "find /usr -type f", 4, (13, 14), "find /usr -type f > found 2>/dev/null || true", long=True),
    shell("tar_gzip", "tar of /usr/include piped to gzip", 1.4, (2.5, 2.6),
          "tar cf - -C /usr include | gzip > include.tar.gz", long=True),
)  # fmt: skip

PINNED = tuple(
    Case(f"{c.name}_1core", f"{c.title}, all on one core", MORE, guest=c.name, one_core=True)
    for c in ROWS
    if c.name.endswith("_pingpong")
)

OTHERS = (
    *PINNED,
    Case("yield_switch", "sched_yield with a second thread yielding", MORE),
    Case("yield_switch_1core", "the same on one core: a context switch", MORE, guest="yield_switch", one_core=True),
    Case("page_fault", "first touch of a page", MORE),
    Case("mem_copy", "copy 64 MiB of memory", MORE),
    Case("mem_fill", "fill 64 MiB of memory", MORE),
    *(Case(f"threads_{n}", f"{n} thread{'s' * (n > 1)}", SCALING) for n in (1, 2, 4, 8, 16)),
    *(Case(f"processes_{n}", f"{n} process{'es' * (n > 1)}", SCALING) for n in (1, 2, 4, 8, 16)),
)

NUMBERS = (
    "001_pipe_write_read 003_close_ebadf 005_fstat 007_poll 008_lseek 012_brk 013_rt_sigaction 014_rt_sigprocmask "
    "016_ioctl 021_access 024_sched_yield 025_mremap 027_mincore 028_madvise 032_dup_close 035_nanosleep_0 "
    "041_socket_close 044_send_recv 062_kill_0 063_uname 072_fcntl 073_flock 077_ftruncate 079_getcwd 089_readlink "
    "091_fchmod 095_umask 098_getrusage 099_sysinfo 100_times 102_getuid 202_futex_wake 217_getdents64 232_epoll_wait "
    "280_utimensat 286_timerfd_settime 290_eventfd 302_prlimit64 318_getrandom 332_statx 500_unknown"
).split()

#: Of whole sandboxes; run a few times only.
WHOLE = (
    Case("footprint", "memory of an idle sandbox", SANDBOX, kind="launch", unit="bytes"),
    Case("idle_cpu", "CPU used by an idle sandbox", SANDBOX, kind="launch", unit="share"),
    Case("two_busy", "two busy sandboxes at once / the two one after the other", SANDBOX, kind="launch", unit="times"),
    *(Case(f"at_once_{n}", f"{n} sandbox{'es' * (n > 1)} started at once, until all run", SANDBOX, kind="launch", long=n > 10)
      for n in (1, 10, 25, 50)),
)  # fmt: skip

ALL = (
    *ROWS,
    *OTHERS,
    *(Case(f"nr_{n}", f"{int(n[:3])}: {n[4:].replace('_', ' ')}", CLASSES) for n in NUMBERS),
    *WHOLE,
)
BY_NAME = {c.name: c for c in ALL}


def select(names: list[str], quick: bool) -> list[Case]:
    """The cases of these names, groups or shell patterns; without any: all (--quick: without the long ones).

    KeyError with the name of what is not there.
    """
    if not names:
        return [c for c in ALL if not (quick and c.long)]
    found: list[Case] = []
    for name in names:
        hits = [
            c for c in ALL
            if name in (c.name, c.group) or fnmatchcase(c.name, name)
        ]  # fmt: skip
        if not hits:
            raise KeyError(name)
        found += [c for c in hits if c not in found]
    return found
