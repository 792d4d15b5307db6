"""/proc/sys: kernel settings that are true here; few can be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.fs import devpts, pipe
from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.fs.proc import ipcctl, netctl
from sentry.fs.proc.status import parse_int
from sentry.kernel.pidns import PID_MAX
from sentry.syscalls import system as machine

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

    Getter = Callable[[Task], bytes]
    Setter = Callable[[Task, bytes], None]

NAME_MAX: Final = 64
NR_OPEN: Final = 1 << 20  # greatest RLIMIT_NOFILE


def uuid(raw: bytes) -> bytes:
    """Random bytes as a version-4 UUID in text."""
    b = bytearray(raw)
    b[6] = b[6] & 0x0F | 0x40
    b[8] = b[8] & 0x3F | 0x80
    h = b.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}".encode()


class Fixed:
    """A value that does not change."""

    def __init__(self, value: bytes) -> None:
        self.value: bytes = value

    def get(self, t: Task) -> bytes:
        return self.value + b"\n"


def hostname(t: Task) -> bytes:
    return t.uts.hostname + b"\n"


def set_hostname(t: Task, data: bytes) -> None:
    t.uts.hostname = name_of(t, data)


def domainname(t: Task) -> bytes:
    return t.uts.domainname + b"\n"


def set_domainname(t: Task, data: bytes) -> None:
    t.uts.domainname = name_of(t, data)


def name_of(t: Task, data: bytes) -> bytes:
    if not t.creds.has(C.CAP_SYS_ADMIN):
        raise Errno(E.EPERM)
    return data.partition(b"\n")[0].partition(b"\0")[0][:NAME_MAX]


def new_uuid(t: Task) -> bytes:
    return uuid(t.kernel.random.get(16)) + b"\n"


def threads_max(t: Task) -> bytes:
    return b"%d\n" % (t.container.pids_limit or PID_MAX)


def pipe_max_size(t: Task) -> bytes:
    return b"%d\n" % pipe.LIMITS.max_size


def set_pipe_max_size(t: Task, data: bytes) -> None:
    value = parse_int(data)
    if not pipe.PAGE <= value <= 1 << 31:
        raise Errno(E.EINVAL)
    size = pipe.PAGE
    while size < value:
        size *= 2
    pipe.LIMITS.max_size = size


def ptys(t: Task) -> bytes:
    return b"%d\n" % devpts.MAX_PTYS


def file_nr(t: Task) -> bytes:
    files = {id(f) for o in t.pidns.tasks.values() if o.alive for f in o.fds.files()}
    return b"%d\t0\t%d\n" % (len(files), NR_OPEN)


def populate(root: GenDir, sb: GenSuper, kernel: Kernel) -> None:
    """Adds sys to /proc."""
    boot_id = uuid(kernel.random.get(16))
    sys = root.dir(b"sys")
    fixed: dict[bytes, dict[bytes, bytes]] = {
        b"kernel": {
            b"ostype": machine.SYSNAME,
            b"osrelease": machine.RELEASE,
            b"version": machine.VERSION,
            b"pid_max": b"%d" % PID_MAX,
            b"cap_last_cap": b"%d" % C.CAP_LAST_CAP,
            b"ngroups_max": b"65536",
            b"core_pattern": b"core",
            b"core_uses_pid": b"0",
            b"tainted": b"0",
            b"core_pipe_limit": b"0",
            b"overflowuid": b"65534",
            b"overflowgid": b"65534",
            b"randomize_va_space": b"2",
            b"printk": b"4\t4\t1\t7",
            b"dmesg_restrict": b"1",
            b"kptr_restrict": b"1",
            b"perf_event_paranoid": b"4",
            b"unprivileged_bpf_disabled": b"2",
            b"unprivileged_userns_clone": b"0",
            b"seccomp/actions_avail": b"kill_process kill_thread trap errno trace log allow",
            b"sched_child_runs_first": b"0",
            b"sched_rr_timeslice_ms": b"100",
            b"random/boot_id": boot_id,
            b"random/entropy_avail": b"256",
            b"random/poolsize": b"256",
            b"keys/root_maxkeys": b"0",
            b"keys/maxkeys": b"0",
        },
        b"vm": {
            b"mmap_min_addr": b"65536",
            b"max_map_count": b"65530",
            b"legacy_va_layout": b"0",
            b"nr_hugepages": b"0",
            b"overcommit_ratio": b"50",
            b"overcommit_kbytes": b"0",
            b"swappiness": b"60",
        },
        b"fs": {
            b"nr_open": b"%d" % NR_OPEN,
            b"file-max": b"9223372036854775807",
            b"lease-break-time": b"45",
            b"leases-enable": b"0",
            b"overflowuid": b"65534",
            b"overflowgid": b"65534",
            b"suid_dumpable": b"0",
            b"protected_symlinks": b"0",
            b"protected_hardlinks": b"0",
            b"protected_fifos": b"0",
            b"protected_regular": b"0",
            b"aio-max-nr": b"0",
            b"aio-nr": b"0",
        },
        b"net": netctl.FIXED,
    }
    for group, values in fixed.items():
        for path, value in values.items():
            add(sys.dir(group), sb, path, Fixed(value).get, None)
    for path, get, put in netctl.SETTINGS:
        add(sys.dir(b"net"), sb, path, get, put)
    k = sys.dir(b"kernel")
    add(k, sb, b"hostname", hostname, set_hostname)
    add(k, sb, b"domainname", domainname, set_domainname)
    add(k, sb, b"threads-max", threads_max, None)
    add(k, sb, b"random/uuid", new_uuid, None)
    add(k, sb, b"pty/max", ptys, None)
    fs = sys.dir(b"fs")
    add(fs, sb, b"pipe-max-size", pipe_max_size, set_pipe_max_size)
    add(fs, sb, b"pipe-user-pages-soft", Fixed(b"16384").get, None)
    add(fs, sb, b"pipe-user-pages-hard", Fixed(b"0").get, None)
    add(fs, sb, b"file-nr", file_nr, None)
    for name, number in ((b"max_queued_events", 16384), (b"max_user_instances", 128), (b"max_user_watches", 65536)):
        add(fs.dir(b"inotify"), sb, name, Fixed(b"%d" % number).get, None)
    for path, numbers in ipcctl.SETTINGS:
        add(sys, sb, path, numbers.get, numbers.put)
    add(fs.dir(b"epoll"), sb, b"max_user_watches", Fixed(b"1000000").get, None)
    add(sys.dir(b"vm"), sb, b"overcommit_memory", Fixed(b"0").get, None)


def add(d: GenDir, sb: GenSuper, path: bytes, get: Getter, put: Setter | None) -> None:
    """A value at a path below a directory."""
    *dirs, name = path.split(b"/")
    for part in dirs:
        d = d.dir(part)
    d.add(name, GenFile(sb, 0o444 if put is None else 0o644, get, put))
