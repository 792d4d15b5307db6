"""/sys (sysfs(5)): only what is true of the sandbox: its processors and a few empty directories that programs look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import statfs as SF
from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.fs.proc.status import cpu_list, cpus
from sentry.mm import memfile
from sentry.syscalls.system import memory_total

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task


def cpu_range(t: Task) -> bytes:
    return cpu_list((1 << cpus()) - 1) + b"\n"


def zero(t: Task) -> bytes:
    return b"0\n"


def one(t: Task) -> bytes:
    return b"1\n"


def newline(t: Task) -> bytes:
    return b"\n"


def last_cpu(t: Task) -> bytes:
    return b"%d\n" % (cpus() - 1)


def cpu_mask(t: Task) -> bytes:
    return b"%x\n" % ((1 << cpus()) - 1)


def local_distance(t: Task) -> bytes:
    return b"10\n"


def node_memory(t: Task) -> bytes:
    total = memory_total(t.kernel)
    used = min(total, memfile.used())
    fields = ((b"MemTotal", total), (b"MemFree", total - used), (b"MemUsed", used), (b"AnonPages", used))
    return b"".join(b"Node 0 %-15s %8d kB\n" % (name + b":", size >> 10) for name, size in fields)


def no_huge_pages(t: Task) -> bytes:
    """Guest memory is never backed by huge pages knowingly."""
    return b"always madvise [never]\n"


class Topology:
    """One processor: a core of its own, in one package."""

    def __init__(self, number: int) -> None:
        self.number: int = number

    def ident(self, t: Task) -> bytes:
        return b"%d\n" % self.number

    def mask(self, t: Task) -> bytes:
        return b"%x\n" % (1 << self.number)


def add_cpus(cpu: GenDir, sb: GenSuper) -> None:
    """devices/system/cpu."""
    for name in (b"online", b"possible", b"present"):
        cpu.add(name, GenFile(sb, 0o444, cpu_range))
    cpu.add(b"offline", GenFile(sb, 0o444, newline))
    cpu.add(b"isolated", GenFile(sb, 0o444, newline))
    cpu.add(b"kernel_max", GenFile(sb, 0o444, last_cpu))
    for i in range(cpus()):
        top = Topology(i)
        d = cpu.dir(b"cpu%d" % i).dir(b"topology")
        d.add(b"core_id", GenFile(sb, 0o444, top.ident))
        d.add(b"physical_package_id", GenFile(sb, 0o444, zero))
        d.add(b"thread_siblings", GenFile(sb, 0o444, top.mask))
        d.add(b"thread_siblings_list", GenFile(sb, 0o444, top.ident))
        d.add(b"core_siblings", GenFile(sb, 0o444, cpu_mask))
        d.add(b"core_siblings_list", GenFile(sb, 0o444, cpu_range))
        if i:
            cpu.dir(b"cpu%d" % i).add(b"online", GenFile(sb, 0o444, one))


def new(kernel: Kernel, dev: int) -> GenDir:
    """The root of a new sysfs (its super block is root.sb)."""
    sb = GenSuper(b"sysfs", dev, SF.SYSFS_MAGIC)
    root = GenDir(sb)
    for name in (b"block", b"bus", b"class", b"dev", b"devices", b"firmware", b"fs", b"kernel", b"module", b"power"):
        root.dir(name)
    system = root.dir(b"devices").dir(b"system")
    add_cpus(system.dir(b"cpu"), sb)
    node = system.dir(b"node")
    for name in (b"online", b"possible", b"has_cpu", b"has_memory", b"has_normal_memory"):
        node.add(name, GenFile(sb, 0o444, zero))
    node0 = node.dir(b"node0")
    node0.add(b"cpulist", GenFile(sb, 0o444, cpu_range))
    node0.add(b"cpumap", GenFile(sb, 0o444, cpu_mask))
    node0.add(b"distance", GenFile(sb, 0o444, local_distance))
    node0.add(b"meminfo", GenFile(sb, 0o444, node_memory))
    huge = root.dir(b"kernel").dir(b"mm").dir(b"transparent_hugepage")
    huge.add(b"enabled", GenFile(sb, 0o444, no_huge_pages))
    root.dir(b"class").dir(b"net")
    root.dir(b"fs").dir(b"cgroup")
    return root
