"""The kernel of a sandbox: what there is one of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.fdnotify import FdNotifier
    from sentry.kernel.limits import Limits
    from sentry.kernel.session import ProcessGroup, Session
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.kernel.timers import Timers
    from sentry.kernel.randomness import Randomness
    from sentry.vfs.fdtable import FDTable
    from sentry.vfs.mount import FSContext


class UTSNamespace:
    """Names of the machine (uname(2))."""

    def __init__(self, hostname: bytes, domainname: bytes = b"(none)") -> None:
        self.hostname: bytes = hostname
        self.domainname: bytes = domainname

    def copy(self) -> UTSNamespace:
        return UTSNamespace(self.hostname, self.domainname)


class Kernel:
    """Tasks, process groups and sessions by number, and the services that tasks share.

    hostname: initial node name. pids: greatest number of tasks alive at a time, 0 for none. seed: of everything random,
    -1 for the host's randomness. All methods are called with K held.
    """

    def __init__(self, hostname: bytes = b"cordon", pids: int = 0, seed: int = -1) -> None:
        self.uts: UTSNamespace = UTSNamespace(hostname)
        self.pids_limit: int = pids
        self.exceeded: set[str] = set()  # limits that were hit: "pids", "memory"
        self.tasks: dict[int, Task] = {}  # by tid; zombie leaders included
        self.groups: dict[int, ThreadGroup] = {}  # by pid
        self.pgroups: dict[int, ProcessGroup] = {}
        self.sessions: dict[int, Session] = {}
        self.init: ThreadGroup | None = None
        self.random: Randomness  # .bytes(n), .below(n): the one source of randomness
        self.timers: Timers
        self.fdnotify: FdNotifier
        self.boot_monotonic: int = 0  # CLOCK_MONOTONIC ns of the host when the sandbox booted
        self.boot_realtime: int = 0
        raise NotImplementedError

    def start_init(
        self, path: bytes, argv: list[bytes], envp: list[bytes], fs: FSContext, fds: FDTable, creds: Creds, limits: Limits
    ) -> Task:
        """Makes the first process and loads the program; Errno when the program cannot be executed. It starts to run
        with run_until_exit."""
        raise NotImplementedError

    def run_until_exit(self) -> int:
        """Runs until the first process ended, then ends all others; its wait status. SandboxError when the kernel failed.
        Called without K held by the thread that started the platform."""
        raise NotImplementedError

    def kill_all(self) -> None:
        """SIGKILL for every process: the sandbox ends. Any host thread, with K held."""
        raise NotImplementedError

    def signal_init(self, sig: int) -> None:
        """A signal from outside: to the foreground process group of init's terminal, or to init."""
        raise NotImplementedError
