"""The files of /proc about the whole machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.fs.generated import GenDir, GenFile, GenLink, GenSuper, TaskLink
from sentry.fs.proc.status import PAGE_SHIFT, TICK, cpus
from sentry.kernel import clock
from sentry.kernel import task as states
from sentry.mm import memfile
from sentry.syscalls import system as machine

if TYPE_CHECKING:
    from sentry.kernel.task import Task

# File systems that mount(2) knows, and whether each needs a device.
FILESYSTEMS: Final = (b"sysfs", b"tmpfs", b"proc", b"devtmpfs", b"sockfs", b"pipefs", b"devpts", b"mqueue", b"overlay")
CPU_KEYS: Final = (
    "processor", "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "cpu MHz", "cache size",
    "physical id", "siblings", "core id", "cpu cores", "apicid", "initial apicid", "fpu", "fpu_exception", "cpuid level",
    "wp", "flags", "bugs", "bogomips", "TLB size", "clflush size", "cache_alignment", "address sizes", "power management",
)  # fmt: skip


class HostCpus:
    """The host's /proc/cpuinfo, read before the sentry is sealed: processors are not hidden from guests, CPUID tells them anyway."""

    def __init__(self) -> None:
        self.text: bytes = b""

    def read(self) -> None:
        if self.text:
            return  # a sealed sentry could not read it again
        try:
            with open("/proc/cpuinfo", "rb") as f:
                self.text = f.read()
        except OSError:
            self.text = b""


HOST_CPUS: Final = HostCpus()


def cpuinfo(t: Task) -> bytes:
    """Of the host: only the keys above, without what varies from one read to the next elsewhere."""
    out: list[bytes] = []
    for block in HOST_CPUS.text.strip().split(b"\n\n"):
        for line in block.split(b"\n"):
            key = line.partition(b":")[0].strip().decode("ascii", "replace")
            if key in CPU_KEYS:
                out.append(line)
        out.append(b"")
    if len(out) > 1:
        return b"\n".join(out) + b"\n"
    return b"".join(b"processor\t: %d\n\n" % i for i in range(cpus()))


def meminfo(t: Task) -> bytes:
    total = machine.memory_total(t.kernel)
    used = memfile.used()
    free = max(0, total - used)
    fields = (
        ("MemTotal", total), ("MemFree", free), ("MemAvailable", free), ("Buffers", 0), ("Cached", 0), ("SwapCached", 0),
        ("Active", used), ("Inactive", 0), ("Active(anon)", used), ("Inactive(anon)", 0), ("Active(file)", 0),
        ("Inactive(file)", 0), ("Unevictable", 0), ("Mlocked", 0), ("SwapTotal", 0), ("SwapFree", 0), ("Dirty", 0),
        ("Writeback", 0), ("AnonPages", used), ("Mapped", 0), ("Shmem", 0), ("KReclaimable", 0), ("Slab", 0),
        ("SReclaimable", 0), ("SUnreclaim", 0), ("KernelStack", 0), ("PageTables", 0), ("CommitLimit", total),
        ("Committed_AS", used), ("VmallocTotal", 0), ("VmallocUsed", 0), ("VmallocChunk", 0), ("AnonHugePages", 0),
    )  # fmt: skip
    lines = [f"{name + ':':<15} {value >> 10:8d} kB\n" for name, value in fields]
    lines += ["HugePages_Total:       0\n", "HugePages_Free:        0\n", "Hugepagesize:       2048 kB\n"]
    return "".join(lines).encode()


def uptime_ns(t: Task) -> int:
    return max(0, clock.monotonic() - t.kernel.boot_monotonic)


def busy_ns(t: Task) -> tuple[int, int]:
    """(user, system) time of all processes."""
    user = system = 0
    for tg in t.pidns.groups.values():
        u, s = tg.cpu_ns()
        user += u + tg.children_utime
        system += s + tg.children_stime
    return user, system


def uptime(t: Task) -> bytes:
    up = uptime_ns(t)
    user, system = busy_ns(t)
    idle = max(0, up * cpus() - user - system)
    return b"%d.%02d %d.%02d\n" % (up // clock.NS, up % clock.NS // TICK, idle // clock.NS, idle % clock.NS // TICK)


def running(t: Task) -> int:
    return sum(1 for o in t.pidns.tasks.values() if o.state in (states.RUN, states.SYSCALL))


def loadavg(t: Task) -> bytes:
    """The sandbox keeps no averages: they read as zero."""
    return b"0.00 0.00 0.00 %d/%d %d\n" % (running(t), len(t.pidns.tasks), t.pidns.last_pid)


def stat(t: Task) -> bytes:
    user, system = busy_ns(t)
    count = cpus()
    idle = max(0, uptime_ns(t) * count - user - system)
    numbers = (user // TICK, system // TICK, idle // TICK)
    lines = [b"cpu  %d 0 %d %d 0 0 0 0 0 0" % numbers]
    for i in range(count):
        share = tuple(n // count for n in numbers)
        lines.append(b"cpu%d %d 0 %d %d 0 0 0 0 0 0" % ((i, *share)))
    switches = sum(o.nvcsw + o.nivcsw for o in t.pidns.tasks.values())
    lines += [
        b"intr 0",
        b"ctxt %d" % switches,
        b"btime %d" % (t.kernel.boot_realtime // clock.NS),
        b"processes %d" % t.container.forks,
        b"procs_running %d" % max(1, running(t)),
        b"procs_blocked 0",
        b"softirq 0 0 0 0 0 0 0 0 0 0 0",
    ]
    return b"\n".join(lines) + b"\n"


def vmstat(t: Task) -> bytes:
    """Only what is kept: free and used pages, faults that the sentry saw. Paging and swapping do not happen."""
    total = machine.memory_total(t.kernel) >> PAGE_SHIFT
    used = memfile.used() >> PAGE_SHIFT
    faults = sum(tg.minflt for tg in t.pidns.groups.values()) + sum(o.minflt for o in t.pidns.tasks.values())
    fields = (
        (b"nr_free_pages", max(0, total - used)), (b"nr_anon_pages", used), (b"pgpgin", 0), (b"pgpgout", 0),
        (b"pswpin", 0), (b"pswpout", 0), (b"pgfault", faults), (b"pgmajfault", 0), (b"oom_kill", 0),
    )  # fmt: skip
    return b"".join(b"%s %d\n" % field for field in fields)


def version(t: Task) -> bytes:
    return b"%s version %s (cordon) %s\n" % (machine.SYSNAME, machine.RELEASE, machine.VERSION)


def filesystems(t: Task) -> bytes:
    return b"".join(b"nodev\t%s\n" % name for name in FILESYSTEMS)


def devices(t: Task) -> bytes:
    return b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n"


def command_line(t: Task) -> bytes:
    return b"\n"


def swaps(t: Task) -> bytes:
    return b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def partitions(t: Task) -> bytes:
    return b"major minor  #blocks  name\n\n"


def self_name(t: Task) -> bytes:
    return b"%d" % t.tg.pid


def thread_self_name(t: Task) -> bytes:
    return b"%d/task/%d" % (t.tg.pid, t.tid)


def cgroups(t: Task) -> bytes:
    return b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n"


FILES: Final = (
    (b"cgroups", cgroups),
    (b"cmdline", command_line),
    (b"cpuinfo", cpuinfo),
    (b"devices", devices),
    (b"filesystems", filesystems),
    (b"loadavg", loadavg),
    (b"meminfo", meminfo),
    (b"partitions", partitions),
    (b"stat", stat),
    (b"swaps", swaps),
    (b"uptime", uptime),
    (b"version", version),
    (b"vmstat", vmstat),
)


def populate(root: GenDir, sb: GenSuper) -> None:
    """Adds the files to /proc."""
    HOST_CPUS.read()
    root.add(b"self", TaskLink(sb, self_name))
    root.add(b"thread-self", TaskLink(sb, thread_self_name))
    root.add(b"mounts", GenLink(sb, b"self/mounts"))
    root.add(b"net", GenLink(sb, b"self/net"))
    for name, read in FILES:
        root.add(name, GenFile(sb, 0o444, read))
