"""Sockets: making, connecting, options (socket(2) and kin). Messages are in message.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import ERESTARTSYS, Errno, Restart
from sentry.kernel import clock
from sentry.kernel.wait import INTERRUPTED, NO_DEADLINE, TIMEOUT, TaskWaiter, WaitQueue
from sentry.net.socket import FAMILIES, Family, Socket
from sentry.net.unix import sockets as unix_sockets
from sentry.syscalls.pipe import install, install_pair

if TYPE_CHECKING:
    from sentry.kernel.task import Task

TYPE_MASK: Final = 0xF
SOCK_MAX: Final = 11
MAX_ADDRESS: Final = 128  # struct sockaddr_storage
MAX_OPTION: Final = 1 << 16
IN_EVENTS: Final = P.POLLIN | P.POLLRDNORM | P.POLLHUP | P.POLLERR | P.POLLRDHUP
OUT_EVENTS: Final = P.POLLOUT | P.POLLWRNORM | P.POLLHUP | P.POLLERR

UNIX: Final = unix_sockets.UnixFamily  # importing it registers the family


def socket_of(t: Task, fd: int) -> Socket:
    """The socket behind a descriptor; EBADF, ENOTSOCK."""
    file = t.fds.get(fd)
    if isinstance(file, Socket):
        return file
    raise Errno(E.EBADF if file.flags & F.O_PATH else E.ENOTSOCK)


class Sleep:
    """Waits on a queue as often as needed within one timeout (ns, 0: none); the timeout makes interruptions final (EINTR)."""

    def __init__(self, t: Task, queue: WaitQueue, events: int, timeout: int) -> None:
        self.t: Task = t
        self.queue: WaitQueue = queue
        self.waiter: TaskWaiter = TaskWaiter(t, events)
        self.deadline: int = clock.monotonic() + timeout if timeout else NO_DEADLINE
        self.why: int = 0
        queue.add(self.waiter)

    def nap(self) -> bool:
        """Sleeps once; False when the time was up or a signal came: then `fail` says so to the caller."""
        self.why = self.t.block(self.deadline)
        return self.why not in (INTERRUPTED, TIMEOUT)

    def fail(self) -> None:
        """Raises what the end of the last nap means."""
        if self.why == TIMEOUT:
            raise Errno(E.EAGAIN)
        if self.deadline != NO_DEADLINE:
            raise Errno(E.EINTR)
        raise Restart(ERESTARTSYS)

    def over(self) -> None:
        self.queue.remove(self.waiter)


# Making


def family_of(domain: int, kind: int) -> Family:
    if not 0 <= kind & TYPE_MASK < SOCK_MAX or kind & ~(TYPE_MASK | SO.SOCK_CLOEXEC | SO.SOCK_NONBLOCK):
        raise Errno(E.EINVAL)
    family = FAMILIES.get(domain)
    if family is None:
        raise Errno(E.EAFNOSUPPORT)
    return family


def socket(t: Task, domain: int, kind: int, protocol: int) -> int:
    """socket(2)."""
    family = family_of(domain, kind)
    made = family.create(t, kind & TYPE_MASK, protocol, kind & SO.SOCK_NONBLOCK)
    return install(t, made, bool(kind & SO.SOCK_CLOEXEC))


def socketpair(t: Task, domain: int, kind: int, protocol: int, fds: int) -> int:
    """socketpair(2)."""
    family = family_of(domain, kind)
    a, b = family.pair(t, kind & TYPE_MASK, protocol, kind & SO.SOCK_NONBLOCK)
    install_pair(t, a, b, bool(kind & SO.SOCK_CLOEXEC), fds)
    return 0


# Addresses


def read_address(t: Task, addr: int, length: int) -> bytes:
    """A sockaddr that the guest gives."""
    if not 0 <= length <= MAX_ADDRESS:
        raise Errno(E.EINVAL)
    return t.mm.read(addr, length)


def write_address(t: Task, value: bytes, addr: int, length: int) -> None:
    """A sockaddr for the guest: cut to its room, the full length always told."""
    room = t.mm.read_i32(length)
    if room < 0:
        raise Errno(E.EINVAL)
    t.mm.write(addr, value[:room])
    t.mm.write_u32(length, len(value))


def bind(t: Task, fd: int, addr: int, length: int) -> int:
    """bind(2)."""
    s = socket_of(t, fd)
    s.bind(t, read_address(t, addr, length))
    return 0


def listen(t: Task, fd: int, backlog: int) -> int:
    """listen(2)."""
    socket_of(t, fd).listen(t, backlog)
    return 0


def getsockname(t: Task, fd: int, addr: int, length: int) -> int:
    """getsockname(2)."""
    write_address(t, socket_of(t, fd).sockname(), addr, length)
    return 0


def getpeername(t: Task, fd: int, addr: int, length: int) -> int:
    """getpeername(2)."""
    write_address(t, socket_of(t, fd).peername(), addr, length)
    return 0


def shutdown(t: Task, fd: int, how: int) -> int:
    """shutdown(2)."""
    s = socket_of(t, fd)
    if not SO.SHUT_RD <= how <= SO.SHUT_RDWR:
        raise Errno(E.EINVAL)
    s.shutdown(how)
    return 0


# Connecting


def connect(t: Task, fd: int, addr: int, length: int) -> int:
    """connect(2)."""
    s = socket_of(t, fd)
    address = read_address(t, addr, length)
    queue = s.connect(t, address)
    if queue is None:
        return 0
    if s.nonblocking:
        raise Errno(s.busy)
    sleep = Sleep(t, queue, OUT_EVENTS, s.write_timeout)
    try:
        while s.connect(t, address) is not None:
            if not sleep.nap():
                sleep.fail()
    finally:
        sleep.over()
    return 0


def accept4(t: Task, fd: int, addr: int, length: int, flags: int) -> int:
    """accept4(2)."""
    if flags & ~(SO.SOCK_CLOEXEC | SO.SOCK_NONBLOCK):
        raise Errno(E.EINVAL)
    s = socket_of(t, fd)
    new = s.accept(t, flags & SO.SOCK_NONBLOCK)
    if new is None:
        if s.nonblocking:
            raise Errno(E.EAGAIN)
        sleep = Sleep(t, s.waitq, IN_EVENTS, s.read_timeout)
        s.incref()
        try:
            while new is None:
                if not sleep.nap():
                    new = s.accept(t, flags & SO.SOCK_NONBLOCK)
                    if new is None:
                        sleep.fail()
                else:
                    new = s.accept(t, flags & SO.SOCK_NONBLOCK)
        finally:
            sleep.over()
            s.decref()
    number = install(t, new, bool(flags & SO.SOCK_CLOEXEC))
    if addr:
        try:
            write_address(t, peer_of(new), addr, length)
        except Errno:
            t.fds.close(t, number)
            raise
    return number


def peer_of(s: Socket) -> bytes:
    """The peer's address; ECONNABORTED when it has gone already."""
    try:
        return s.peername()
    except Errno:
        raise Errno(E.ECONNABORTED) from None


def accept(t: Task, fd: int, addr: int, length: int) -> int:
    """accept(2)."""
    return accept4(t, fd, addr, length, 0)


# Options


def getsockopt(t: Task, fd: int, level: int, name: int, value: int, length: int) -> int:
    """getsockopt(2)."""
    s = socket_of(t, fd)
    room = t.mm.read_i32(length)
    if room < 0:
        raise Errno(E.EINVAL)
    data = s.option(t, name) if level == SO.SOL_SOCKET else s.own_option(t, level, name)
    if level == SO.SOL_SOCKET and name == SO.SO_PEERGROUPS and room < len(data):
        t.mm.write_u32(length, len(data))
        raise Errno(E.ERANGE)
    data = data[:room]
    t.mm.write(value, data)
    t.mm.write_u32(length, len(data))
    return 0


def setsockopt(t: Task, fd: int, level: int, name: int, value: int, length: int) -> int:
    """setsockopt(2)."""
    s = socket_of(t, fd)
    if not 0 <= length <= MAX_OPTION:
        raise Errno(E.EINVAL)
    data = t.mm.read(value, length)
    if level == SO.SOL_SOCKET:
        s.set_option(t, name, data)
    else:
        s.set_own_option(t, level, name, data)
    return 0
