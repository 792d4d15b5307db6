"""The kernel of a sandbox: what there is one of."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.errors import Errno, SandboxError
from sentry.kernel import clock, itimers, signals
from sentry.kernel import exit as exiting
from sentry.kernel.futex import FutexTable
from sentry.kernel.hostthreads import HostThreads
from sentry.kernel.ipc import namespace
from sentry.kernel.ipc.namespace import IpcNamespace
from sentry.kernel.randomness import Randomness
from sentry.kernel.session import ProcessGroup, Session
from sentry.kernel.signals import Actions
from sentry.kernel.task import Task
from sentry.kernel.threadgroup import ThreadGroup

if TYPE_CHECKING:
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.creds import Creds
    from sentry.kernel.fdnotify import FdNotifier
    from sentry.kernel.limits import Limits
    from sentry.kernel.timers import Timers
    from sentry.net.stack import Stack
    from sentry.vfs.fdtable import FDTable
    from sentry.vfs.mount import FSContext

PID_MAX: Final = 32768
RESERVED_PIDS: Final = 300  # where numbers go on after they wrapped


UTS_IDENTS: Final = [0]  # of UTS namespaces; the newest


class UTSNamespace:
    """Names of the machine (uname(2))."""

    def __init__(self, hostname: bytes, domainname: bytes = b"(none)", ident: int = 0) -> None:
        self.hostname: bytes = hostname
        self.domainname: bytes = domainname
        self.ident: int = ident  # /proc/PID/ns/uts tells them apart

    def copy(self) -> UTSNamespace:
        UTS_IDENTS[0] += 1
        return UTSNamespace(self.hostname, self.domainname, UTS_IDENTS[0])


class Kernel:
    """Tasks, process groups and sessions by number, and the services that tasks share.

    hostname: initial node name. pids: greatest number of tasks alive at a time, 0 for none. seed: of everything random,
    -1 for the host's randomness. memory: bytes of guest memory the sandbox may use, 0 for no limit. All methods are called
    with K held, unless they say otherwise.
    """

    def __init__(self, hostname: bytes = b"cordon", pids: int = 0, seed: int = -1, memory: int = 0) -> None:
        from sentry.kernel.fdnotify import FdNotifier
        from sentry.kernel.timers import Timers

        self.uts: UTSNamespace = UTSNamespace(hostname)
        self.pids_limit: int = pids
        self.memory_limit: int = memory
        self.exceeded: set[str] = set()  # limits that were hit: "pids", "memory"
        self.tasks: dict[int, Task] = {}  # by tid; zombie leaders included
        self.groups: dict[int, ThreadGroup] = {}  # by pid; zombies included
        self.pgroups: dict[int, ProcessGroup] = {}
        self.sessions: dict[int, Session] = {}
        self.init: ThreadGroup | None = None
        self.last_pid: int = 0
        self.forks: int = 0  # processes and threads since boot (/proc/stat)
        self.sigpending: dict[int, int] = {}  # queued signals by user
        self.random: Randomness = Randomness(seed)
        self.boot_monotonic: int = clock.monotonic()  # of the host when the sandbox booted
        self.boot_realtime: int = clock.realtime()
        # Called with (task, last thread of its process) when a thread ends, before it gives up memory and files.
        self.exit_hooks: list[Callable[[Task, bool], None]] = [itimers.thread_ended, namespace.thread_ended]
        # Called with the task after its memory and files are the new program's.
        self.exec_hooks: list[Callable[[Task], None]] = [itimers.program_changed]
        self.threads: HostThreads = HostThreads(self)
        self.running: int = 0  # tasks with a host thread
        self.ending: bool = False
        self.failure: str = ""  # why the kernel gave up
        self.exit_status: int = 0
        self.console: TTY | None = None  # the terminal that the sandbox was given (/dev/console)
        self.log: Callable[[str], None] | None = None  # debug log, a line a call
        self.ended: _thread.LockType = _thread.allocate_lock()  # released when the last task has gone
        self.ended.acquire()
        self.ended_said: bool = False
        self.timers: Timers = Timers(self)
        self.fdnotify: FdNotifier = FdNotifier(self)
        self.futexes: FutexTable = FutexTable()
        self.ipc: IpcNamespace = IpcNamespace()
        self.stack: Stack | None = None  # the network stack (sentry/net/start.py)
        self.mqueues: object | None = None  # root of the POSIX message queues (sentry/fs/mqueue.py)

    def usage(self) -> dict[str, int]:
        """What the first process and those it waited for have used: utime_ns, stime_ns, peak_bytes (of all guest memory)."""
        from sentry.kernel.rusage import usage_of_group
        from sentry.mm import memfile

        assert self.init is not None
        u = usage_of_group(self.init)
        return {"utime_ns": u.utime, "stime_ns": u.stime, "peak_bytes": memfile.peak()}

    # Numbers

    def new_pid(self) -> int:
        """A number that no task, process group or session uses; EAGAIN over --pids."""
        if self.pids_limit and len(self.tasks) >= self.pids_limit:
            self.exceeded.add("pids")
            raise Errno(E.EAGAIN)
        pid = self.last_pid
        for _ in range(PID_MAX):
            pid += 1
            if pid >= PID_MAX:
                pid = RESERVED_PIDS
            if pid not in self.tasks and pid not in self.pgroups and pid not in self.sessions:
                self.last_pid = pid
                self.forks += 1
                return pid
        raise Errno(E.EAGAIN)

    def forget_task(self, t: Task) -> None:
        self.tasks.pop(t.tid, None)

    # Life

    def start_init(
        self,
        path: bytes,
        argv: list[bytes],
        envp: list[bytes],
        fs: FSContext,
        fds: FDTable,
        creds: Creds,
        limits: Limits,
    ) -> Task:
        """Makes the first process and loads the program; Errno when the program cannot be executed. It starts to run
        with run_until_exit."""
        from sentry.kernel import execve
        from sentry.mm.address_space import AddressSpace

        pid = self.new_pid()
        session = Session(pid, None)
        pgrp = ProcessGroup(pid, session)
        tg = ThreadGroup(self, pid, None, pgrp, limits, Actions())
        tg.is_init = True
        mm = AddressSpace(self)
        t = Task(self, pid, tg, mm, fs, fds, creds, self.uts)
        tg.leader = t
        tg.tasks.append(t)
        pgrp.members.append(tg)
        session.leader = tg
        self.sessions[pid] = session
        self.pgroups[pid] = pgrp
        self.groups[pid] = tg
        self.tasks[pid] = t
        self.init = tg
        t.start_time = clock.monotonic()
        execve.execute_path(t, path, argv, envp)
        return t

    def start_task(self, t: Task) -> None:
        """Gives the task a host thread: it runs as soon as K is free. EAGAIN when the host has none."""
        try:
            self.threads.start(t)
        except RuntimeError:
            raise Errno(E.EAGAIN) from None
        self.running += 1

    def run_until_exit(self) -> int:
        """Runs until the first process ended, then ends all others; its wait status. SandboxError when the kernel failed.
        Called without K held by the thread that started the platform."""
        lib.cn_klock()
        init = self.init
        assert init is not None
        self.start_task(init.main)
        lib.cn_kunlock()
        self.ended.acquire()
        if self.failure:
            raise SandboxError(self.failure, 70)
        lib.cn_klock()
        self.threads.stop()
        lib.cn_kunlock()
        return self.exit_status

    def init_ended(self, status: int) -> None:
        """The first process has ended: so do all others."""
        if not self.ending:
            self.exit_status = status
        self.kill_all()

    def task_ended(self, t: Task) -> None:
        """A task has given up all that it held."""
        self.running -= 1
        if self.running == 0:
            self.say_ended()

    def say_ended(self) -> None:
        if not self.ended_said:
            self.ended_said = True
            self.ended.release()

    def kill_all(self) -> None:
        """SIGKILL for every process: the sandbox ends. Any host thread, with K held."""
        self.ending = True
        for tg in list(self.groups.values()):
            if not tg.dead:
                exiting.kill_group(tg, SIG.SIGKILL)

    def out_of_memory(self) -> None:
        """The memory limit is reached: all processes are killed, as the out-of-memory killer does to a whole cgroup."""
        self.exceeded.add("memory")
        if not self.ending:
            self.exit_status = SIG.SIGKILL
            self.kill_all()

    def fail(self, why: str) -> None:
        """A bug in the sentry: nothing runs any more, run_until_exit raises."""
        if not self.failure:
            self.failure = why
        self.say_ended()

    def signal_init(self, sig: int) -> None:
        """A signal from outside: to the foreground process group of init's terminal, or to init."""
        init = self.init
        if init is None or init.dead:
            return
        info = signals.SigInfo(sig)
        pg = init.pgrp.session.foreground()
        if pg is not None:
            signals.send_to_pgrp(pg, info)
        else:
            signals.send_to_group(init, info)
