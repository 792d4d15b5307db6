"""The host stack: endpoints that are host sockets in the broker's network namespace (docs/network.md).

The broker makes, binds and connects a socket; everything else is done here, with arguments that were checked, on a descriptor that never
blocks. No guest memory but the data itself reaches a host call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from broker.client import Broker
from native._core import ffi, lib
from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.kernel.fdnotify import HostWaitQueue
from sentry.net.inet import address
from sentry.net.stack import (
    Address,
    Datagram,
    Endpoint,
    Interface,
    Name,
    Neighbour,
    Route,
    SendInfo,
    Stack,
    Tables,
)
from sentry.vfs.file import WOULD_BLOCK

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

INFO_BYTES: Final = 256  # room for struct tcp_info
CHUNK: Final = 1 << 18  # most bytes read at once
DATAGRAM: Final = 65536
UNSPEC: Final = b"\0\0"
#: Options that the host socket gets as well, by level; the rest is the socket layer's alone. sentry/seccomp.toml has the same list.
FORWARDED: Final[dict[int, tuple[int, ...]]] = {
    SO.SOL_SOCKET: (
        SO.SO_REUSEADDR, SO.SO_REUSEPORT, SO.SO_KEEPALIVE, SO.SO_BROADCAST, SO.SO_LINGER, SO.SO_SNDBUF, SO.SO_RCVBUF,
        SO.SO_TIMESTAMPNS,
    ),
    SO.SOL_IP: (SO.IP_TOS, SO.IP_TTL, SO.IP_RECVTTL, SO.IP_RECVTOS, SO.IP_PKTINFO, SO.IP_MTU_DISCOVER),
    SO.SOL_IPV6: (
        SO.IPV6_V6ONLY, SO.IPV6_UNICAST_HOPS, SO.IPV6_RECVPKTINFO, SO.IPV6_RECVHOPLIMIT, SO.IPV6_RECVTCLASS, SO.IPV6_TCLASS,
        SO.IPV6_MTU_DISCOVER, SO.IPV6_DONTFRAG,
    ),
    SO.SOL_TCP: (
        SO.TCP_NODELAY, SO.TCP_MAXSEG, SO.TCP_CORK, SO.TCP_QUICKACK, SO.TCP_USER_TIMEOUT, SO.TCP_NOTSENT_LOWAT, SO.TCP_KEEPIDLE,
        SO.TCP_KEEPINTVL, SO.TCP_KEEPCNT, SO.TCP_SYNCNT, SO.TCP_LINGER2, SO.TCP_DEFER_ACCEPT, SO.TCP_WINDOW_CLAMP,
        SO.TCP_CONGESTION,
    ),
}  # fmt: skip
#: Options whose value only the host knows.
ASKED: Final[dict[int, tuple[int, ...]]] = {
    SO.SOL_SOCKET: (SO.SO_SNDBUF, SO.SO_RCVBUF),
    SO.SOL_IP: (SO.IP_MTU,),
    SO.SOL_IPV6: (SO.IPV6_MTU,),
    SO.SOL_TCP: (SO.TCP_INFO, SO.TCP_MAXSEG, SO.TCP_CONGESTION),
}
TIMES: Final = (SO.SO_TIMESTAMP_OLD, SO.SO_TIMESTAMP_NEW, SO.SO_TIMESTAMPNS_OLD, SO.SO_TIMESTAMPNS_NEW)
ON: Final = b"\1\0\0\0"


def name_of(addr: bytes) -> Name:
    """A host sockaddr."""
    return address.parse4(addr) if address.family_of(addr) == SO.AF_INET else address.parse6(addr)


class Scratch:
    """Buffers for host calls. With K held there is one call at a time."""

    def __init__(self) -> None:
        self.addr: ffi.CData = ffi.new("uint8_t[]", lib.CN_NET_ADDR)
        self.value: ffi.CData = ffi.new("uint8_t[]", INFO_BYTES)
        self.data: ffi.CData = ffi.new("uint8_t[]", CHUNK)
        self.info: ffi.CData = ffi.new("struct cn_net_info *")


class HostEndpoint(Endpoint):
    def __init__(self, stack: HostStack, family: int, kind: int, fd: int) -> None:
        super().__init__(family, kind, HostWaitQueue(stack.kernel.fdnotify, fd))
        self.stack: HostStack = stack
        self.fd: int = fd
        if kind == SO.SOCK_STREAM:
            self.hostfd = fd
        self.connecting: bool = False
        self.times: bool = False  # the host tells when a datagram came
        stack.open[fd] = self

    def check(self, r: int) -> int:
        if r < 0:
            raise Errno(-r)
        return r

    def sockaddr(self, name: Name) -> bytes:
        return address.sockaddr(self.family, name)

    # Names and connections

    def bind(self, name: Name) -> None:
        try:
            self.stack.broker.bind(self.fd, self.sockaddr(name))
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None

    def connect(self, name: Name) -> int:
        try:
            done = self.stack.broker.connect(self.fd, self.sockaddr(name))
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None
        self.connecting = not done
        return 0 if done else E.EINPROGRESS

    def progress(self) -> int:
        if self.connecting:
            if not lib.cn_net_poll(self.fd) & (P.POLLOUT | P.POLLERR | P.POLLHUP):
                return E.EINPROGRESS
            self.connecting = False
            error = self.take_error()
            if error:
                raise Errno(error)
        return 0

    def disconnect(self) -> None:
        self.connecting = False
        try:
            self.stack.broker.connect(self.fd, UNSPEC)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None

    def listen(self, backlog: int) -> None:
        self.check(lib.cn_net_listen(self.fd, min(backlog & 0xFFFFFFFF, self.stack.settings.somaxconn)))

    def accept(self) -> Endpoint | None:
        fd = lib.cn_net_accept(self.fd)
        if fd < 0:
            if fd in (-E.EAGAIN, -E.ECONNABORTED, -E.EINTR):
                return None
            raise Errno(-fd)
        return HostEndpoint(self.stack, self.family, self.kind, fd)

    def local(self) -> Name:
        scratch = self.stack.scratch
        n = self.check(lib.cn_net_name(self.fd, 0, scratch.addr))
        return name_of(ffi.buffer(scratch.addr, n)[:])

    def remote(self) -> Name | None:
        scratch = self.stack.scratch
        n = lib.cn_net_name(self.fd, 1, scratch.addr)
        if n < 0:
            return None
        return name_of(ffi.buffer(scratch.addr, n)[:])

    # Data

    def read(self, count: int, peek: bool) -> bytes | None:
        data = self.stack.scratch.data
        n: int = lib.cn_net_read(self.fd, data, min(count, CHUNK), peek)
        if n < 0:
            if n == WOULD_BLOCK:
                return None
            raise Errno(-n)
        got: bytes = ffi.buffer(data, n)[:]
        return got

    def write(self, data: bytes) -> int:
        n: int = lib.cn_net_write(self.fd, data, len(data))
        if n < 0 and n != WOULD_BLOCK:
            raise Errno(-n)
        return n

    def receive(self, count: int, peek: bool) -> Datagram | None:
        scratch = self.stack.scratch
        info = scratch.info
        room = min(count, DATAGRAM)
        n: int = lib.cn_net_recv(self.fd, scratch.data, room, peek, info)
        if n < 0:
            if n == WOULD_BLOCK:
                return None
            raise Errno(-n)
        length = info.source_len
        source = name_of(ffi.buffer(info.source, length)[:]) if length >= address.SIZE4 else self.local()
        message = Datagram(ffi.buffer(scratch.data, min(n, room))[:], source)
        message.length = n
        if info.has_dest:
            message.dest = Name(ffi.buffer(info.dest, 16)[:], 0)
            message.ifindex = info.ifindex
        if info.ttl >= 0:
            message.ttl = info.ttl
        message.tos = info.tos
        message.time = info.time_ns
        return message

    def send(self, data: bytes, to: Name | None, info: SendInfo | None) -> int:
        addr = b"" if to is None else self.sockaddr(to)
        if info is None:
            n: int = lib.cn_net_send(self.fd, data, len(data), addr, len(addr), ffi.NULL, -1, -1)
        else:
            source = ffi.NULL if info.source is None else info.source
            n = lib.cn_net_send(self.fd, data, len(data), addr, len(addr), source, info.ttl, info.tos)
        if n < 0 and n != WOULD_BLOCK:
            raise Errno(-n)
        return n

    def unread(self) -> int:
        return self.check(lib.cn_net_queued(self.fd, 0))

    def unsent(self) -> int:
        return self.check(lib.cn_net_queued(self.fd, 1))

    # Ends and readiness

    def shutdown(self, how: int) -> None:
        self.check(lib.cn_net_shutdown(self.fd, how))

    def close(self, linger: int) -> None:
        if self.fd >= 0:
            self.stack.open.pop(self.fd, None)
            os.close(self.fd)
            self.fd = -1

    def poll(self) -> int:
        bits: int = lib.cn_net_poll(self.fd)
        return bits if bits > 0 else 0

    def state(self) -> int:
        if self.kind != SO.SOCK_STREAM:
            return SO.TCP_CLOSE if self.remote() is None else SO.TCP_ESTABLISHED
        value = self.stack.scratch.value
        n = lib.cn_net_getopt(self.fd, SO.SOL_TCP, SO.TCP_INFO, value, 1)
        state: int = value[0] if n == 1 else SO.TCP_CLOSE
        return state

    def take_error(self) -> int:
        value = self.stack.scratch.value
        n = lib.cn_net_getopt(self.fd, SO.SOL_SOCKET, SO.SO_ERROR, value, 4)
        return int.from_bytes(ffi.buffer(value, 4)[:], "little") if n == 4 else 0

    # Options

    def set_option(self, level: int, name: int, value: bytes) -> None:
        if level == SO.SOL_SOCKET and name in TIMES:
            name = SO.SO_TIMESTAMPNS
        elif name not in FORWARDED.get(level, ()):
            return
        if level == SO.SOL_SOCKET:
            if name in (SO.SO_SNDBUF, SO.SO_RCVBUF):
                value = (int.from_bytes(value[:4], "little") // 2).to_bytes(4, "little")  # the host doubles it again
            elif name == SO.SO_LINGER:  # close(2) must not wait here; the host sends what is left anyway
                value = value[:8] if value[4:8] == bytes(4) else bytes(8)
            else:
                value = value[:4]
        self.check(lib.cn_net_setopt(self.fd, level, name, value, len(value)))

    def option(self, level: int, name: int) -> bytes | None:
        if name not in ASKED.get(level, ()):
            return None
        value = self.stack.scratch.value
        n = self.check(lib.cn_net_getopt(self.fd, level, name, value, INFO_BYTES))
        got: bytes = ffi.buffer(value, n)[:]
        return got


class HostStack(Stack):
    def __init__(self, kernel: Kernel, broker: Broker) -> None:
        super().__init__(False)
        self.kernel: Kernel = kernel
        self.broker: Broker = broker
        self.scratch: Scratch = Scratch()
        self.open: dict[int, HostEndpoint] = {}

    def endpoint(self, t: Task, family: int, kind: int) -> Endpoint:
        protocol = SO.IPPROTO_TCP if kind == SO.SOCK_STREAM else SO.IPPROTO_UDP
        try:
            fd = self.broker.socket(family, kind, protocol)
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None
        return HostEndpoint(self, family, kind, fd)

    def endpoints(self) -> list[Endpoint]:
        return list(self.open.values())

    def tables(self) -> Tables:
        try:
            return tables_of(self.broker.tables())
        except OSError as e:
            raise Errno(e.errno or E.EIO) from None


def tables_of(said: dict[str, Any]) -> Tables:
    """The broker's answer (broker/routes.py) as objects."""
    world = Tables()
    for v in said["links"]:
        i = Interface(v["index"], bytes.fromhex(v["name"]))
        i.flags, i.kind, i.mtu, i.txqlen = v["flags"], v["kind"], v["mtu"], v["txqlen"]
        i.hwaddr, i.broadcast = bytes.fromhex(v["hwaddr"]), bytes.fromhex(v["broadcast"])
        i.operstate, i.qdisc, i.counters = v["operstate"], bytes.fromhex(v["qdisc"]), list(v["counters"])
        world.interfaces.append(i)
    for v in said["addresses"]:
        a = Address(v["family"], bytes.fromhex(v["ip"]), v["prefix"], v["index"])
        a.scope, a.flags = v["scope"], v["flags"]
        a.label, a.broadcast, a.peer = bytes.fromhex(v["label"]), bytes.fromhex(v["broadcast"]), bytes.fromhex(v["peer"])
        world.addresses.append(a)
    for v in said["routes"]:
        r = Route(v["family"], bytes.fromhex(v["dst"]), v["prefix"], v["index"])
        r.gateway, r.source = bytes.fromhex(v["gateway"]), bytes.fromhex(v["source"])
        r.table, r.protocol, r.scope = v["table"], v["protocol"], v["scope"]
        r.kind, r.priority = v["kind"], v["priority"]
        world.routes.append(r)
    for v in said["neighbours"]:
        n = Neighbour(v["family"], bytes.fromhex(v["ip"]), v["index"], v["state"])
        n.hwaddr, n.flags = bytes.fromhex(v["hwaddr"]), v["flags"]
        world.neighbours.append(n)
    return world
