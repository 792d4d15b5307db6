"""The machine: names, sizes, randomness."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import random as RND
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.mm import memfile

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

SYSNAME: Final = b"Linux"
RELEASE: Final = b"6.12.0-cordon"
VERSION: Final = b"#1 SMP PREEMPT_DYNAMIC Cordon"
MACHINE: Final = b"x86_64"
MACHINE_32: Final = b"i686"
HOST_NAME_MAX: Final = 64
UNAME26: Final = 0x0020000
PER_MASK: Final = 0x00FF
PER_LINUX32: Final = 0x0008
RANDOM_CHUNK: Final = 1 << 16


def uname(t: Task, buf: int) -> int:
    """uname(2)."""
    release = b"2.6.72-cordon" if t.tg.personality & UNAME26 else RELEASE
    machine = MACHINE_32 if t.tg.personality & PER_MASK == PER_LINUX32 else MACHINE
    fields = (SYSNAME, t.uts.hostname, release, VERSION, machine, t.uts.domainname)
    t.mm.write(buf, b"".join(f[:64].ljust(65, b"\0") for f in fields))
    return 0


def host_name(t: Task, addr: int, length: int) -> bytes:
    if not t.creds.has(C.CAP_SYS_ADMIN):
        raise Errno(E.EPERM)
    if not 0 <= length <= HOST_NAME_MAX:
        raise Errno(E.EINVAL)
    return t.mm.read(addr, length)


def sethostname(t: Task, addr: int, length: int) -> int:
    """sethostname(2)."""
    t.uts.hostname = host_name(t, addr, length)
    return 0


def setdomainname(t: Task, addr: int, length: int) -> int:
    """setdomainname(2)."""
    t.uts.domainname = host_name(t, addr, length)
    return 0


def memory_total(kernel: Kernel) -> int:
    """Bytes of memory that the guest may think of as the machine's."""
    return kernel.memory_limit or os.sysconf("SC_PHYS_PAGES") * 4096


def sysinfo(t: Task, addr: int) -> int:
    """sysinfo(2). Loads are zero: the sandbox keeps none."""
    total = memory_total(t.kernel)
    free = max(0, total - memfile.used())
    up = (clock.monotonic() - t.kernel.boot_monotonic) // clock.NS
    procs = min(len(t.pidns.tasks), 65535)
    t.mm.write(addr, struct.pack("<q3Q6QHHxxxxQQI4x", up, 0, 0, 0, total, free, 0, 0, 0, 0, procs, 0, 0, 0, 1)[:112])
    return 0


def getrandom(t: Task, buf: int, count: int, flags: int) -> int:
    """getrandom(2)."""
    if flags & ~(RND.GRND_NONBLOCK | RND.GRND_RANDOM | RND.GRND_INSECURE):
        raise Errno(E.EINVAL)
    if flags & RND.GRND_RANDOM and flags & RND.GRND_INSECURE:
        raise Errno(E.EINVAL)
    count = min(count, 0x7FFFFFFF)
    done = 0
    while done < count:
        data = t.kernel.random.get(min(count - done, RANDOM_CHUNK))
        try:
            done += t.mm.write_some(buf + done, data)
        except Errno:
            if done:
                break
            raise
    return done


def getcpu(t: Task, cpu: int, node: int, cache: int) -> int:
    """getcpu(2): the CPU the task's host thread runs on now, or else the lowest of its affinity."""
    here = lib.cn_place_now()
    if t.affinity and not t.affinity >> here & 1:
        here = (t.affinity & -t.affinity).bit_length() - 1
    if cpu:
        t.mm.write_u32(cpu, here)
    if node:
        t.mm.write_u32(node, 0)
    return 0


def syslog(t: Task, action: int, buf: int, length: int) -> int:
    """syslog(2): there is no kernel log to see."""
    if action in (9, 10):
        return 0 if action == 9 else 1 << 18
    raise Errno(E.EPERM)
