"""Signals that files send: SIGIO for O_ASYNC, and directory notification (fcntl(2), F_SETOWN, F_SETSIG, F_NOTIFY)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import inotify as I
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.kernel import signals
from sentry.kernel.signals import SigInfo
from sentry.kernel.wait import Waiter
from sentry.vfs import notify
from sentry.vfs.file import settle
from sentry.vfs.notify import EventQueue, Watch

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.pidns import PidNamespace
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

WANTED: Final = P.POLLIN | P.POLLOUT | P.POLLPRI | P.POLLERR | P.POLLHUP
# si_code and si_band of a signal chosen by F_SETSIG, by what happened (most urgent first; band_table of Linux' fs/fcntl.c)
CODES: Final = (
    (P.POLLHUP, SIG.POLL_HUP, P.POLLHUP | P.POLLERR),
    (P.POLLERR, SIG.POLL_ERR, P.POLLERR),
    (P.POLLPRI, SIG.POLL_PRI, P.POLLPRI | P.POLLRDBAND),
    (P.POLLIN, SIG.POLL_IN, P.POLLIN | P.POLLRDNORM),
    (P.POLLOUT, SIG.POLL_OUT, P.POLLOUT | P.POLLWRNORM | P.POLLWRBAND),
)
EVENTS: Final = (
    (F.DN_ACCESS, I.IN_ACCESS),
    (F.DN_MODIFY, I.IN_MODIFY),
    (F.DN_CREATE, I.IN_CREATE | I.IN_MOVED_TO),
    (F.DN_DELETE, I.IN_DELETE | I.IN_MOVED_FROM),
    (F.DN_RENAME, notify.RENAMED),
    (F.DN_ATTRIB, I.IN_ATTRIB),
)


class Owner:
    """Whom a file signals, and with whose rights."""

    def __init__(self, pidns: PidNamespace, creds: Creds) -> None:
        self.pidns: PidNamespace = pidns
        self.creds: Creds = creds

    def may_signal(self, t: Task) -> bool:
        c = self.creds
        return c.euid == 0 or t.creds.suid in (c.euid, c.ruid) or t.creds.ruid in (c.euid, c.ruid)

    def send(self, file: File, fd: int, code: int, band: int) -> None:
        info = SigInfo(file.sig, code) if file.sig else signals.kernel_info(SIG.SIGIO)
        if file.sig:
            info.addr = band
            info.fd = fd
        pidns = self.pidns
        if file.owner_type == F.F_OWNER_PGRP:
            group = pidns.pgroups.get(file.owner)
            if group is not None:
                signals.send_to_pgrp(group, info)
            return
        task = pidns.tasks.get(file.owner)
        if task is None or not self.may_signal(task):
            return
        if file.owner_type == F.F_OWNER_TID:
            signals.send_to_task(task, info)
        else:
            signals.send_to_group(task.tg, info)


class AsyncWaiter(Waiter):
    """O_ASYNC: stays on the file's queue while the flag is set."""

    def __init__(self, file: File, fd: int) -> None:
        super().__init__(WANTED)
        self.file: File = file
        self.fd: int = fd

    def wake(self, events: int) -> None:
        file = self.file
        if file.signal_owner is None:
            return
        for bit, code, band in CODES:
            if events & bit:
                file.signal_owner.send(file, self.fd, code, band)
                return


def set_owner(t: Task, file: File, kind: int, number: int) -> None:
    file.owner_type = kind
    file.owner = number
    file.signal_owner = Owner(t.pidns, t.creds) if number else None


def set_async(file: File, fd: int, on: bool) -> None:
    """O_ASYNC was switched; without effect on files that are always ready."""
    waiter = file.async_waiter
    if on and waiter is None:
        inode = file.inode
        if inode is None or inode.mode & S.S_IFMT not in (S.S_IFREG, S.S_IFDIR):
            file.async_waiter = AsyncWaiter(file, fd)
            file.waitq.add(file.async_waiter)
    elif not on and waiter is not None:
        file.waitq.remove(waiter)
        file.async_waiter = None


class DirectoryNotifier(EventQueue):
    """F_NOTIFY of one directory descriptor."""

    def __init__(self, file: File, fd: int) -> None:
        self.file: File = file
        self.fd: int = fd
        self.multishot: bool = False
        self.watch: Watch | None = None

    def event(self, watch: Watch, mask: int, cookie: int, name: bytes) -> None:
        if mask & (I.IN_IGNORED | I.IN_UNMOUNT):
            return
        file = self.file
        if file.signal_owner is not None:
            file.signal_owner.send(file, self.fd, SIG.POLL_MSG, P.POLLIN | P.POLLRDNORM | P.POLLMSG)
        if not self.multishot:
            self.end()

    def end(self) -> None:
        if self.watch is not None:
            notify.detach(self.watch)
            self.watch = None
        self.file.notifier = None


def notify_directory(t: Task, file: File, fd: int, mask: int) -> None:
    """F_NOTIFY: 0 ends it, other bits add to those before."""
    inode = file.inode
    if inode is None or inode.mode & S.S_IFMT != S.S_IFDIR:
        raise Errno(E.ENOTDIR)
    notifier = file.notifier
    if mask & ~F.DN_MULTISHOT == 0:
        if notifier is not None:
            notifier.end()
        return
    events = 0
    for bit, event in EVENTS:
        if mask & bit:
            events |= event
    if notifier is None:
        notifier = DirectoryNotifier(file, fd)
        notifier.watch = Watch(notifier, 0, inode, 0)
        settle()
        notify.attach(notifier.watch)
        file.notifier = notifier
        set_owner(t, file, F.F_OWNER_PID, t.tg.pid)
    notifier.multishot = notifier.multishot or bool(mask & F.DN_MULTISHOT)
    if notifier.watch is not None:
        notifier.watch.mask |= events
