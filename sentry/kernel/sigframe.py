"""Signal frames of x86-64: what a handler finds on its stack, and rt_sigreturn(2).

Layout (arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, asm-generic/siginfo.h), from low addresses up:

      0  return address (the restorer)
      8  struct ucontext: flags 8, link 8, stack 24, sigcontext 256, sigmask 8
    312  siginfo, 128
    440  end; above it, 64-byte aligned, the XSAVE image and FP_XSTATE_MAGIC2

The frame is the guest's: what rt_sigreturn finds there is hostile and goes through cn_regs_sanitize and cn_task_set_xstate.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.kernel import signals
from sentry.kernel.signals import Action, SigInfo

if TYPE_CHECKING:
    from sentry.kernel.task import Task

RED_ZONE: Final = 128
FRAME_SIZE: Final = 440
UC: Final = 8
SIGINFO: Final = 312
XSTATE_ALIGN: Final = 64
LEGACY_SIZE: Final = 512
SW_RESERVED: Final = 464  # in the legacy area: struct _fpx_sw_bytes
U64: Final = 0xFFFFFFFFFFFFFFFF
EFLAGS_TF_DF_RF: Final = 0x100 | 0x400 | 0x10000
USER_CS: Final = 0x33
USER_SS: Final = 0x2B

STACK: Final = struct.Struct("<QIIQ")
SW_BYTES: Final = struct.Struct("<IIQI")
MAGIC2: Final = struct.Struct("<I")
# return address; flags, link, stack_t; r8-r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags; cs gs fs ss; err trapno oldmask cr2;
# fpstate; 8 reserved words; sigmask
HEAD: Final = struct.Struct("<Q QQ QIIQ 18Q 4H 4Q Q 64x Q")
UCONTEXT: Final = struct.Struct("<QQ QIIQ 18Q 4H 4Q Q 64x Q")


def on_altstack(t: Task, sp: int) -> bool:
    """Does the thread run on its alternate stack? Never, as far as it goes, while SS_AUTODISARM is set."""
    if t.altstack_flags & SIG.SS_AUTODISARM or t.altstack_size == 0:
        return False
    return t.altstack_sp < sp <= t.altstack_sp + t.altstack_size


def altstack_state(t: Task, sp: int) -> int:
    """ss_flags as sigaltstack(2) reports them."""
    if t.altstack_size == 0:
        return int(SIG.SS_DISABLE)
    return (SIG.SS_ONSTACK if on_altstack(t, sp) else 0) | (t.altstack_flags & SIG.SS_AUTODISARM)


def minimum_size() -> int:
    """AT_MINSIGSTKSZ: the frame, the extended state, their alignment and the red zone."""
    size = FRAME_SIZE + lib.cn_xstate_size() + SIG.FP_XSTATE_MAGIC2_SIZE + XSTATE_ALIGN + 16
    return (size + 15) & ~15


def push(t: Task, info: SigInfo, action: Action, saved_mask: int) -> bool:
    """Writes a frame and makes the registers enter the handler; False when the stack can't take it (then nothing changed)."""
    if not action.flags & SIG.SA_RESTORER:
        return False
    regs = t.regs
    old_sp: int = regs.rsp
    sp = old_sp - RED_ZONE
    entered_alt = False
    was_on_alt = on_altstack(t, old_sp)
    if action.flags & SIG.SA_ONSTACK and t.altstack_size and not was_on_alt:
        sp = t.altstack_sp + t.altstack_size
        entered_alt = True
    size: int = lib.cn_xstate_size()
    fp = (sp - size - SIG.FP_XSTATE_MAGIC2_SIZE) & ~(XSTATE_ALIGN - 1)
    frame = ((fp - FRAME_SIZE) & ~15) - 8
    if frame < 0 or frame > 0x7FFFFFFFFFFF:
        return False
    if (entered_alt or (was_on_alt and action.flags & SIG.SA_ONSTACK)) and frame <= t.altstack_sp:
        return False
    image = ffi.new("unsigned char[]", size)
    if lib.cn_task_get_xstate(t.native, image, size) < 0:
        return False
    area = ffi.buffer(image)
    area[SW_RESERVED : SW_RESERVED + 20] = SW_BYTES.pack(
        SIG.FP_XSTATE_MAGIC1, size + SIG.FP_XSTATE_MAGIC2_SIZE, lib.cn_xstate_features(), size
    )
    area[SW_RESERVED + 20 : LEGACY_SIZE] = bytes(LEGACY_SIZE - SW_RESERVED - 20)
    flags = SIG.UC_FP_XSTATE | SIG.UC_SIGCONTEXT_SS | SIG.UC_STRICT_RESTORE_SS
    head = HEAD.pack(
        action.restorer,
        flags,
        0,
        t.altstack_sp,
        t.altstack_flags & 0xFFFFFFFF,
        0,
        t.altstack_size,
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        old_sp,
        regs.rip,
        regs.eflags,
        USER_CS,
        0,
        0,
        USER_SS,
        t.fault_err,
        t.fault_trapno,
        saved_mask & U64,
        t.fault_addr,
        fp,
        saved_mask & U64,
    )
    try:
        t.mm.write(fp, area[:] + MAGIC2.pack(SIG.FP_XSTATE_MAGIC2))
        t.mm.write(frame, head + info.pack())
    except Errno:
        return False
    lib.cn_task_reset_xstate(t.native)
    regs.rdi = info.signo
    regs.rsi = frame + SIGINFO
    regs.rdx = frame + UC
    regs.rax = 0
    regs.rip = action.handler
    regs.rsp = frame
    regs.eflags &= ~EFLAGS_TF_DF_RF & U64
    regs.cs = USER_CS
    regs.ss = USER_SS
    lib.cn_regs_sanitize(regs)
    if t.altstack_flags & SIG.SS_AUTODISARM:
        t.altstack_sp = 0
        t.altstack_size = 0
        t.altstack_flags = SIG.SS_DISABLE
    return True


def pop(t: Task) -> None:
    """rt_sigreturn(2): registers, mask, alternate stack and extended state from the frame; SIGSEGV when it is not one."""
    regs = t.regs
    try:
        restore(t, regs.rsp)
    except Errno:
        regs.orig_rax = U64
        signals.force_segv(t, 0)


def restore(t: Task, sp: int) -> None:
    """Raises Errno when the frame is bad; registers are unchanged then."""
    data = t.mm.read((sp - 8 + UC) & U64, UCONTEXT.size)
    f = UCONTEXT.unpack(data)
    fp: int = f[32]
    if fp == 0:
        lib.cn_task_reset_xstate(t.native)
    else:
        restore_xstate(t, fp)
    regs = t.regs
    (
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.eflags,
    ) = f[6:24]
    regs.orig_rax = U64
    lib.cn_regs_sanitize(regs)
    signals.set_mask(t, f[33])
    set_altstack(t, f[2], f[3], f[5], regs.rsp, True)


def restore_xstate(t: Task, fp: int) -> None:
    """The extended state of a frame: the whole XSAVE image if the magic numbers say that there is one, else the legacy part."""
    legacy = t.mm.read(fp, LEGACY_SIZE)
    magic1, extended, features, size = SW_BYTES.unpack_from(legacy, SW_RESERVED)
    data = legacy
    full: int = lib.cn_xstate_size()
    if magic1 == SIG.FP_XSTATE_MAGIC1 and LEGACY_SIZE + 64 <= size <= full and extended >= size:
        tail = t.mm.read(fp + LEGACY_SIZE, size - LEGACY_SIZE + SIG.FP_XSTATE_MAGIC2_SIZE)
        if MAGIC2.unpack_from(tail, size - LEGACY_SIZE)[0] == SIG.FP_XSTATE_MAGIC2:
            image = legacy + tail[: size - LEGACY_SIZE]
            header = int.from_bytes(image[512:520], "little") & features & lib.cn_xstate_features()
            data = (image[:512] + header.to_bytes(8, "little") + image[520:]).ljust(full, b"\0")
    rc = lib.cn_task_set_xstate(t.native, data, len(data))
    if rc < 0:
        raise Errno(-rc)


def set_altstack(t: Task, sp: int, flags: int, size: int, current_sp: int, quiet: bool) -> int:
    """sigaltstack(2); 0 or an errno. `quiet`: rt_sigreturn, which ignores what can't be done."""
    if on_altstack(t, current_sp):
        return 0 if quiet else E.EPERM
    mode = flags & ~SIG.SS_AUTODISARM
    if mode not in (0, SIG.SS_ONSTACK, SIG.SS_DISABLE):
        return 0 if quiet else E.EINVAL
    if mode == SIG.SS_DISABLE:
        t.altstack_sp = 0
        t.altstack_size = 0
    else:
        if size < SIG.MINSIGSTKSZ:
            return 0 if quiet else E.ENOMEM
        t.altstack_sp = sp
        t.altstack_size = size
    t.altstack_flags = flags
    return 0
