"""POSIX message queues."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import ERESTARTSYS, Errno
from sentry.fs import mqueue
from sentry.fs.mqueue import Notification, Queue, QueueFile
from sentry.kernel import clock
from sentry.kernel.ipc import limits as L
from sentry.kernel.wait import NO_DEADLINE, wait_for
from sentry.net.netlink.socket import NetlinkSocket
from sentry.syscalls.socket import socket_of
from sentry.syscalls.time import read_ns
from sentry.vfs import access
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.task import Task

ATTR: Final = struct.Struct("<8q")  # struct mq_attr
SIGEVENT: Final = struct.Struct("<Qii")
MESSAGE_OVERHEAD: Final = 48 + 8  # what a message counts against RLIMIT_MSGQUEUE besides its bytes


def name_of(t: Task, addr: int) -> bytes:
    """A queue's name, which the C library has stripped of its slash."""
    name = t.mm.read_path(addr)
    if len(name) > F.NAME_MAX:
        raise Errno(E.ENAMETOOLONG)
    if not name:
        raise Errno(E.ENOENT)
    if b"/" in name or name in (b".", b".."):
        raise Errno(E.EACCES)
    return name


def sizes(t: Task, root: mqueue.Root, addr: int) -> tuple[int, int]:
    """(maxmsg, msgsize) for a new queue, within the limits."""
    if addr == 0:
        return root.default_sizes()
    _, maxmsg, msgsize, _, _, _, _, _ = ATTR.unpack(t.mm.read(addr, ATTR.size))
    v = root.limits.values
    free = t.creds.has(C.CAP_SYS_RESOURCE)
    most, largest = (mqueue.HARD_MSG_MAX, mqueue.HARD_MSGSIZE_MAX) if free else (v[L.MSG_MAX], v[L.MSGSIZE_MAX])
    if not 0 < maxmsg <= most or not 0 < msgsize <= largest:
        raise Errno(E.EINVAL)
    if maxmsg * (msgsize + MESSAGE_OVERHEAD) > t.tg.limits.soft(R.RLIMIT_MSGQUEUE):
        raise Errno(E.EMFILE)
    return maxmsg, msgsize


def mq_open(t: Task, uname: int, oflag: int, mode: int, uattr: int) -> int:
    """mq_open(2)."""
    name = name_of(t, uname)
    root = mqueue.new(t.container.ipc, anon_dev())
    found = root.lookup(name)
    if found is None:
        if not oflag & F.O_CREAT:
            raise Errno(E.ENOENT)
        shape = sizes(t, root, uattr)
        kept = S.S_IFREG | mode & 0o777 & ~t.fs.umask
        queue = root.make_queue(name, kept, t.creds.fsuid, t.creds.fsgid, shape)
    else:
        if oflag & F.O_CREAT and oflag & F.O_EXCL:
            raise Errno(E.EEXIST)
        assert isinstance(found, Queue)
        queue = found
        masks = {F.O_RDONLY: access.MAY_READ, F.O_WRONLY: access.MAY_WRITE, F.O_RDWR: access.MAY_READ | access.MAY_WRITE}
        mask = masks.get(oflag & F.O_ACCMODE)
        if mask is None:
            raise Errno(E.EINVAL)
        access.require(t.creds, queue, mask)
    file = QueueFile(mqueue.flags_of(oflag), None, queue)
    return t.fds.install(file, True, t.tg.limits.soft(R.RLIMIT_NOFILE))


def mq_unlink(t: Task, uname: int) -> int:
    """mq_unlink(2)."""
    name = name_of(t, uname)
    root = mqueue.new(t.container.ipc, anon_dev())
    found = root.lookup(name)
    if found is None:
        raise Errno(E.ENOENT)
    if not access.owner_or_capable(t.creds, found):
        raise Errno(E.EACCES)
    root.unlink(name, found)
    return 0


def queue_of(t: Task, mqd: int, write: bool | None) -> QueueFile:
    """The descriptor's file; EBADF when it is no queue or not open for that."""
    file = t.fds.get(mqd)
    if not isinstance(file, QueueFile) or (write is True and not file.writable) or (write is False and not file.readable):
        raise Errno(E.EBADF)
    return file


def deadline_of(t: Task, addr: int) -> int:
    if addr == 0:
        return NO_DEADLINE
    return clock.monotonic_deadline(0, read_ns(t, addr))


def mq_timedsend(t: Task, mqd: int, msg: int, length: int, priority: int, timeout: int) -> int:
    """mq_timedsend(2)."""
    if priority >= mqueue.PRIO_MAX:
        raise Errno(E.EINVAL)
    deadline = deadline_of(t, timeout)
    file = queue_of(t, mqd, True)
    queue = file.queue
    if length > queue.msgsize:
        raise Errno(E.EMSGSIZE)
    data = t.mm.read(msg, length)
    while not queue.put(t, priority, data):
        if file.nonblocking:
            raise Errno(E.EAGAIN)
        room = lambda: len(queue.messages) < queue.maxmsg  # noqa: E731
        if not wait_for(t, queue.waitq, P.POLLOUT, room, deadline, ERESTARTSYS):
            raise Errno(E.ETIMEDOUT)
    return 0


def mq_timedreceive(t: Task, mqd: int, msg: int, length: int, uprio: int, timeout: int) -> int:
    """mq_timedreceive(2)."""
    deadline = deadline_of(t, timeout)
    file = queue_of(t, mqd, False)
    queue = file.queue
    if length < queue.msgsize:
        raise Errno(E.EMSGSIZE)
    while True:
        message = queue.take()
        if message is not None:
            break
        if file.nonblocking:
            raise Errno(E.EAGAIN)
        queue.receivers += 1
        try:
            if not wait_for(t, queue.waitq, P.POLLIN, lambda: bool(queue.messages), deadline, ERESTARTSYS):
                raise Errno(E.ETIMEDOUT)
        finally:
            queue.receivers -= 1
    priority, data = message
    t.mm.write(msg, data)
    if uprio:
        t.mm.write_u32(uprio, priority)
    return len(data)


def mq_notify(t: Task, mqd: int, event: int) -> int:
    """mq_notify(2)."""
    asked = notification(t, event) if event else None
    queue = queue_of(t, mqd, None).queue
    if asked is None:
        queue.forget(t)
        return 0
    current = queue.notification
    if current is not None and not current.tg.dead:
        raise Errno(E.EBUSY)
    queue.notification = asked
    return 0


def notification(t: Task, event: int) -> Notification:
    """What a sigevent asks for. SIGEV_THREAD comes as the C library has it: a netlink socket and the cookie to send there."""
    value, signo, notify = SIGEVENT.unpack(t.mm.read(event, SIGEVENT.size))
    asked = Notification(t.tg)
    asked.value = value
    if notify == SIG.SIGEV_SIGNAL:
        if not 1 <= signo <= 64:
            raise Errno(E.EINVAL)
        asked.signo = signo
    elif notify == SIG.SIGEV_THREAD:
        asked.cookie = t.mm.read(value, mqueue.COOKIE_SIZE)
        socket = socket_of(t, signo)
        if not isinstance(socket, NetlinkSocket):
            raise Errno(E.EINVAL)
        asked.socket = socket
    elif notify != SIG.SIGEV_NONE:
        raise Errno(E.EINVAL)
    return asked


def mq_getsetattr(t: Task, mqd: int, new: int, old: int) -> int:
    """mq_getsetattr(2)."""
    file = queue_of(t, mqd, None)
    queue = file.queue
    before = ATTR.pack(file.flags & F.O_NONBLOCK, queue.maxmsg, queue.msgsize, len(queue.messages), 0, 0, 0, 0)
    if new:
        flags = t.mm.read_i64(new)
        if flags & ~F.O_NONBLOCK:
            raise Errno(E.EINVAL)
        file.flags = file.flags & ~F.O_NONBLOCK | flags
    if old:
        t.mm.write(old, before)
    return 0
