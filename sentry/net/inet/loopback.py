"""The loopback stack: TCP and UDP among a sandbox's own processes, with no host socket. Its world is `lo`, as in a new network
namespace whose lo is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import netlink as NL
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.inet.loop_datagram import LoopDatagram
from sentry.net.inet.loop_stream import LoopStream
from sentry.net.inet.ports import Ports, PortUser
from sentry.net.stack import (
    ANY4,
    ANY6,
    LOOPBACK4,
    LOOPBACK6,
    MAPPED,
    Address,
    Endpoint,
    Interface,
    Route,
    Stack,
    Tables,
)

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

NET_127: Final = MAPPED + b"\x7f"  # the first 13 bytes of 127.0.0.0/8
BROADCAST: Final = MAPPED + b"\x7f\xff\xff\xff"
MAX_HELD: Final = 64 << 20  # bytes in all queues beyond which senders get little room
MTU: Final = 65536
OPERSTATE_UNKNOWN: Final = 0
LO_TABLE: Final = (
    (b"\x7f\0\0\0", 8, NL.RTN_LOCAL),
    (b"\x7f\0\0\x01", 32, NL.RTN_LOCAL),
    (b"\x7f\xff\xff\xff", 32, NL.RTN_BROADCAST),
)


class Loopback(Stack):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(True)
        self.kernel: Kernel = kernel
        self.tcp: Ports = Ports(kernel.random, self.settings, True)
        self.udp: Ports = Ports(kernel.random, self.settings, False)
        self.streams: dict[int, LoopStream] = {}
        self.datagrams: dict[int, LoopDatagram] = {}
        self.held: int = 0  # bytes in all queues
        self.udp_dropped: int = 0
        self.packets: int = 0  # pieces of streams and datagrams that went over lo
        self.bytes: int = 0

    def endpoint(self, t: Task, family: int, kind: int) -> Endpoint:
        if kind == SO.SOCK_STREAM:
            stream = LoopStream(self, family)
            self.streams[id(stream)] = stream
            return stream
        datagram = LoopDatagram(self, family)
        self.datagrams[id(datagram)] = datagram
        return datagram

    def endpoints(self) -> list[Endpoint]:
        return [*self.streams.values(), *self.datagrams.values()]

    def roomy(self) -> bool:
        return self.held < MAX_HELD

    # Addresses

    def check_local(self, ip: bytes) -> None:
        """May a socket be bound to it? EADDRNOTAVAIL."""
        if ip not in (ANY4, ANY6, LOOPBACK6) and not ip.startswith(NET_127):
            raise Errno(E.EADDRNOTAVAIL)

    def check_route(self, ip: bytes) -> None:
        """Is there a way to it? ENETUNREACH."""
        if not ip.startswith(NET_127) and ip not in (LOOPBACK6, ANY4, ANY6):
            raise Errno(E.ENETUNREACH)

    def target(self, ip: bytes) -> bytes:
        """Where something sent to the unspecified address goes."""
        if ip == ANY6:
            return LOOPBACK6
        return LOOPBACK4 if ip == ANY4 else ip

    def is_broadcast(self, ip: bytes) -> bool:
        return ip == BROADCAST

    def note_option(self, e: PortUser, level: int, name: int, value: bytes) -> None:
        """Options that decide who may have a port."""
        on = any(value[:4])
        if level == SO.SOL_SOCKET:
            if name == SO.SO_REUSEADDR:
                e.reuse_addr = on
            elif name == SO.SO_REUSEPORT:
                e.reuse_port = on
        elif level == SO.SOL_IPV6 and name == SO.IPV6_V6ONLY:
            e.v6only = on

    # The world

    def tables(self) -> Tables:
        lo = Interface(1, b"lo")
        lo.flags = SO.IFF_UP | SO.IFF_LOOPBACK | SO.IFF_RUNNING | SO.IFF_LOWER_UP
        lo.kind = NL.ARPHRD_LOOPBACK
        lo.mtu = MTU
        lo.operstate = OPERSTATE_UNKNOWN
        lo.counters = [self.packets, self.bytes, 0, self.udp_dropped, self.packets, self.bytes, 0, 0]
        v4 = Address(SO.AF_INET, b"\x7f\0\0\x01", 8, 1)
        v4.label = b"lo"
        v6 = Address(SO.AF_INET6, LOOPBACK6, 128, 1)
        v4.scope = v6.scope = NL.RT_SCOPE_HOST
        world = Tables()
        world.interfaces = [lo]
        world.addresses = [v4, v6]
        for dst, prefix, kind in LO_TABLE:
            r = Route(SO.AF_INET, dst, prefix, 1)
            r.table, r.kind, r.source = NL.RT_TABLE_LOCAL, kind, b"\x7f\0\0\x01"
            r.scope = NL.RT_SCOPE_LINK if kind == NL.RTN_BROADCAST else NL.RT_SCOPE_HOST
            world.routes.append(r)
        r = Route(SO.AF_INET6, LOOPBACK6, 128, 1)
        r.table, r.kind = NL.RT_TABLE_LOCAL, NL.RTN_LOCAL
        world.routes.append(r)
        return world
