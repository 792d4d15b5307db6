"""ptrace(2): the requests of a tracer. The stops they work on: sentry/kernel/tracing.py."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import elf as ELF
from sentry.abi import errno as E
from sentry.abi import ptrace as PT
from sentry.abi import seccomp as SC
from sentry.abi import signal as SIG
from sentry.errors import Errno
from sentry.kernel import signals, tracing
from sentry.kernel.signals import NSIG, SIGINFO_SIZE
from sentry.kernel.tracing import Tracing, Trap, XstateOrder
from sentry.syscalls.process import may_inspect

if TYPE_CHECKING:
    from sentry.kernel.task import Task

WORD: Final = 8
REGS_SIZE: Final = 27 * WORD  # struct user_regs_struct
USER_SIZE: Final = 912  # struct user
DEBUG_REGS: Final = 848  # offset of u_debugreg, to the end
FXSAVE_SIZE: Final = 512
XCR0: Final = 464  # where debuggers look for the layout of the rest (struct _fpx_sw_bytes)
OPTIONS: Final = PT.PTRACE_O_MASK & ~(PT.PTRACE_O_TRACESECCOMP | PT.PTRACE_O_SUSPEND_SECCOMP)
CALL_INFO: Final = struct.Struct("<B3xIQQ")
CALL_ENTRY: Final = struct.Struct("<7Q")
CALL_EXIT: Final = struct.Struct("<qB")
ERRORS: Final = 4095  # results from -4095 on are errors


def ptrace(t: Task, request: int, pid: int, addr: int, data: int) -> int:
    """ptrace(2). Not done: SYSEMU, seccomp stops and filters, hardware breakpoints, PEEKSIGINFO."""
    if request == PT.PTRACE_TRACEME:
        return trace_me(t)
    task = t.pidns.tasks.get(pid) if 0 < pid < 1 << 31 else None
    if task is None:
        raise Errno(E.ESRCH)
    if request in (PT.PTRACE_ATTACH, PT.PTRACE_SEIZE):
        return attach(t, task, request == PT.PTRACE_SEIZE, addr, data)
    tr = task.tracing
    if tr is None or tr.tracer is not t or not task.alive:
        raise Errno(E.ESRCH)
    if request == PT.PTRACE_KILL:
        signals.send_to_group(task.tg, signals.user_info(t, SIG.SIGKILL))
        return 0
    if request == PT.PTRACE_INTERRUPT:
        return interrupt(task, tr)
    trap = tr.trap
    if trap is None or tr.listening:
        raise Errno(E.ESRCH)
    handler = REQUESTS.get(request)
    if handler is None:
        raise Errno(E.EIO)
    return handler(t, task, tr, trap, addr, data)


# Attaching


def trace_me(t: Task) -> int:
    tracer = t.tg.parent_task
    if t.tracing is not None or tracer is None or not tracer.alive:
        raise Errno(E.EPERM)
    may_inspect(tracer, t)
    tracing.begin(t, tracer, 0, False)
    return 0


def attach(t: Task, task: Task, seize: bool, addr: int, options: int) -> int:
    if seize and (addr or options & ~OPTIONS):
        raise Errno(E.EIO)
    if task.tg is t.tg or task.tracing is not None or not task.alive or task.tg.exiting:
        raise Errno(E.EPERM)
    may_inspect(t, task)
    tr = tracing.begin(task, t, options if seize else 0, seize)
    if task.stopped:  # it changes over to a stop of its tracer's
        task.stopped = False
        tr.regroup = True
        task.interrupt()
    if not seize:
        signals.send_to_task(task, signals.kernel_info(SIG.SIGSTOP))
    return 0


def interrupt(task: Task, tr: Tracing) -> int:
    if not tr.seized:
        raise Errno(E.EIO)
    if tr.listening:
        tracing.retrap(task, tr)
    else:
        tr.interrupt = True
        if tr.trap is None:
            task.interrupt()
    return 0


# Going on


def valid(sig: int) -> int:
    if sig > NSIG:
        raise Errno(E.EIO)
    return sig


def go_on(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    tracing.resume(task, tr, PT.PTRACE_CONT, valid(data))
    return 0


def to_syscall(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    tracing.resume(task, tr, PT.PTRACE_SYSCALL, valid(data))
    return 0


def step(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    tracing.resume(task, tr, PT.PTRACE_SINGLESTEP, valid(data))
    return 0


def detach(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    tracing.end(task, tr, valid(data))
    return 0


def listen(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if not tr.seized or trap.code >> 8 != PT.PTRACE_EVENT_STOP:
        raise Errno(E.EIO)
    tr.listening = True
    if not task.tg.stop_signal:  # it was continued meanwhile
        tracing.retrap(task, tr)
    return 0


# Memory


def peek(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    t.mm.write(data, task_bytes(task, addr))
    return 0


def task_bytes(task: Task, addr: int) -> bytes:
    try:
        return task.mm.force_read(addr, WORD)
    except Errno:
        raise Errno(E.EIO) from None


def poke(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    try:
        task.mm.force_write(addr, data.to_bytes(WORD, "little"))
    except Errno:
        raise Errno(E.EIO) from None
    return 0


# Registers


def general(task: Task) -> bytes:
    return bytes(ffi.buffer(task.regs, REGS_SIZE))


def set_general(task: Task, image: bytes) -> None:
    """The tracer's registers, as far as a guest may have them."""
    ffi.memmove(task.regs, image, len(image))
    lib.cn_regs_sanitize(task.regs)


def peek_user(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if addr % WORD or addr > USER_SIZE - WORD:
        raise Errno(E.EIO)
    t.mm.write(data, general(task)[addr : addr + WORD].ljust(WORD, b"\0"))
    return 0


def poke_user(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if addr % WORD or addr > USER_SIZE - WORD:
        raise Errno(E.EIO)
    if addr < REGS_SIZE:
        image = general(task)
        set_general(task, image[:addr] + data.to_bytes(WORD, "little") + image[addr + WORD :])
    elif addr >= DEBUG_REGS and data:  # there are none
        raise Errno(E.ENOSPC)
    return 0


def get_regs(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    t.mm.write(data, general(task))
    return 0


def set_regs(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    set_general(task, t.mm.read(data, REGS_SIZE))
    return 0


def xstate(t: Task, task: Task, tr: Tracing, trap: Trap, data: bytes | None) -> bytes:
    """The extended registers of a stopped thread, after changing them to `data`."""
    order = XstateOrder(data)
    tr.order = order
    task.wake()
    while not order.done and tracing.held(task, tr, trap) and task.alive:
        t.block()
        if t.work:
            lib.cn_task_clear_interrupt(t.native)  # looked at later: t.work stays
    if not order.done:
        raise Errno(E.ESRCH)
    if order.errno:
        raise Errno(order.errno)
    return order.image


def get_fpregs(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    t.mm.write(data, xstate(t, task, tr, trap, None)[:FXSAVE_SIZE])
    return 0


def set_fpregs(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    xstate(t, task, tr, trap, t.mm.read(data, FXSAVE_SIZE))
    return 0


def get_regset(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    base, length = struct.unpack("<QQ", t.mm.read(data, 16))
    if addr == ELF.NT_PRSTATUS:
        image = general(task)
    elif addr == ELF.NT_PRFPREG:
        image = xstate(t, task, tr, trap, None)[:FXSAVE_SIZE]
    elif addr == ELF.NT_X86_XSTATE:
        image = xstate(t, task, tr, trap, None)
        image = image[:XCR0] + int(lib.cn_xstate_features()).to_bytes(WORD, "little") + image[XCR0 + WORD :]
    else:
        raise Errno(E.EINVAL)
    length = min(length, len(image))
    t.mm.write(base, image[:length])
    t.mm.write(data + 8, length.to_bytes(8, "little"))
    return 0


def set_regset(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    base, length = struct.unpack("<QQ", t.mm.read(data, 16))
    if addr == ELF.NT_PRSTATUS:
        length = min(length, REGS_SIZE)
        if length % WORD:
            raise Errno(E.EINVAL)
        set_general(task, t.mm.read(base, length))
    elif addr in (ELF.NT_PRFPREG, ELF.NT_X86_XSTATE):
        size = FXSAVE_SIZE if addr == ELF.NT_PRFPREG else int(lib.cn_xstate_size())
        length = min(length, size)
        if length != size:
            raise Errno(E.EFAULT)
        xstate(t, task, tr, trap, t.mm.read(base, length))
    else:
        raise Errno(E.EINVAL)
    t.mm.write(data + 8, length.to_bytes(8, "little"))
    return 0


# What is known of the stop


def set_options(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if data & ~OPTIONS:
        raise Errno(E.EINVAL)
    tr.options = data
    return 0


def event_message(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    t.mm.write(data, tr.message.to_bytes(8, "little"))
    return 0


def get_siginfo(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if trap.info is None:
        raise Errno(E.EINVAL)
    t.mm.write(data, trap.info.pack())
    return 0


def set_siginfo(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if trap.info is None:
        raise Errno(E.EINVAL)
    image = t.mm.read(data, SIGINFO_SIZE)
    trap.info = signals.from_guest(image, int.from_bytes(image[:4], "little", signed=True))
    return 0


def get_sigmask(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if addr != WORD:
        raise Errno(E.EINVAL)
    mask = task.saved_sigmask if task.saved_sigmask >= 0 else task.sigmask
    t.mm.write(data, mask.to_bytes(WORD, "little"))
    return 0


def set_sigmask(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    if addr != WORD:
        raise Errno(E.EINVAL)
    task.sigmask = int.from_bytes(t.mm.read(data, WORD), "little") & ~signals.UNBLOCKABLE
    return 0


def syscall_info(t: Task, task: Task, tr: Tracing, trap: Trap, addr: int, data: int) -> int:
    """The size of what there is to tell; `addr` bytes of it are written."""
    regs = task.regs
    image = CALL_INFO.pack(trap.call, SC.AUDIT_ARCH_X86_64, regs.rip, regs.rsp)
    if trap.call == tracing.ENTRY:
        image += CALL_ENTRY.pack(regs.orig_rax, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
    elif trap.call == tracing.EXIT:
        value = regs.rax - (1 << 64) if regs.rax >> 63 else regs.rax
        image += CALL_EXIT.pack(value, -ERRORS <= value < 0)
    t.mm.write(data, image[:addr])
    return len(image)


REQUESTS: Final[dict[int, Callable[[Task, Task, Tracing, Trap, int, int], int]]] = {
    PT.PTRACE_PEEKTEXT: peek,
    PT.PTRACE_PEEKDATA: peek,
    PT.PTRACE_PEEKUSR: peek_user,
    PT.PTRACE_POKETEXT: poke,
    PT.PTRACE_POKEDATA: poke,
    PT.PTRACE_POKEUSR: poke_user,
    PT.PTRACE_CONT: go_on,
    PT.PTRACE_SINGLESTEP: step,
    PT.PTRACE_GETREGS: get_regs,
    PT.PTRACE_SETREGS: set_regs,
    PT.PTRACE_GETFPREGS: get_fpregs,
    PT.PTRACE_SETFPREGS: set_fpregs,
    PT.PTRACE_DETACH: detach,
    PT.PTRACE_SYSCALL: to_syscall,
    PT.PTRACE_SETOPTIONS: set_options,
    PT.PTRACE_GETEVENTMSG: event_message,
    PT.PTRACE_GETSIGINFO: get_siginfo,
    PT.PTRACE_SETSIGINFO: set_siginfo,
    PT.PTRACE_GETREGSET: get_regset,
    PT.PTRACE_SETREGSET: set_regset,
    PT.PTRACE_LISTEN: listen,
    PT.PTRACE_GETSIGMASK: get_sigmask,
    PT.PTRACE_SETSIGMASK: set_sigmask,
    PT.PTRACE_GET_SYSCALL_INFO: syscall_info,
}
