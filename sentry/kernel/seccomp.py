"""seccomp(2) for guests: classic BPF filters over their own syscalls, interpreted here and enforced at the border."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import seccomp as SC
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.kernel import exit as exiting
from sentry.kernel import signals

if TYPE_CHECKING:
    from sentry.kernel.task import Task

AUDIT_ARCH_X86_64: Final = 0xC000003E
MAX_INSNS: Final = 4096
MAX_PATH: Final = 32768  # instructions in a chain of filters
PENALTY: Final = 4  # for each filter of a chain
DATA: Final = struct.Struct("<iIQ6Q")
DATA_SIZE: Final = 64
INSN: Final = struct.Struct("<HBBI")
M32: Final = 0xFFFFFFFF
M64: Final = 0xFFFFFFFFFFFFFFFF
MEMWORDS: Final = 16

# Instruction classes and fields (linux/bpf_common.h).
LD: Final = 0x00
LDX: Final = 0x01
ST: Final = 0x02
STX: Final = 0x03
ALU: Final = 0x04
JMP: Final = 0x05
RET: Final = 0x06
MISC: Final = 0x07
SRC_X: Final = 0x08

ALLOWED: Final = frozenset(
    {
        0x20,  # ld [k]
        0x80,  # ld len
        0x81,  # ldx len
        0x00,  # ld #k
        0x01,  # ldx #k
        0x60,  # ld M[k]
        0x61,  # ldx M[k]
        0x02,  # st
        0x03,  # stx
        0x06,  # ret #k
        0x16,  # ret a
        0x07,  # tax
        0x87,  # txa
        0x05,  # ja
        0x84,  # neg
        *(
            0x04 | op | src for op in range(0, 0x80, 0x10) for src in (0, SRC_X)
        ),  # add sub mul div or and lsh rsh
        0xA4,  # xor
        0xAC,
        *(0x05 | op | src for op in (0x10, 0x20, 0x30, 0x40) for src in (0, SRC_X)),  # jeq jgt jge jset
    }
)
# What the filters of a chain say: the one with the least of these wins (seccomp(2), signed 32-bit).
ACTION_FULL: Final = 0xFFFF0000
ACTION_DATA: Final = 0x0000FFFF


class Filter:
    """One attached program; `below` is the one attached before."""

    def __init__(self, code: list[tuple[int, int, int, int]], below: Filter | None) -> None:
        self.code: list[tuple[int, int, int, int]] = code
        self.below: Filter | None = below
        self.strict: bool = False  # SECCOMP_MODE_STRICT

    def verdict(self, number: int, args: list[int], data: bytes) -> int:
        """What it says to a call; `data` is its struct seccomp_data."""
        return execute(self.code, data)


def check(program: bytes) -> list[tuple[int, int, int, int]]:
    """A guest's program, verified: known instructions, loads inside seccomp_data, jumps forward and inside, ends in a return. EINVAL."""
    code: list[tuple[int, int, int, int]] = [(op, jt, jf, k) for op, jt, jf, k in INSN.iter_unpack(program)]
    n = len(code)
    if not 1 <= n <= MAX_INSNS or code[-1][0] not in (0x06, 0x16):
        raise Errno(E.EINVAL)
    for pc, (op, jt, jf, k) in enumerate(code):
        if op not in ALLOWED:
            raise Errno(E.EINVAL)
        if op == 0x20 and (k & 3 or k >= DATA_SIZE):
            raise Errno(E.EINVAL)
        if op in (0x60, 0x61, 0x02, 0x03) and k >= MEMWORDS:
            raise Errno(E.EINVAL)
        if op == 0x34 and k == 0:
            raise Errno(E.EINVAL)
        if op in (0x64, 0x74) and k >= 32:
            raise Errno(E.EINVAL)
        if op == 0x05:
            if pc + 1 + k >= n:
                raise Errno(E.EINVAL)
        elif op & 7 == JMP and (pc + 1 + jt >= n or pc + 1 + jf >= n):
            raise Errno(E.EINVAL)
    return code


def execute(code: list[tuple[int, int, int, int]], data: bytes) -> int:
    """The 32-bit verdict of a verified program on a struct seccomp_data."""
    a = 0
    x = 0
    mem = [0] * MEMWORDS
    pc = 0
    while True:
        op, jt, jf, k = code[pc]
        pc += 1
        kind = op & 7
        if op == 0x20:
            a = int.from_bytes(data[k : k + 4], "little")
        elif kind == JMP:
            if op == 0x05:
                pc += k
                continue
            v = x if op & SRC_X else k
            test = op & 0xF0
            if test == 0x10:
                yes = a == v
            elif test == 0x20:
                yes = a > v
            elif test == 0x30:
                yes = a >= v
            else:
                yes = bool(a & v)
            pc += jt if yes else jf
        elif kind == RET:
            return a if op == 0x16 else k
        elif kind == ALU:
            v = x if op & SRC_X else k
            alu = op & 0xF0
            if alu == 0x00:
                a = a + v & M32
            elif alu == 0x10:
                a = a - v & M32
            elif alu == 0x20:
                a = a * v & M32
            elif alu == 0x30:
                if v == 0:
                    return 0
                a //= v
            elif alu == 0x40:
                a |= v
            elif alu == 0x50:
                a &= v
            elif alu == 0x60:
                a = a << (v & 31) & M32
            elif alu == 0x70:
                a >>= v & 31
            elif alu == 0xA0:
                a ^= v
            else:
                a = -a & M32
        elif op == 0x00:
            a = k
        elif op == 0x01:
            x = k
        elif op == 0x80:
            a = DATA_SIZE
        elif op == 0x81:
            x = DATA_SIZE
        elif op == 0x60:
            a = mem[k]
        elif op == 0x61:
            x = mem[k]
        elif op == 0x02:
            mem[k] = a
        elif op == 0x03:
            mem[k] = x
        elif op == 0x07:
            x = a
        else:
            a = x


def rank(verdict: int) -> int:
    """Order of actions: the smallest wins (the upper 16 bits as a signed number)."""
    action = verdict & ACTION_FULL
    return action - (1 << 32) if action & 0x80000000 else action


def allows(t: Task) -> bool:
    """May the call in t's registers go on? If not, what the filter said has been done."""
    f = t.seccomp
    assert f is not None
    regs = t.regs
    if f.strict:
        if regs.orig_rax in (0, 1, 60, 15):
            return True
        exiting.kill_group(t.tg, SIG.SIGKILL)
        return False
    nr: int = regs.orig_rax & M32
    args: list[int] = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
    data = DATA.pack(nr - (1 << 32) if nr & 0x80000000 else nr, AUDIT_ARCH_X86_64, regs.rip, *args)
    verdict = SC.SECCOMP_RET_ALLOW
    while f is not None:
        v = f.verdict(nr, args, data)
        if rank(v) < rank(verdict):
            verdict = v
        f = f.below
    return act(t, verdict)


def act(t: Task, verdict: int) -> bool:
    """Carries a verdict out; True when the call goes on."""
    action = verdict & ACTION_FULL
    regs = t.regs
    if action in (SC.SECCOMP_RET_ALLOW, SC.SECCOMP_RET_LOG):
        return True
    if action == SC.SECCOMP_RET_ERRNO:
        regs.rax = -min(verdict & ACTION_DATA, 4095) & 0xFFFFFFFFFFFFFFFF
        return False
    if action == SC.SECCOMP_RET_TRAP:
        regs.rax = regs.orig_rax
        signals.force(t, sigsys(t, verdict & ACTION_DATA))
        return False
    if action in (SC.SECCOMP_RET_TRACE, SC.SECCOMP_RET_USER_NOTIF):
        regs.rax = -E.ENOSYS & 0xFFFFFFFFFFFFFFFF
        return False
    if action == SC.SECCOMP_RET_KILL_THREAD and len(t.tg.tasks) > 1:
        t.exit_status = SIG.SIGSYS
        exiting.kill_task(t)
        return False
    exiting.kill_group(t.tg, SIG.SIGSYS)
    return False


def sigsys(t: Task, errno: int) -> signals.SigInfo:
    """SIGSYS as SECCOMP_RET_TRAP raises it."""
    info = signals.SigInfo(SIG.SIGSYS, SIG.SYS_SECCOMP)
    info.errno = errno
    info.addr = t.regs.rip
    nr: int = t.regs.orig_rax & M32
    info.fd = nr - (1 << 32) if nr & 0x80000000 else nr
    info.arch = AUDIT_ARCH_X86_64
    return info


def attach(t: Task, program: bytes, flags: int) -> None:
    """SECCOMP_SET_MODE_FILTER: the filter is in force from the next call on; children and programs inherit it."""
    from sentry.abi import capability as CAP

    known = SC.SECCOMP_FILTER_FLAG_TSYNC | SC.SECCOMP_FILTER_FLAG_LOG | SC.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    if flags & ~(known | SC.SECCOMP_FILTER_FLAG_TSYNC_ESRCH):
        raise Errno(E.EINVAL)
    code = check(program)
    if not t.creds.no_new_privs and not t.creds.has(CAP.CAP_SYS_ADMIN):
        raise Errno(E.EACCES)
    if t.seccomp is not None and t.seccomp.strict:
        raise Errno(E.EINVAL)
    total = len(code)
    f = t.seccomp
    while f is not None:
        total += len(f.code) + PENALTY
        f = f.below
    if total > MAX_PATH:
        raise Errno(E.ENOMEM)
    new = Filter(code, t.seccomp)
    if flags & SC.SECCOMP_FILTER_FLAG_TSYNC:
        for other in t.tg.tasks:
            if not descends(t.seccomp, other.seccomp):
                raise Errno(E.ESRCH)
        for other in t.tg.tasks:
            if t.creds.no_new_privs and not other.creds.no_new_privs:
                other.creds = other.creds.copy()
                other.creds.no_new_privs = True
            install(other, new)
    install(t, new)


def descends(newest: Filter | None, below: Filter | None) -> bool:
    """Is `below` in the chain that ends in `newest`?"""
    f = newest
    while f is not below:
        if f is None:
            return False
        f = f.below
    return True


def install(t: Task, f: Filter) -> None:
    t.seccomp = f
    lib.cn_task_set_slow(t.native, 1)  # every call of it comes to the border


def strict(t: Task) -> None:
    """SECCOMP_SET_MODE_STRICT: read, write, exit and sigreturn are all that is left."""
    if t.seccomp is not None and not t.seccomp.strict:
        raise Errno(E.EINVAL)
    f = Filter([], None)
    f.strict = True
    install(t, f)


def mode(t: Task) -> int:
    """prctl(PR_GET_SECCOMP)."""
    if t.seccomp is None:
        return 0
    return SC.SECCOMP_MODE_STRICT if t.seccomp.strict else SC.SECCOMP_MODE_FILTER
