"""AF_NETLINK sockets (netlink(7)). Only NETLINK_ROUTE is there; what it says is in route.py."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import netlink as NL
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.netlink import message, route
from sentry.net.socket import INT, Control, Family, Received, Socket

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.wait import WaitQueue
    from sentry.net.stack import Stack

SOCKADDR: Final = struct.Struct("<HxxII")  # struct sockaddr_nl
READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM | P.POLLWRBAND
PIECE: Final = 3700  # bytes of an answer in one message: programs read pages
GROUPS: Final = 32
PKTINFO: Final = struct.Struct("<I")
FLAGS: Final = (
    NL.NETLINK_PKTINFO, NL.NETLINK_BROADCAST_ERROR, NL.NETLINK_NO_ENOBUFS, NL.NETLINK_CAP_ACK, NL.NETLINK_EXT_ACK,
    NL.NETLINK_GET_STRICT_CHK,
)  # fmt: skip


class Port:
    """Who has which port number; the sandbox's sockets share them."""

    def __init__(self) -> None:
        self.users: dict[int, NetlinkSocket] = {}

    def free(self, t: Task) -> int:
        """The process's number, else one at the other end of the range."""
        if t.tg.pid not in self.users:
            return t.tg.pid
        port = 0xFFFFF000
        while port in self.users:
            port -= 1
        return port


PORTS: Final = Port()


class NetlinkSocket(Socket):
    def __init__(self, t: Task, stack: Stack, kind: int, flags: int) -> None:
        super().__init__(t, SO.AF_NETLINK, kind, NL.NETLINK_ROUTE, flags)
        self.stack: Stack = stack
        self.records = True
        self.port: int = 0
        self.groups: int = 0
        self.dest: int = 0
        self.dest_groups: int = 0
        self.queue: list[bytes] = []
        self.on: set[int] = set()  # flags of SOL_NETLINK

    def parse(self, addr: bytes) -> tuple[int, int]:
        """Port and groups of a sockaddr_nl."""
        if len(addr) < SOCKADDR.size:
            raise Errno(E.EINVAL)
        family, port, groups = SOCKADDR.unpack_from(addr)
        if family != SO.AF_NETLINK:
            raise Errno(E.EINVAL)
        return port, groups

    def bind(self, t: Task, addr: bytes) -> None:
        port, groups = self.parse(addr)
        self.check_groups(groups)
        if self.port:
            if port != self.port and port:
                raise Errno(E.EINVAL)
        elif port and port in PORTS.users:
            raise Errno(E.EADDRINUSE)
        else:
            self.take(port or PORTS.free(t))
        self.groups = groups

    def check_groups(self, groups: int) -> None:
        """Who wants to hear of changes is only let where there are none."""
        if groups and not self.stack.own:
            raise Errno(E.EOPNOTSUPP)

    def take(self, port: int) -> None:
        self.port = port
        PORTS.users[port] = self

    def connect(self, t: Task, addr: bytes) -> WaitQueue | None:
        if len(addr) < 2:
            raise Errno(E.EINVAL)
        if addr[:2] == b"\0\0":
            self.dest = self.dest_groups = 0
            return None
        port, groups = self.parse(addr)
        if (port or groups) and not t.creds.has(C.CAP_NET_ADMIN):
            raise Errno(E.EPERM)
        if not self.port:
            self.take(PORTS.free(t))
        self.dest, self.dest_groups = port, groups
        return None

    def sockname(self) -> bytes:
        return SOCKADDR.pack(SO.AF_NETLINK, self.port, self.groups)

    def peername(self) -> bytes:
        return SOCKADDR.pack(SO.AF_NETLINK, self.dest, self.dest_groups)

    # Messages

    def send(self, t: Task, data: bytes, addr: bytes | None, control: Control | None, flags: int) -> int:
        if flags & SO.MSG_OOB:
            raise Errno(E.EOPNOTSUPP)
        port, groups = self.parse(addr) if addr is not None else (self.dest, self.dest_groups)
        if (port or groups) and not t.creds.has(C.CAP_NET_ADMIN):
            raise Errno(E.EPERM)
        if port or groups:
            raise Errno(E.ECONNREFUSED)  # nobody but the kernel listens
        if not self.port:
            self.take(PORTS.free(t))
        for request in message.split(data):
            if request.flags & NL.NLM_F_REQUEST and request.kind >= NL.NLMSG_MIN_TYPE:
                self.serve(t, request)
            elif request.flags & NL.NLM_F_ACK:
                self.reply(message.error(request, self.port, 0, True))
        return len(data)

    def serve(self, t: Task, request: message.Request) -> None:
        try:
            answers = route.answer(t, self.stack, request)
        except Errno as e:
            self.reply(message.error(request, self.port, e.errno, NL.NETLINK_CAP_ACK in self.on))
            return
        multi = request.flags & NL.NLM_F_DUMP == NL.NLM_F_DUMP
        flags = NL.NLM_F_MULTI if multi else 0
        out = b""
        for a in answers:
            one = message.message(a.kind, flags, request.seq, self.port, a.body)
            if out and len(out) + len(one) > PIECE:
                self.reply(out)
                out = b""
            out += one
        if multi:
            last = message.done(request, self.port)
            if len(out) + len(last) > PIECE:
                self.reply(out)
                out = b""
            out += last
        if out:
            self.reply(out)
        if request.flags & NL.NLM_F_ACK and not multi:
            self.reply(message.error(request, self.port, 0, True))

    def reply(self, data: bytes) -> None:
        """Something for the guest; what finds no room is lost, and the next read says so (netlink(7))."""
        if self.queue and sum(len(d) for d in self.queue) > self.rcvbuf:
            self.error = E.ENOBUFS
            return
        self.queue.append(data)
        self.waitq.notify(READABLE)

    def receive(self, t: Task, count: int, flags: int) -> Received | None:
        if flags & SO.MSG_OOB:
            raise Errno(E.EOPNOTSUPP)
        self.raise_error()
        if not self.queue:
            return None
        data = self.queue[0]
        if not flags & SO.MSG_PEEK:
            del self.queue[0]
        got = Received(data[:count])
        got.length = len(data)
        if count < len(data):
            got.flags = SO.MSG_TRUNC
        got.name = SOCKADDR.pack(SO.AF_NETLINK, 0, 0)
        if NL.NETLINK_PKTINFO in self.on:
            got.extra = [(SO.SOL_NETLINK, NL.NETLINK_PKTINFO, PKTINFO.pack(0))]
        return got

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        got = self.receive(t, count, 0)
        return None if got is None else got.data

    def poll(self) -> int:
        events = WRITABLE | (P.POLLERR if self.error else 0)
        return events | READABLE if self.queue else events

    def unread(self) -> int:
        raise Errno(E.ENOTTY)

    def release(self) -> None:
        if PORTS.users.get(self.port) is self:
            del PORTS.users[self.port]
        self.queue = []

    # Options

    def own_option(self, t: Task, level: int, name: int) -> bytes:
        if level != SO.SOL_NETLINK:
            raise Errno(E.ENOPROTOOPT)
        if name in FLAGS:
            return INT.pack(int(name in self.on))
        if name == NL.NETLINK_LIST_MEMBERSHIPS:
            return self.groups.to_bytes(4, "little")
        raise Errno(E.ENOPROTOOPT)

    def set_own_option(self, t: Task, level: int, name: int, value: bytes) -> None:
        if level != SO.SOL_NETLINK:
            raise Errno(E.ENOPROTOOPT)
        if len(value) < 4:
            raise Errno(E.EINVAL)
        number: int = INT.unpack_from(value)[0]
        if name in FLAGS:
            if number:
                self.on.add(name)
            else:
                self.on.discard(name)
        elif name in (NL.NETLINK_ADD_MEMBERSHIP, NL.NETLINK_DROP_MEMBERSHIP):
            if not 1 <= number <= GROUPS:
                raise Errno(E.EINVAL)
            bit = 1 << number - 1
            if name == NL.NETLINK_ADD_MEMBERSHIP:
                self.check_groups(bit)
            self.groups = self.groups | bit if name == NL.NETLINK_ADD_MEMBERSHIP else self.groups & ~bit
        else:
            raise Errno(E.ENOPROTOOPT)


class NetlinkFamily(Family):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def create(self, t: Task, kind: int, protocol: int, flags: int) -> Socket:
        if kind not in (SO.SOCK_RAW, SO.SOCK_DGRAM):
            raise Errno(E.ESOCKTNOSUPPORT)
        if protocol != NL.NETLINK_ROUTE:
            raise Errno(E.EPROTONOSUPPORT)  # as without that module: uevents, audit, generic...
        return NetlinkSocket(t, self.stack, kind, flags & F.O_NONBLOCK)
