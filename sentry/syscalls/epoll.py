"""epoll_create(2), epoll_ctl(2), epoll_wait(2) and kin."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.errors import Errno
from sentry.fs.dev import NullFile, ZeroFile
from sentry.kernel.wait import INTERRUPTED, NO_DEADLINE, TIMEOUT, TaskWaiter
from sentry.syscalls.file import install
from sentry.syscalls.poll import deadline_after, read_timespec, set_mask
from sentry.vfs.epoll import Epoll
from sentry.vfs.file import NEVER, File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

EVENT: Final = struct.Struct("<IQ")  # packed on x86-64
MAX_EVENTS: Final = 0x7FFFFFFF // 12


def epoll_create1(t: Task, flags: int) -> int:
    """epoll_create1(2)"""
    if flags & ~P.EPOLL_CLOEXEC:
        raise Errno(E.EINVAL)
    return install(t, Epoll(), bool(flags & P.EPOLL_CLOEXEC))


def epoll_create(t: Task, size: int) -> int:
    """epoll_create(2)"""
    if size <= 0:
        raise Errno(E.EINVAL)
    return epoll_create1(t, 0)


def instance(t: Task, epfd: int) -> Epoll:
    file = t.fds.get(epfd)
    if not isinstance(file, Epoll):
        raise Errno(E.EINVAL)
    return file


def can_poll(file: File) -> bool:
    """Regular files, directories, /dev/null and /dev/zero have no readiness."""
    return file.waitq is not NEVER and not isinstance(file, (NullFile, ZeroFile))


def epoll_ctl(t: Task, epfd: int, op: int, fd: int, event: int) -> int:
    """epoll_ctl(2)"""
    events = data = 0
    if op != P.EPOLL_CTL_DEL:
        events, data = EVENT.unpack(t.mm.read(event, EVENT.size))
        events &= ~P.EPOLLWAKEUP
    ep_file = t.fds.get(epfd)
    file = t.fds.get(fd)
    if file.flags & F.O_PATH or ep_file.flags & F.O_PATH:
        raise Errno(E.EBADF)
    if not can_poll(file):
        raise Errno(E.EPERM)
    if ep_file is file or not isinstance(ep_file, Epoll):
        raise Errno(E.EINVAL)
    if op == P.EPOLL_CTL_ADD:
        exclusive_ok = P.EPOLLEXCLUSIVE | P.EPOLLIN | P.EPOLLOUT | P.EPOLLERR | P.EPOLLHUP | P.EPOLLET
        if events & P.EPOLLEXCLUSIVE and events & ~exclusive_ok:
            raise Errno(E.EINVAL)
        ep_file.add(fd, file, events, data)
    elif op == P.EPOLL_CTL_MOD:
        ep_file.modify(fd, file, events, data)
    elif op == P.EPOLL_CTL_DEL:
        ep_file.delete(fd, file)
    else:
        raise Errno(E.EINVAL)
    return 0


def wait(t: Task, epfd: int, events: int, most: int, deadline: int) -> int:
    if not 0 < most <= MAX_EVENTS:
        raise Errno(E.EINVAL)
    ep = instance(t, epfd)
    got = ep.collect(most)
    if not got:
        got = sleep(t, ep, most, deadline)
    if got:
        t.mm.write(events, b"".join([EVENT.pack(bits, data) for bits, data in got]))
    return len(got)


def sleep(t: Task, ep: Epoll, most: int, deadline: int) -> list[tuple[int, int]]:
    """Waits for events; an empty list when the time is over, EINTR (never restarted) when interrupted."""
    if deadline == 0:
        if lib.cn_task_interrupted(t.native):
            raise Errno(E.EINTR)
        return []
    waiter = TaskWaiter(t, P.POLLIN)
    ep.refs += 1
    ep.waitq.add(waiter)
    try:
        while True:
            got = ep.collect(most)
            if got:
                return got
            why = t.block(deadline)
            if why == INTERRUPTED:
                got = ep.collect(most)
                if not got:
                    raise Errno(E.EINTR)
                return got
            if why == TIMEOUT:
                return ep.collect(most)
    finally:
        ep.waitq.remove(waiter)
        ep.decref()


def deadline_of(timeout: int) -> int:
    return NO_DEADLINE if timeout < 0 else deadline_after(timeout * 1_000_000)


def epoll_wait(t: Task, epfd: int, events: int, max: int, timeout: int) -> int:
    """epoll_wait(2)"""
    return wait(t, epfd, events, max, deadline_of(timeout))


def epoll_pwait(t: Task, epfd: int, events: int, max: int, timeout: int, sigmask: int, size: int) -> int:
    """epoll_pwait(2)"""
    set_mask(t, sigmask, size)
    return wait(t, epfd, events, max, deadline_of(timeout))


def epoll_pwait2(t: Task, epfd: int, events: int, max: int, timeout: int, sigmask: int, size: int) -> int:
    """epoll_pwait2(2)"""
    ns = read_timespec(t, timeout)
    set_mask(t, sigmask, size)
    return wait(t, epfd, events, max, NO_DEADLINE if ns < 0 else deadline_after(ns))
