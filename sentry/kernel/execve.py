"""Running a new program (execve(2)).

The new address space is built whole beside the old one, so every error up to the last step leaves the caller as it was; then the
other threads of the process are ended and the task changes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import mount as M
from sentry.abi import poll as P
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.exec import elf, script
from sentry.exec.load import Loaded, Program, load
from sentry.kernel import exec_creds, signals, tracing
from sentry.kernel import exit as exiting
from sentry.kernel.deliver import TaskExit
from sentry.kernel.wait import TaskWaiter
from sentry.strace import profiling
from sentry.vfs import access, opening, walk

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

ARG_MAX: Final = 131072  # granted whatever RLIMIT_STACK says
STRING_MAX: Final = 131072  # of one argument, with its NUL
ARGS_CEILING: Final = 6 << 20  # three quarters of the default stack
POINTER: Final = 8
COMM_LENGTH: Final = 15
MAX_POINTERS: Final = 512  # read at a time
PAGE: Final = 4096


class Arguments:
    """argv and envp while they are read and rewritten; E2BIG when they pass what RLIMIT_STACK allows."""

    def __init__(self, t: Task) -> None:
        self.t: Task = t
        self.argv: list[bytes] = []
        self.envp: list[bytes] = []
        stack = t.tg.limits.soft(R.RLIMIT_STACK)
        self.limit: int = max(min(ARGS_CEILING, stack // 4), ARG_MAX)
        self.size: int = 0

    def read(self, argv: int, envp: int) -> None:
        """From the guest's memory. EFAULT, E2BIG."""
        self.argv = self.strings(argv)
        self.envp = self.strings(envp)
        if not self.argv:
            self.argv = [b""]  # as Linux since 5.18

    def strings(self, addr: int) -> list[bytes]:
        out: list[bytes] = []
        if addr == 0:
            return out
        mm = self.t.mm
        while True:
            n = min(MAX_POINTERS * POINTER, PAGE - addr % PAGE)
            if n < POINTER:
                n = POINTER
            n -= n % POINTER
            data = mm.read(addr, n)
            addr += n
            for i in range(0, n, POINTER):
                p = int.from_bytes(data[i : i + POINTER], "little")
                if p == 0:
                    return out
                out.append(self.count(mm.read_string(p, STRING_MAX)))

    def count(self, s: bytes) -> bytes:
        self.size += len(s) + 1 + POINTER
        if self.size > self.limit:
            raise Errno(E.E2BIG)
        return s

    def check(self) -> None:
        """After the kernel put strings of its own in."""
        size = sum(len(s) + 1 + POINTER for s in self.argv) + sum(len(s) + 1 + POINTER for s in self.envp)
        if size > self.limit or any(len(s) >= STRING_MAX for s in self.argv):
            raise Errno(E.E2BIG)


def open_program(t: Task, dirfd: int, name: bytes, flags: int) -> File:
    """Opens what is to be executed or to interpret it; one reference. EACCES, ETXTBSY and what a walk raises."""
    walk_flags = walk.EMPTY if flags & F.AT_EMPTY_PATH else 0
    if not flags & F.AT_SYMLINK_NOFOLLOW:
        walk_flags |= walk.FOLLOW
    path = walk.finish(walk.walk_to_read(t, dirfd, name, walk_flags))
    return open_path(t, path)


def open_path(t: Task, path: Path) -> File:
    inode = path.inode
    kind = inode.mode & S.S_IFMT
    if kind == S.S_IFLNK:
        raise Errno(E.ELOOP)
    if kind != S.S_IFREG or path.mount.flags & M.MS_NOEXEC:
        raise Errno(E.EACCES)
    access.require(t.creds, inode, access.MAY_EXEC)
    if inode.writers > 0:
        raise Errno(E.ETXTBSY)
    file = opening.finish_open(t, path, inode, F.O_RDONLY)
    file.incref()
    return file


def read_at(t: Task, file: File, offset: int, count: int) -> bytes:
    """Up to count bytes of a file that does not block."""
    out = b""
    while len(out) < count:
        data = file.read(t, count - len(out), offset + len(out))
        if not data:
            break
        out += data
    return out


def read_image(t: Task, file: File, head: bytes, bad: int) -> Program:
    """The program in an ELF file; errno `bad` when it is not one."""
    try:
        offset, size = elf.table(head)
        image = elf.parse(head, read_at(t, file, offset, size))
    except Errno as e:
        if e.errno == E.ENOEXEC:
            raise Errno(bad) from None
        raise
    return Program(file, image)


def interpreter_of(t: Task, program: Program) -> Program | None:
    """Opens the dynamic linker that a program names."""
    image = program.image
    if not image.interp_size:
        return None
    name = read_at(t, program.file, image.interp_offset, image.interp_size)
    if len(name) != image.interp_size or name[-1] != 0:
        raise Errno(E.ENOEXEC)
    file = open_program(t, F.AT_FDCWD, name.partition(b"\0")[0], 0)
    try:
        interp = read_image(t, file, read_at(t, file, 0, elf.EHDR.size), E.ELIBBAD)
    except BaseException:
        file.decref()
        raise
    return interp


def execute_path(t: Task, path: bytes, argv: list[bytes], envp: list[bytes]) -> None:
    """The kernel's own exec of the first program."""
    args = Arguments(t)
    args.argv = argv
    args.envp = envp
    args.check()
    execute(t, F.AT_FDCWD, path, 0, args)


def execute(t: Task, dirfd: int, name: bytes, flags: int, args: Arguments) -> None:
    """Loads the program and makes the task run it: registers, memory and identity are new when this returns."""
    shown = display_name(dirfd, name)
    file = open_program(t, dirfd, name, flags)
    new: Loaded | None = None
    try:
        program_file = file
        comm = basename(file, name)
        head = read_at(t, file, 0, script.HEAD_SIZE)
        depth = 0
        run_as = shown
        while script.is_script(head):
            depth += 1
            if depth > script.MAX_NESTING:
                raise Errno(E.ELOOP)
            if dirfd != F.AT_FDCWD and not name.startswith(b"/") and t.fds.cloexec(dirfd):
                raise Errno(E.ENOENT)  # the interpreter could not open it
            path, argument = script.interpreter(head)
            args.argv[:1] = [path, argument, run_as] if argument is not None else [path, run_as]
            args.check()
            next_file = open_program(t, F.AT_FDCWD, path, 0)
            program_file.decref()
            program_file = file = next_file
            run_as = path
            head = read_at(t, file, 0, script.HEAD_SIZE)
        program = read_image(t, file, head, E.ENOEXEC)
        creds, secure = exec_creds.new_creds(t, file)
        interp = interpreter_of(t, program)
        try:
            new = load(t, program, interp, args.argv, args.envp, shown, creds, secure)
        finally:
            if interp is not None:
                interp.file.decref()
    finally:
        file.decref()
    try:
        end_other_threads(t)
    except BaseException:
        new.mm.unref()
        raise
    old_tid = t.tid
    take_the_lead(t)
    change_over(t, new, creds, secure, comm)
    if t.tracing is not None:
        tracing.executed(t, old_tid)


def display_name(dirfd: int, name: bytes) -> bytes:
    """bprm->filename: what AT_EXECFN and a script's argument say."""
    if dirfd == F.AT_FDCWD or name.startswith(b"/"):
        return name
    return b"/dev/fd/%d/%s" % (dirfd, name) if name else b"/dev/fd/%d" % dirfd


def basename(file: File, name: bytes) -> bytes:
    """The new comm."""
    if not name and file.path is not None:
        name = file.path.dentry.name
    return name.rpartition(b"/")[2][:COMM_LENGTH]


def end_other_threads(t: Task) -> None:
    """All other threads of the process end. Raises TaskExit when the process is
    being killed itself."""
    tg = t.tg
    if len(tg.tasks) > 1:
        if tg.exiting or tg.exec_task is not None:
            raise TaskExit
        tg.exec_task = t
        for other in tg.tasks:
            if other is not t:
                exiting.kill_task(other)
        waiter = TaskWaiter(t, P.POLLIN)
        tg.child_queue.add(waiter)
        try:
            while len(tg.tasks) > 1 and not t.must_exit:
                t.block()
                if t.work and not t.must_exit:
                    lib.cn_task_clear_interrupt(
                        t.native
                    )  # looked at when the new program starts: t.work stays
        finally:
            tg.child_queue.remove(waiter)
            tg.exec_task = None
    if t.must_exit:
        raise TaskExit


def take_the_lead(t: Task) -> None:
    """The process's first thread has ended, if it was another: its number, and what the parent expects of it, are t's now."""
    if t.leader:
        return
    tg = t.tg
    old = tg.main
    t.pidns.tasks.pop(t.tid, None)
    t.tid = tg.pid
    t.pidns.tasks[t.tid] = t
    t.exit_signal = SIG.SIGCHLD if old.exit_signal else 0
    t.pdeathsig = 0
    t.start_time = old.start_time
    tg.leader = t
    t.publish_ids()


def change_over(t: Task, new: Loaded, creds: Creds, secure: bool, comm: bytes) -> None:
    """Nothing can fail any more, but for want of host resources: then the process is killed."""
    tg = t.tg
    exiting.release_mm(t)
    old = t.mm
    rc = lib.cn_task_set_mm(t.native, new.mm.native)
    t.mm = new.mm
    old.unref()
    if rc < 0:
        exiting.kill_group(tg, SIG.SIGKILL)
        return
    if t.fds.users > 1:
        table = t.fds
        t.use_fds(table.copy())
        table.unref(t)
    t.fds.close_on_exec(t)
    reset_signals(t)
    shown = exec_creds.stays_dumpable(t.creds, creds) and access.permitted(creds, new.inode, access.MAY_READ)
    t.mm.dumpable = int(shown)
    t.creds = creds
    if secure:
        t.pdeathsig = 0
    t.comm = comm
    profiling.name(t)
    t.rseq = 0
    t.rseq_len = 0
    t.rseq_sig = 0
    t.restart_fn = None
    tg.did_exec = True
    lib.cn_task_reset_xstate(t.native)
    regs = t.regs
    ffi.memmove(regs, bytes(ffi.sizeof("struct cn_regs")), ffi.sizeof("struct cn_regs"))
    regs.rip = new.entry
    regs.rsp = new.sp
    regs.eflags = 0x202
    regs.orig_rax = 0xFFFFFFFFFFFFFFFF
    lib.cn_regs_sanitize(regs)
    for hook in t.kernel.exec_hooks:
        hook(t)


def reset_signals(t: Task) -> None:
    """Handlers become defaults; ignored signals stay ignored; masks and pending signals stay."""
    tg = t.tg
    if tg.actions.users > 1:
        tg.actions.users -= 1
        tg.actions = tg.actions.copy()
        t.signals.actions = tg.actions.native
    tg.actions.reset_handled()
    t.signals.stack = 0
    t.signals.stack_size = 0
    t.signals.stack_flags = SIG.SS_DISABLE
    if t.saved_sigmask >= 0:
        signals.set_mask(t, t.saved_sigmask)
        t.saved_sigmask = -1
