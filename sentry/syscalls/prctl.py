"""prctl(2), arch_prctl(2), personality(2): attributes of tasks that have no call of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.abi import prctl as PR
from sentry.abi import seccomp as SC
from sentry.errors import Errno
from sentry.kernel import seccomp as filters
from sentry.kernel.signals import NSIG
from sentry.syscalls import process

if TYPE_CHECKING:
    from sentry.kernel.task import Task

COMM_SIZE: Final = 16
USER_ADDRESS_END: Final = 0x7FFFFFFFF000
ANON_NAME_MAX: Final = 80
SECBITS_MASK: Final = 0xFF
SECBITS_ALL_LOCKS: Final = 0xAA
SECBIT_NO_CAP_AMBIENT_RAISE: Final = 1 << 6
KEEP_CAPS_LOCKED: Final = 1 << 5
SECBIT_KEEP_CAPS: Final = 1 << 4
M32: Final = 0xFFFFFFFF


def zero(*args: int) -> None:
    """Arguments that are not used must be 0."""
    if any(args):
        raise Errno(E.EINVAL)


def set_name(t: Task, a: int, b: int, c: int, d: int) -> int:
    name = t.mm.read_some(a, COMM_SIZE - 1)
    t.comm = name.partition(b"\0")[0]
    return 0


def get_name(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.mm.write(a, t.comm.ljust(COMM_SIZE, b"\0"))
    return 0


def set_pdeathsig(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a > NSIG:
        raise Errno(E.EINVAL)
    t.pdeathsig = a
    return 0


def get_pdeathsig(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.mm.write(a, t.pdeathsig.to_bytes(4, "little"))
    return 0


def get_dumpable(t: Task, a: int, b: int, c: int, d: int) -> int:
    return t.mm.dumpable


def set_dumpable(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a not in (0, 1):
        raise Errno(E.EINVAL)
    t.mm.dumpable = a
    return 0


def get_keepcaps(t: Task, a: int, b: int, c: int, d: int) -> int:
    return 1 if t.creds.securebits & SECBIT_KEEP_CAPS else 0


def set_keepcaps(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a > 1:
        raise Errno(E.EINVAL)
    if t.creds.securebits & KEEP_CAPS_LOCKED:
        raise Errno(E.EPERM)
    new = t.creds.copy()
    new.securebits = new.securebits & ~SECBIT_KEEP_CAPS | (SECBIT_KEEP_CAPS if a else 0)
    t.creds = new
    return 0


def get_securebits(t: Task, a: int, b: int, c: int, d: int) -> int:
    return t.creds.securebits


def set_securebits(t: Task, a: int, b: int, c: int, d: int) -> int:
    old = t.creds.securebits
    locked = (old & SECBITS_ALL_LOCKS) >> 1
    if (
        a & ~SECBITS_MASK
        or locked & (old ^ a)
        or old & SECBITS_ALL_LOCKS & ~a
        or not t.creds.has(CAP.CAP_SETPCAP)
    ):
        raise Errno(E.EPERM)
    new = t.creds.copy()
    new.securebits = a
    t.creds = new
    return 0


def set_no_new_privs(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a != 1:
        raise Errno(E.EINVAL)
    zero(b, c, d)
    if not t.creds.no_new_privs:
        new = t.creds.copy()
        new.no_new_privs = True
        t.creds = new
    return 0


def get_no_new_privs(t: Task, a: int, b: int, c: int, d: int) -> int:
    zero(a, b, c, d)
    return 1 if t.creds.no_new_privs else 0


def set_subreaper(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.tg.subreaper = a != 0
    return 0


def get_subreaper(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.mm.write(a, (1 if t.tg.subreaper else 0).to_bytes(4, "little"))
    return 0


def capbset_read(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a > CAP.CAP_LAST_CAP:
        raise Errno(E.EINVAL)
    return t.creds.bounding >> a & 1


def capbset_drop(t: Task, a: int, b: int, c: int, d: int) -> int:
    if not t.creds.has(CAP.CAP_SETPCAP):
        raise Errno(E.EPERM)
    if a > CAP.CAP_LAST_CAP:
        raise Errno(E.EINVAL)
    new = t.creds.copy()
    new.bounding &= ~(1 << a)
    t.creds = new
    return 0


def cap_ambient(t: Task, a: int, b: int, c: int, d: int) -> int:
    zero(c, d)
    old = t.creds
    if a == PR.PR_CAP_AMBIENT_CLEAR_ALL:
        zero(b)
        new = old.copy()
        new.ambient = 0
        t.creds = new
        return 0
    if b > CAP.CAP_LAST_CAP:
        raise Errno(E.EINVAL)
    bit = 1 << b
    if a == PR.PR_CAP_AMBIENT_IS_SET:
        return 1 if old.ambient & bit else 0
    if a == PR.PR_CAP_AMBIENT_RAISE:
        if not old.permitted & old.inheritable & bit or old.securebits & SECBIT_NO_CAP_AMBIENT_RAISE:
            raise Errno(E.EPERM)
        new = old.copy()
        new.ambient |= bit
    elif a == PR.PR_CAP_AMBIENT_LOWER:
        new = old.copy()
        new.ambient &= ~bit
    else:
        raise Errno(E.EINVAL)
    t.creds = new
    return 0


def set_timerslack(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.timer_slack = a if 0 < a < 1 << 63 else t.default_timer_slack
    return 0


def get_timerslack(t: Task, a: int, b: int, c: int, d: int) -> int:
    return t.timer_slack


def get_seccomp(t: Task, a: int, b: int, c: int, d: int) -> int:
    return filters.mode(t)


def set_seccomp(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a == SC.SECCOMP_MODE_STRICT:
        filters.strict(t)
        return 0
    if a == SC.SECCOMP_MODE_FILTER:
        return process.set_filter(t, 0, b)
    raise Errno(E.EINVAL)


def get_tid_address(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.mm.write(a, t.clear_child_tid.to_bytes(8, "little"))
    return 0


def set_vma(t: Task, a: int, b: int, c: int, d: int) -> int:
    """PR_SET_VMA_ANON_NAME needs a kernel with CONFIG_ANON_VMA_NAME: this one says EINVAL like one without."""
    raise Errno(E.EINVAL)


def get_thp_disable(t: Task, a: int, b: int, c: int, d: int) -> int:
    zero(a, b, c, d)
    return 1 if t.mm.thp_disabled else 0


def set_thp_disable(t: Task, a: int, b: int, c: int, d: int) -> int:
    zero(b, c, d)
    t.mm.thp_disabled = a != 0
    return 0


def get_tsc(t: Task, a: int, b: int, c: int, d: int) -> int:
    t.mm.write(a, PR.PR_TSC_ENABLE.to_bytes(4, "little"))
    return 0


def set_tsc(t: Task, a: int, b: int, c: int, d: int) -> int:
    if a != PR.PR_TSC_ENABLE:  # rdtsc can't be made to fault here
        raise Errno(E.EINVAL)
    return 0


OPTIONS: Final[dict[int, Callable[[Task, int, int, int, int], int]]] = {
    PR.PR_SET_NAME: set_name,
    PR.PR_GET_NAME: get_name,
    PR.PR_SET_PDEATHSIG: set_pdeathsig,
    PR.PR_GET_PDEATHSIG: get_pdeathsig,
    PR.PR_GET_DUMPABLE: get_dumpable,
    PR.PR_SET_DUMPABLE: set_dumpable,
    PR.PR_GET_KEEPCAPS: get_keepcaps,
    PR.PR_SET_KEEPCAPS: set_keepcaps,
    PR.PR_GET_SECUREBITS: get_securebits,
    PR.PR_SET_SECUREBITS: set_securebits,
    PR.PR_SET_NO_NEW_PRIVS: set_no_new_privs,
    PR.PR_GET_NO_NEW_PRIVS: get_no_new_privs,
    PR.PR_SET_CHILD_SUBREAPER: set_subreaper,
    PR.PR_GET_CHILD_SUBREAPER: get_subreaper,
    PR.PR_CAPBSET_READ: capbset_read,
    PR.PR_CAPBSET_DROP: capbset_drop,
    PR.PR_CAP_AMBIENT: cap_ambient,
    PR.PR_SET_TIMERSLACK: set_timerslack,
    PR.PR_GET_TIMERSLACK: get_timerslack,
    PR.PR_GET_SECCOMP: get_seccomp,
    PR.PR_SET_SECCOMP: set_seccomp,
    PR.PR_GET_TID_ADDRESS: get_tid_address,
    PR.PR_SET_VMA: set_vma,
    PR.PR_GET_THP_DISABLE: get_thp_disable,
    PR.PR_SET_THP_DISABLE: set_thp_disable,
    PR.PR_GET_TSC: get_tsc,
    PR.PR_SET_TSC: set_tsc,
}


def prctl(t: Task, option: int, a: int, b: int, c: int, d: int) -> int:
    """prctl(2). Options that are not in OPTIONS are EINVAL, as on kernels that lack them."""
    handler = OPTIONS.get(option)
    if handler is None:
        raise Errno(E.EINVAL)
    return handler(t, a, b, c, d)


def arch_prctl(t: Task, code: int, addr: int) -> int:
    """arch_prctl(2). CPUID faulting is not there."""
    regs = t.regs
    if code == PR.ARCH_SET_FS or code == PR.ARCH_SET_GS:
        if addr >= USER_ADDRESS_END:
            raise Errno(E.EPERM)
        if code == PR.ARCH_SET_FS:
            regs.fs_base = addr
        else:
            regs.gs_base = addr
        return 0
    if code == PR.ARCH_GET_FS:
        t.mm.write(addr, int(regs.fs_base).to_bytes(8, "little"))
        return 0
    if code == PR.ARCH_GET_GS:
        t.mm.write(addr, int(regs.gs_base).to_bytes(8, "little"))
        return 0
    if code == PR.ARCH_GET_CPUID:
        return 1
    if code == PR.ARCH_SET_CPUID:
        if addr:
            return 0
        raise Errno(E.ENODEV)
    raise Errno(E.EINVAL)


def personality(t: Task, persona: int) -> int:
    """personality(2). Kept and inherited; exec obeys ADDR_NO_RANDOMIZE, uname UNAME26 and PER_LINUX32."""
    old = t.tg.personality
    if persona != M32:
        t.tg.personality = persona
    return old
