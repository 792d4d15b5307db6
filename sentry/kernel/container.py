"""Containers: what the processes of one have in common, and how those that were started from outside ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.errors import Errno, SandboxError
from sentry.kernel import clock
from sentry.kernel import exit as exiting
from sentry.kernel.ipc.namespace import IpcNamespace
from sentry.kernel.pidns import PidNamespace
from sentry.kernel.rusage import Usage, usage_of_group
from sentry.kernel.task import RUN
from sentry.mm import memfile

if TYPE_CHECKING:
    from sentry.fs.gofer.super import SentryClient
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.kernel import Kernel, UTSNamespace
    from sentry.kernel.seccomp import Filter
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.vfs.mount import Path

# Container.status
CREATED: Final = "created"  # its init is loaded and waits for `start`
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"  # every process has gone

MEMORY_PERIOD: Final = 50_000_000  # ns between looks at the memory limit when half of it is used; less often before
RECORDS_MAX: Final = 4096  # statuses of ended processes that are kept


class Record:
    """A process that was started from outside (a container's init, an exec): how it ended is kept for those who ask."""

    def __init__(self, container: Container, tg: ThreadGroup, init: bool) -> None:
        self.container: Container = container
        self.tg: ThreadGroup | None = tg  # None once it ended
        self.pid: int = tg.pid
        self.init: bool = init
        self.status: int = -1  # wait status, -1 while it lives
        self.usage: Usage | None = None
        self.waiters: list[Callable[[Record], None]] = []  # called once, when the status is known

    @property
    def ended(self) -> bool:
        return self.status >= 0

    def end(self, tg: ThreadGroup) -> None:
        """The process has ended (a container's init: with all of the container)."""
        if self.ended:
            return
        self.status = tg.exit_status
        self.usage = usage_of_group(tg)
        self.tg = None
        waiters = self.waiters
        self.waiters = []
        for waiter in waiters:
            waiter(self)
        self.container.kernel.tell(
            self.container, "exit" if self.init else "exec-exit", self.pid, self.status
        )


class Container:
    """One container. `ident` "" is that of `cordon do`, whose first process is no init as far as signals go."""

    def __init__(
        self, kernel: Kernel, ident: str, pidns: PidNamespace, ipc: IpcNamespace, uts: UTSNamespace
    ) -> None:
        self.kernel: Kernel = kernel
        self.ident: str = ident
        self.pidns: PidNamespace = pidns
        self.ipc: IpcNamespace = ipc
        self.uts: UTSNamespace = uts
        self.status: str = CREATED
        self.init: ThreadGroup | None = None
        self.record: Record | None = None  # of init
        self.records: dict[int, Record] = {}  # by pid, init's among them
        self.root: Path | None = None  # of its mounts
        self.console: TTY | None = None  # the terminal that it was given (/dev/console)
        self.seccomp: Filter | None = None  # of every process that is started in it
        self.cgroup: bytes = b"/"
        self.uid_map: list[tuple[int, int, int]] = [(0, 0, 0xFFFFFFFF)]
        self.gid_map: list[tuple[int, int, int]] = [(0, 0, 0xFFFFFFFF)]
        self.pids_limit: int = 0
        self.memory_limit: int = 0
        self.tasks: int = 0  # alive or zombie
        self.living: int = 0  # tasks whose host thread has not ended (a created init counts)
        self.gofers: list[SentryClient] = []  # connections of its mounts
        self.paused: bool = False
        self.oom_kills: int = 0
        self.exceeded: set[str] = set()  # limits that were hit: "pids", "memory"
        self.forks: int = 0  # processes and threads since it began
        self.utime: int = 0  # of threads that ended, ns
        self.stime: int = 0
        self.started: int = 0  # monotonic ns

    # Numbers

    def check_pids(self) -> None:
        """EAGAIN when there may be no further task."""
        if self.pids_limit and self.tasks >= self.pids_limit:
            self.exceeded.add("pids")
            raise Errno(E.EAGAIN)

    def new_pid(self) -> int:
        """A number for a new task; EAGAIN."""
        self.check_pids()
        return self.pidns.new_pid()

    # Processes

    def add_record(self, tg: ThreadGroup, init: bool) -> Record:
        """The process's status will be kept. The oldest ended ones are forgotten when there are too many."""
        record = Record(self, tg, init)
        tg.record = record
        if len(self.records) >= RECORDS_MAX:
            for pid, old in list(self.records.items()):
                if old.ended and not old.init:
                    del self.records[pid]
                    break
        self.records[record.pid] = record
        if init:
            self.init = tg
            self.record = record
        return record

    def processes(self) -> list[ThreadGroup]:
        """Its processes by number, zombies included."""
        return [tg for _, tg in sorted(self.pidns.groups.items()) if tg.container is self]

    def alive(self) -> list[Task]:
        """Its threads that have not begun to exit."""
        return [t for t in self.pidns.tasks.values() if t.container is self and t.alive]

    # Life

    def start(self) -> None:
        """Releases the created init. SandboxError when the host has no thread for it."""
        init = self.init
        assert init is not None
        try:
            self.kernel.start_task(init.main)
        except Errno:
            raise SandboxError("the host has no further thread for the first process", 70) from None
        self.status = RUNNING
        self.started = clock.monotonic()
        self.check_memory()

    def kill(self, status: int = SIG.SIGKILL) -> None:
        """Every process ends with this wait status. A created init that never ran ends as well."""
        for tg in self.processes():
            if not tg.dead:
                exiting.kill_group(tg, status)
        if self.status == CREATED and self.init is not None and not self.init.dead:
            try:
                self.start()
            except Errno:
                self.kernel.fail("no host thread to end a container with")

    def init_ended(self) -> None:
        """The first process has ended: so do all others of the container, and of its PID namespace if it was that one's init."""
        if self.pidns.init is self.init:
            for tg in list(self.pidns.groups.values()):
                if not tg.dead:
                    exiting.kill_group(tg, SIG.SIGKILL)
        self.kill()

    def task_ended(self, t: Task) -> None:
        """A task has given up all that it held. The last one of a container whose init has ended ends the container."""
        self.living -= 1
        self.utime += t.utime_final
        self.stime += t.stime_final
        init = self.init
        if self.living == 0 and init is not None and init.dead and self.status != STOPPED:
            self.status = STOPPED
            if self.record is not None:
                self.record.end(init)
            self.kernel.container_ended(self)

    def out_of_memory(self) -> None:
        """The memory limit is reached: all processes are killed, as the out-of-memory killer does to a whole cgroup."""
        self.exceeded.add("memory")
        if self.status != STOPPED and not (self.init is not None and self.init.exiting):
            self.oom_kills += 1
            self.kernel.tell(self, "oom", 0, 0)
        self.kill()

    def memory_used(self) -> int:
        """Bytes of memory in use: the whole sandbox's when there is no other container, else what its programs have resident."""
        if len(self.kernel.containers) == 1:
            return memfile.used()
        spaces = {id(t.mm): t for t in self.alive()}
        return sum(t.mm.resident().total for t in spaces.values())

    def set_memory_limit(self, limit: int) -> None:
        """Bytes, 0 for none; looked at up to 20 times a second. SandboxError above the sandbox's own limit, which is exact."""
        most = self.kernel.memory_limit
        if most and not 0 < limit <= most:
            most = self.kernel.memory_limit = memfile.limit()  # it may have grown
        if most and not 0 < limit <= most:
            raise SandboxError(f"the memory limit cannot be raised above the {most} bytes that the sandbox was started with")
        watched = self.memory_limit != 0
        self.memory_limit = limit
        if limit and not watched and self.status != CREATED:
            self.check_memory()

    def check_memory(self) -> None:
        """Called by a timer while there is a limit."""
        if self.memory_limit and self.status != STOPPED:
            used = self.memory_used()
            if used > self.memory_limit:
                self.out_of_memory()
            period = MEMORY_PERIOD if used > self.memory_limit // 2 else 4 * MEMORY_PERIOD
            self.kernel.timers.at(clock.monotonic() + period, self.check_memory)

    def gofer_gone(self, why: str) -> bool:
        """Its files can't be reached any more: it is destroyed, and with the first container the sandbox. Does that go on?"""
        if self.status == STOPPED or self.kernel.ending:
            return True
        sentence = f"the gofer failed: {why}"
        if self.kernel.log is not None:
            self.kernel.log(f'container "{self.ident}" is destroyed: {sentence}')
        self.kernel.tell(self, "gofer", 0, 0)
        if self is self.kernel.first:
            self.kernel.fail(sentence)
            return False
        self.kill()
        return True

    # Pause

    def pause(self) -> None:
        """Tasks stop at the border, and where they sleep; nothing of the guest runs once `settled`."""
        if not self.paused:
            self.paused = True
            self.status = PAUSED
            for t in self.alive():
                if t.state == RUN:
                    t.interrupt()

    def settled(self) -> bool:
        """Has every task noticed the pause (or does it sleep, or is it ending)?"""
        return self.status == CREATED or not any(t.state == RUN for t in self.alive())

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self.status = RUNNING
            for t in self.alive():
                t.wake()

    def cpu_ns(self) -> tuple[int, int]:
        """(user, system) time of all its threads, living and dead."""
        utime, stime = self.utime, self.stime
        for t in self.alive():
            u, s = t.cpu_ns()
            utime += u
            stime += s
        return utime, stime
