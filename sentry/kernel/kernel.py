"""The kernel of a sandbox: what there is one of."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.errors import Errno, SandboxError
from sentry.kernel import clock, itimers
from sentry.kernel import exit as exiting
from sentry.kernel.container import Container
from sentry.kernel.futex import FutexTable
from sentry.kernel.hostthreads import HostThreads
from sentry.kernel.ipc import namespace
from sentry.kernel.ipc.namespace import IpcNamespace
from sentry.kernel.pidns import PidNamespace
from sentry.kernel.randomness import Randomness
from sentry.kernel.session import ProcessGroup, Session
from sentry.kernel.signals import Actions
from sentry.kernel.task import Task
from sentry.kernel.threadgroup import ThreadGroup

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.fdnotify import FdNotifier
    from sentry.kernel.limits import Limits
    from sentry.kernel.timers import Timers
    from sentry.mm.address_space import AddressSpace
    from sentry.net.stack import Stack
    from sentry.vfs.fdtable import FDTable
    from sentry.vfs.mount import FSContext

UTS_IDENTS: Final = [-1]  # of UTS namespaces; the newest


class UTSNamespace:
    """Names of the machine (uname(2))."""

    def __init__(self, hostname: bytes, domainname: bytes = b"(none)") -> None:
        self.hostname: bytes = hostname
        self.domainname: bytes = domainname
        UTS_IDENTS[0] += 1
        self.ident: int = UTS_IDENTS[0]  # 0 for the first; /proc/PID/ns/uts tells them apart

    def copy(self) -> UTSNamespace:
        return UTSNamespace(self.hostname, self.domainname)


class Start:
    """What a process starts from."""

    def __init__(
        self,
        program: bytes,
        argv: list[bytes],
        envp: list[bytes],
        fs: FSContext,
        fds: FDTable,
        creds: Creds,
        limits: Limits,
    ) -> None:
        self.program: bytes = program
        self.argv: list[bytes] = argv
        self.envp: list[bytes] = envp
        self.fs: FSContext = fs
        self.fds: FDTable = fds
        self.creds: Creds = creds
        self.limits: Limits = limits
        self.oom_score_adj: int = 0


class Kernel:
    """The containers, and the services that tasks share.

    seed: of everything random, -1 for the host's randomness. memory: bytes of guest memory the sandbox may use, 0 for no limit. All
    methods are called with K held, unless they say otherwise.
    """

    def __init__(self, seed: int = -1, memory: int = 0) -> None:
        from sentry.kernel.fdnotify import FdNotifier
        from sentry.kernel.timers import Timers

        self.containers: dict[str, Container] = {}
        self.first: Container | None = None  # whose end is the sandbox's
        self.pid_namespaces: list[PidNamespace] = []
        self.namespaces: int = 0  # ever made, of any kind
        self.memory_limit: int = memory
        self.sigpending: dict[int, int] = {}  # queued signals by user
        self.random: Randomness = Randomness(seed)
        self.boot_monotonic: int = clock.monotonic()  # of the host when the sandbox booted
        self.boot_realtime: int = clock.realtime()
        # Called with (task, last thread of its process) when a thread ends, before it gives up memory and files.
        self.exit_hooks: list[Callable[[Task, bool], None]] = [itimers.thread_ended, namespace.thread_ended]
        # Called with the task after its memory and files are the new program's.
        self.exec_hooks: list[Callable[[Task], None]] = [itimers.program_changed]
        # Called with (container, what happened, pid, status) for those who look on from outside (sentry/control).
        self.listener: Callable[[Container, str, int, int], None] | None = None
        self.stack: Stack | None = None  # the network stack (sentry/net/start.py)
        self.threads: HostThreads = HostThreads(self)
        self.running: int = 0  # tasks with a host thread
        self.ending: bool = False
        self.failure: str = ""  # why the kernel gave up
        self.log: Callable[[str], None] | None = None  # debug log, a line a call
        self.ended: int = os.eventfd(0)  # readable when the last task has gone
        self.ended_said: bool = False
        self.timers: Timers = Timers(self)
        self.fdnotify: FdNotifier = FdNotifier(self)
        self.futexes: FutexTable = FutexTable()

    @property
    def init(self) -> ThreadGroup | None:
        """The first process of the first container."""
        return self.first.init if self.first is not None else None

    def tell(self, container: Container, what: str, pid: int, status: int) -> None:
        """Something happened that those outside may want to know."""
        if self.listener is not None:
            self.listener(container, what, pid, status)

    def usage(self) -> dict[str, int]:
        """What the first process and those it waited for have used: utime_ns, stime_ns, peak_bytes (of all guest memory)."""
        from sentry.kernel.rusage import usage_of_group
        from sentry.mm import memfile

        assert self.init is not None
        u = usage_of_group(self.init)
        return {"utime_ns": u.utime, "stime_ns": u.stime, "peak_bytes": memfile.peak()}

    # Containers

    def new_container(
        self, ident: str, pidns: PidNamespace | None, ipc: IpcNamespace | None, uts: UTSNamespace | None
    ) -> Container:
        """An empty container; None makes a new namespace."""
        number = self.namespaces
        self.namespaces += 1
        if pidns is None:
            pidns = PidNamespace(number)
            self.pid_namespaces.append(pidns)
        container = Container(
            self,
            ident,
            pidns,
            ipc if ipc is not None else IpcNamespace(number),
            uts if uts is not None else UTSNamespace(b"cordon"),
        )
        self.containers[ident] = container
        if self.first is None:
            self.first = container
        return container

    def forget_container(self, container: Container) -> None:
        """A stopped container (or one that could not be made) goes."""
        self.containers.pop(container.ident, None)
        if not any(c.pidns is container.pidns for c in self.containers.values()):
            if container.pidns in self.pid_namespaces:
                self.pid_namespaces.remove(container.pidns)

    def container_ended(self, container: Container) -> None:
        """The last task of a container has gone. With the first container, the sandbox ends."""
        if container is self.first:
            self.kill_all()

    # Tasks

    def every_task(self) -> list[Task]:
        """All of the sandbox."""
        return [t for ns in self.pid_namespaces for t in ns.tasks.values()]

    def add_task(self, t: Task) -> None:
        """The task can be found by its number from now on."""
        t.pidns.tasks[t.tid] = t
        t.container.tasks += 1
        t.container.living += 1
        t.container.forks += 1

    def forget_task(self, t: Task) -> None:
        if t.pidns.tasks.pop(t.tid, None) is not None:
            t.container.tasks -= 1

    def new_process(self, container: Container, mm: AddressSpace, start: Start) -> Task:
        """A process that nobody forked: the first thread of a new session, without a program yet."""
        pid = container.new_pid()
        pidns = container.pidns
        session = Session(pid, None)
        pgrp = ProcessGroup(pid, session)
        tg = ThreadGroup(self, pid, None, pgrp, start.limits, Actions(), container)
        t = Task(self, pid, tg, mm, start.fs, start.fds, start.creds, container.uts)
        tg.leader = t
        tg.tasks.append(t)
        pgrp.members.append(tg)
        session.leader = tg
        pidns.sessions[pid] = session
        pidns.pgroups[pid] = pgrp
        pidns.groups[pid] = tg
        self.add_task(t)
        t.start_time = clock.monotonic()
        return t

    def load(self, container: Container, start: Start, init: bool) -> Task:
        """Makes a process with its program loaded; Errno when the program cannot be executed. It does not run yet."""
        from sentry.kernel import execve, home
        from sentry.mm.address_space import AddressSpace

        t = self.new_process(container, AddressSpace(self), start)
        tg = t.tg
        if init and container.pidns.init is None:
            container.pidns.init = tg
            tg.is_init = True
        try:
            if container.ident and not any(e.startswith(b"HOME=") for e in start.envp):
                start.envp = [*start.envp, b"HOME=" + home.directory(t)]
            execve.execute_path(t, start.program, start.argv, start.envp)
        except BaseException:
            exiting.never_ran(t)
            raise
        t.seccomp = container.seccomp
        tg.oom_score_adj = start.oom_score_adj
        container.add_record(tg, init)
        return t

    def start_task(self, t: Task) -> None:
        """Gives the task a host thread: it runs as soon as K is free. EAGAIN when the host has none."""
        try:
            self.threads.start(t)
        except RuntimeError:
            raise Errno(E.EAGAIN) from None
        self.running += 1

    def run_until_exit(self) -> int:
        """Waits until the sandbox has ended; the wait status of its first process. SandboxError when the kernel failed. Called
        without K held."""
        self.wait_for_end()
        if self.failure:
            raise SandboxError(self.failure, 70)
        lib.cn_klock()
        self.threads.stop()
        lib.cn_kunlock()
        init = self.init
        assert init is not None
        return init.exit_status

    def task_ended(self, t: Task) -> None:
        """A task has given up all that it held."""
        self.running -= 1
        t.container.task_ended(t)
        if self.running == 0 and self.ending:
            self.say_ended()

    def wait_for_end(self) -> None:
        """Sleeps until the last task has gone, or the kernel or its platform failed. Without K."""
        helper: int = lib.cn_platform_failure_fd()
        poll = select.poll()
        for fd in (self.ended, helper):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        if self.ended not in ready and not self.failure:
            self.failure = "the platform failed: its helper process has died"

    def say_ended(self) -> None:
        if not self.ended_said:
            self.ended_said = True
            os.eventfd_write(self.ended, 1)

    def kill_all(self) -> None:
        """SIGKILL for every process: the sandbox ends. Any host thread, with K held."""
        self.ending = True
        for container in list(self.containers.values()):
            container.kill()
        if self.running == 0:
            self.say_ended()

    def fail(self, why: str) -> None:
        """A bug in the sentry: nothing runs any more, run_until_exit raises."""
        if not self.failure:
            self.failure = why
        self.say_ended()
