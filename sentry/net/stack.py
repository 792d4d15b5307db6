"""The interface of a network stack: what the socket layer (inet/sockets.py), netlink, SIOCGIF* and /proc/net ask of it.

A stack is loopback only (inet/loopback.py), host sockets (inet/host.py) or something else; nothing above it knows which. IP addresses are
16 bytes here, IPv4 ones in their mapped form (::ffff:a.b.c.d).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import netlink as NL
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAPPED: Final = bytes(10) + b"\xff\xff"  # the first 12 bytes of a mapped IPv4 address
ANY4: Final = MAPPED + bytes(4)
ANY6: Final = bytes(16)
LOOPBACK4: Final = MAPPED + b"\x7f\x00\x00\x01"
LOOPBACK6: Final = bytes(15) + b"\x01"


def is_v4(ip: bytes) -> bool:
    return ip.startswith(MAPPED)


class Name:
    """An IP address with a port. scope: interface of a link-local address, 0: none. A Name never changes."""

    def __init__(self, ip: bytes, port: int, scope: int = 0) -> None:
        self.ip: bytes = ip
        self.port: int = port
        self.scope: int = scope

    def same(self, other: Name) -> bool:
        return self.port == other.port and self.ip == other.ip


NOWHERE4: Final = Name(ANY4, 0)
NOWHERE6: Final = Name(ANY6, 0)


class Datagram:
    """A received message."""

    def __init__(self, data: bytes, source: Name) -> None:
        self.data: bytes = data  # may be cut to what was asked for
        self.length: int = len(data)  # of the whole
        self.source: Name = source
        self.dest: Name | None = None  # the local address it was sent to (IP_PKTINFO); None: not known
        self.ifindex: int = 0
        self.ttl: int = 64
        self.tos: int = 0
        self.time: int = 0  # CLOCK_REALTIME ns of its arrival, 0: not known


class SendInfo:
    """What a message is to be sent with instead of the socket's own (IP_PKTINFO, IP_TTL, IP_TOS and their IPv6 kin)."""

    def __init__(self) -> None:
        self.source: bytes | None = None  # local address
        self.ttl: int = -1
        self.tos: int = -1


class Endpoint:
    """A socket's end in a stack. Methods never block. Errors are raised as Errno.

    A stream endpoint has: connect, progress, listen, accept, read, write. A datagram endpoint has: connect, receive, send.
    """

    def __init__(self, family: int, kind: int, waitq: WaitQueue) -> None:
        self.family: int = family  # AF_INET, AF_INET6
        self.kind: int = kind  # SOCK_STREAM, SOCK_DGRAM
        self.waitq: WaitQueue = waitq
        self.hostfd: int = -1  # see File.hostfd: bytes of a stream may go to and from it directly
        self.ino: int = 0  # of the socket it belongs to; 0 while nobody accepted it
        self.uid: int = 0  # whose it is

    def bind(self, name: Name) -> None:
        """Port 0: the stack chooses one. EADDRINUSE, EADDRNOTAVAIL."""
        raise Errno(E.EOPNOTSUPP)

    def connect(self, name: Name) -> int:
        """0 when connected, EINPROGRESS when that takes time: POLLOUT then says it is over."""
        raise Errno(E.EOPNOTSUPP)

    def progress(self) -> int:
        """Of a connect that takes time: 0 connected, EINPROGRESS; raises why it failed."""
        raise Errno(E.EOPNOTSUPP)

    def disconnect(self) -> None:
        """connect(2) with AF_UNSPEC."""
        raise Errno(E.EOPNOTSUPP)

    def listen(self, backlog: int) -> None:
        raise Errno(E.EOPNOTSUPP)

    def accept(self) -> Endpoint | None:
        raise Errno(E.EOPNOTSUPP)

    def read(self, count: int, peek: bool) -> bytes | None:
        """Bytes of a stream: b"" at its end, None when there are none yet."""
        raise Errno(E.EOPNOTSUPP)

    def write(self, data: bytes) -> int:
        """Bytes taken, or WOULD_BLOCK."""
        raise Errno(E.EOPNOTSUPP)

    def receive(self, count: int, peek: bool) -> Datagram | None:
        raise Errno(E.EOPNOTSUPP)

    def send(self, data: bytes, to: Name | None, info: SendInfo | None) -> int:
        """Sends a datagram to a name or the peer. Bytes taken, or WOULD_BLOCK."""
        raise Errno(E.EOPNOTSUPP)

    def shutdown(self, how: int) -> None:
        """SHUT_*; ENOTCONN."""
        raise Errno(E.EOPNOTSUPP)

    def close(self, linger: int) -> None:
        """Nobody uses it any more. linger: seconds of SO_LINGER, -1: not set; 0 resets a connection."""

    def poll(self) -> int:
        """POLL* bits that are ready."""
        return 0

    def state(self) -> int:
        """TCP_*; TCP_CLOSE or TCP_ESTABLISHED for datagrams."""
        return SO.TCP_CLOSE

    def local(self) -> Name:
        """Where it is bound; all zero if nowhere."""
        return NOWHERE4 if self.family == SO.AF_INET else NOWHERE6

    def remote(self) -> Name | None:
        """Its peer, None without one."""
        return None

    def take_error(self) -> int:
        """The pending error, which is gone then."""
        return 0

    def unread(self) -> int:
        """Bytes that can be read (of the next datagram)."""
        return 0

    def unsent(self) -> int:
        """Bytes that are not acknowledged."""
        return 0

    def set_option(self, level: int, name: int, value: bytes) -> None:
        """An option was set; its value was checked. A stack takes notice of those that concern it."""

    def option(self, level: int, name: int) -> bytes | None:
        """The stack's own value of an option, None where the one that was set is as good."""
        return None


class Interface:
    """A network interface (netdevice(7))."""

    def __init__(self, index: int, name: bytes) -> None:
        self.index: int = index
        self.name: bytes = name
        self.flags: int = 0  # IFF_*
        self.kind: int = NL.ARPHRD_ETHER
        self.mtu: int = 1500
        self.txqlen: int = 1000
        self.hwaddr: bytes = bytes(6)
        self.broadcast: bytes = bytes(6)
        self.operstate: int = 0  # IF_OPER_*
        self.qdisc: bytes = b"noqueue"
        self.counters: list[int] = [0] * 8  # packets, bytes, errors, dropped: received, then sent


class Address:
    """An address of an interface. `ip` has 4 or 16 bytes."""

    def __init__(self, family: int, ip: bytes, prefix: int, index: int) -> None:
        self.family: int = family
        self.ip: bytes = ip
        self.prefix: int = prefix
        self.index: int = index  # of its interface
        self.scope: int = NL.RT_SCOPE_UNIVERSE
        self.flags: int = NL.IFA_F_PERMANENT
        self.label: bytes = b""
        self.broadcast: bytes = b""
        self.peer: bytes = b""  # other end of a point-to-point link


class Route:
    """A route. Addresses have 4 or 16 bytes, or none."""

    def __init__(self, family: int, dst: bytes, prefix: int, index: int) -> None:
        self.family: int = family
        self.dst: bytes = dst
        self.prefix: int = prefix
        self.index: int = index  # of the interface that it leads to
        self.gateway: bytes = b""
        self.source: bytes = b""  # preferred source address
        self.table: int = NL.RT_TABLE_MAIN
        self.protocol: int = NL.RTPROT_KERNEL
        self.scope: int = NL.RT_SCOPE_UNIVERSE
        self.kind: int = NL.RTN_UNICAST
        self.priority: int = 0


class Neighbour:
    """An entry of the neighbour table (arp(7))."""

    def __init__(self, family: int, ip: bytes, index: int, state: int) -> None:
        self.family: int = family
        self.ip: bytes = ip
        self.index: int = index
        self.state: int = state  # NUD_*
        self.hwaddr: bytes = b""
        self.flags: int = 0


class Tables:
    """What a stack's world looks like at one time."""

    def __init__(self) -> None:
        self.interfaces: list[Interface] = []
        self.addresses: list[Address] = []
        self.routes: list[Route] = []
        self.neighbours: list[Neighbour] = []

    def by_index(self, index: int) -> Interface | None:
        for i in self.interfaces:
            if i.index == index:
                return i
        return None

    def by_name(self, name: bytes) -> Interface | None:
        for i in self.interfaces:
            if i.name == name:
                return i
        return None


class Settings:
    """What /proc/sys/net lets be changed."""

    def __init__(self) -> None:
        self.low_port: int = 1024  # the first that needs no CAP_NET_BIND_SERVICE
        self.first_port: int = 32768  # of those that a stack chooses
        self.last_port: int = 60999
        self.somaxconn: int = 4096
        self.first_ping_gid: int = 1  # groups that may have ping sockets: none
        self.last_ping_gid: int = 0


class Stack:
    """A network stack. Called with K held.

    own: its interfaces are the sandbox's alone and never change, so that nobody waits in vain to be told of changes.
    """

    def __init__(self, own: bool) -> None:
        self.own: bool = own
        self.settings: Settings = Settings()

    def endpoint(self, t: Task, family: int, kind: int) -> Endpoint:
        """A new endpoint (SOCK_STREAM: TCP, SOCK_DGRAM: UDP). EAFNOSUPPORT, ENOBUFS, ENETDOWN."""
        raise Errno(E.EAFNOSUPPORT)

    def tables(self) -> Tables:
        """Interfaces, addresses, routes, neighbours as they are now."""
        return Tables()

    def endpoints(self) -> list[Endpoint]:
        """All of the sandbox's endpoints, those included that wait to be accepted."""
        return []
