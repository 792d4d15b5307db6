"""A host thread's loop around one guest thread: into the guest, out with a reason, handle it, look at signals, again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import ptrace as PT
from sentry.abi import signal as SIG
from sentry.errors import NO_RESULT, SandboxError, trace
from sentry.kernel import deliver, signals, tracing
from sentry.kernel import exit as exiting
from sentry.kernel.deliver import TaskExit
from sentry.kernel.signals import SigInfo
from sentry.kernel.task import RUN, SYSCALL
from sentry.mm import memfile
from sentry.strace import profiling
from sentry.syscalls import dispatch
from sentry.vfs.file import end_closed

if TYPE_CHECKING:
    from sentry.kernel.task import Task

STOP_SYSCALL: Final = 1
STOP_FAULT: Final = 2
STOP_EXCEPTION: Final = 3
STOP_INTERRUPTED: Final = 4
STOP_DIED: Final = 5
CALL: Final = 16  # and above: CN_CALL + number
ENDED: Final = 65536  # CN_ENDED: more than that
M64: Final = 0xFFFFFFFFFFFFFFFF


def run_task(t: Task) -> None:
    """Runs a guest thread to its end. Called and returns with K held."""
    try:
        try:
            profiling.name(t)
            loop(t)
        except TaskExit:
            tracing.event(t, PT.PTRACE_EVENT_EXIT, PT.PTRACE_O_TRACEEXIT, exiting.status_of(t), True)
        exiting.end_task(t)
    except SandboxError as e:  # such as a gofer that has failed
        t.kernel.fail(str(e))
    except BaseException as bug:
        broken(t, bug)


def broken(t: Task, e: BaseException) -> None:
    """An exception that no handler meant to raise: a bug in the sentry. The sandbox can't go on."""
    what = "exit" if t.syscall_nr < 0 else dispatch.describe(t)
    name = t.comm.decode("utf-8", "replace")
    sys.stderr.write(f"cordon: bug in the sentry, task {t.tid} ({name}), in {what}: {trace(e)}\n")
    sys.stderr.flush()
    t.kernel.fail(f"internal error in the sentry: {what}: {type(e).__name__}: {e}")


def loop(t: Task) -> None:
    native = t.native
    go = lib.cn_task_go
    result = NO_RESULT  # of the last call, while the registers do not have it
    while True:
        if t.work:
            deliver.work(t)
        reason: int = go(native, result != NO_RESULT, result)
        if reason >= ENDED:
            end_closed()
            reason -= ENDED
            if reason == 0:
                continue
        result = NO_RESULT
        if reason >= CALL or reason == STOP_SYSCALL:
            t.state = SYSCALL
            result = dispatch.syscall(t, reason - CALL)
            t.state = RUN
            if t.work or t.restart or t.saved_sigmask >= 0:
                if result != NO_RESULT:
                    t.regs.rax = result & M64
                    result = NO_RESULT
                deliver.work(t)
        elif reason == STOP_INTERRUPTED:
            deliver.work(t)
        elif reason in (STOP_FAULT, STOP_EXCEPTION):
            fault(t)
            deliver.work(t)
        else:
            stuck(t, reason)


def stuck(t: Task, reason: int) -> None:
    """The guest can't go on: --memory is used up, so the sandbox ends; or the stub died or the host (`reason`: -errno) has no
    process for it or no memory for its mappings, so the guest's process does."""
    if memfile.denied():
        t.container.out_of_memory()
    else:
        if reason < 0:
            t.container.exceeded.add("host")
        if t.kernel.log is not None:
            t.kernel.log(f"task {t.tid}: its stub {'died' if reason == STOP_DIED else f'cannot run: errno {-reason}'}")
        exiting.kill_group(t.tg, SIG.SIGKILL)


def fault(t: Task) -> None:
    """A synchronous exception of guest code becomes a forced signal."""
    stop = t.native.stop
    info = SigInfo(stop.signo, stop.code)
    info.addr = stop.addr
    t.signals.fault_addr = stop.addr
    t.signals.fault_trapno = stop.trapno
    t.signals.fault_err = stop.err
    t.regs.orig_rax = 0xFFFFFFFFFFFFFFFF
    signals.force(t, info)
