"""The container's own cgroup, as cgroup v2 shows it inside a cgroup namespace: limits and use, read-only.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.mm import memfile

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.task import Task

CGROUP2_SUPER_MAGIC: Final = 0x63677270  # statfs(2)
US: Final = 1000  # ns


def number(value: int) -> bytes:
    """A limit; 0 is none."""
    return b"%d\n" % value if value else b"max\n"


class Group:
    """The files' contents."""

    def __init__(self, container: Container) -> None:
        self.container: Container = container

    def controllers(self, t: Task) -> bytes:
        return b"cpu memory pids\n"

    def nothing(self, t: Task) -> bytes:
        return b""

    def kind(self, t: Task) -> bytes:
        return b"domain\n"

    def procs(self, t: Task) -> bytes:
        return b"".join(b"%d\n" % tg.pid for tg in self.container.processes() if not tg.dead)

    def threads(self, t: Task) -> bytes:
        return b"".join(b"%d\n" % task.tid for task in self.container.alive())

    def events(self, t: Task) -> bytes:
        return b"populated 1\nfrozen %d\n" % int(self.container.paused)

    def frozen(self, t: Task) -> bytes:
        return b"%d\n" % int(self.container.paused)

    def memory_max(self, t: Task) -> bytes:
        return number(self.container.memory_limit or self.container.kernel.memory_limit)

    def memory_current(self, t: Task) -> bytes:
        return b"%d\n" % self.container.memory_used()

    def memory_peak(self, t: Task) -> bytes:
        return b"%d\n" % memfile.peak()

    def memory_events(self, t: Task) -> bytes:
        n = self.container.oom_kills
        return b"low 0\nhigh 0\nmax %d\noom %d\noom_kill %d\noom_group_kill 0\n" % (n, n, n)

    def pids_max(self, t: Task) -> bytes:
        return number(self.container.pids_limit)

    def pids_current(self, t: Task) -> bytes:
        return b"%d\n" % self.container.tasks

    def cpu_stat(self, t: Task) -> bytes:
        user, system = self.container.cpu_ns()
        return b"usage_usec %d\nuser_usec %d\nsystem_usec %d\n" % (
            (user + system) // US,
            user // US,
            system // US,
        )


def new(container: Container, dev: int) -> GenDir:
    """The root of the file system (its super block is root.sb)."""
    sb = GenSuper(b"cgroup2", dev, CGROUP2_SUPER_MAGIC)
    sb.source = b"cgroup"
    root = GenDir(sb)
    g = Group(container)
    for name, read in (
        (b"cgroup.controllers", g.controllers),
        (b"cgroup.subtree_control", g.nothing),
        (b"cgroup.type", g.kind),
        (b"cgroup.procs", g.procs),
        (b"cgroup.threads", g.threads),
        (b"cgroup.events", g.events),
        (b"cgroup.freeze", g.frozen),
        (b"memory.max", g.memory_max),
        (b"memory.current", g.memory_current),
        (b"memory.peak", g.memory_peak),
        (b"memory.events", g.memory_events),
        (b"pids.max", g.pids_max),
        (b"pids.current", g.pids_current),
        (b"cpu.stat", g.cpu_stat),
    ):
        root.add(name, GenFile(sb, 0o444, read))
    return root
