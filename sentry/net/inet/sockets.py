"""AF_INET and AF_INET6 sockets: addresses, options, flags and errors, over an endpoint of the sandbox's network stack."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.inet import address, options
from sentry.net.inet.cork import Cork
from sentry.net.socket import INT, Control, Family, Received, Socket
from sentry.net.stack import ANY4, ANY6, MAPPED, Datagram, Endpoint, Name, SendInfo, is_v4
from sentry.vfs.file import MIRROR_STREAM

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.wait import WaitQueue
    from sentry.net.stack import Stack

TCP_SNDBUF: Final = 16384
TCP_RCVBUF: Final = 131072
READABLE: Final = P.POLLIN | P.POLLRDNORM
IN_PKTINFO: Final = struct.Struct("<i4s4s")
IN6_PKTINFO: Final = struct.Struct("<16si")
TIMES: Final = struct.Struct("<qq")
NS: Final = 1_000_000_000
#: struct tcp_info up to tcpi_total_retrans.
TCP_INFO: Final = struct.Struct("<8B24I")
RTO: Final = 200_000
INITIAL_RTO: Final = 1_000_000
CWND: Final = 10

# Where a stream is in its life (socket states of net.h).
UNCONNECTED: Final = 0
CONNECTING: Final = 1
CONNECTED: Final = 2


class InetSocket(Socket):
    def __init__(self, t: Task, stack: Stack, domain: int, kind: int, endpoint: Endpoint | None, flags: int) -> None:
        stream = kind == SO.SOCK_STREAM
        super().__init__(t, domain, kind, SO.IPPROTO_TCP if stream else SO.IPPROTO_UDP, flags)
        if endpoint is None:
            endpoint = stack.endpoint(t, domain, kind)
            endpoint.uid = t.creds.fsuid
        endpoint.ino = self.ino
        self.stack: Stack = stack
        self.endpoint: Endpoint = endpoint
        self.waitq = endpoint.waitq
        self.hostfd = endpoint.hostfd
        if self.hostfd >= 0:
            self.mirror = MIRROR_STREAM
        self.stream: bool = stream
        self.phase: int = UNCONNECTED
        self.began: bool = False  # the last connect(2) found one under way
        self.v6only: bool = False
        self.is_listening: bool = False
        self.set_values: dict[tuple[int, int], int] = {}  # integer options other than the default
        self.congestion: bytes = options.CONGESTION[0]
        self.last_time: int = 0  # of the last datagram (SIOCGSTAMP)
        self.deaf: bool = False  # the reading end was shut
        self.wants: bool = False  # some option asks for control messages
        self.cork: Cork | None = None  # once a datagram was sent in pieces
        if stream:
            self.sndbuf = TCP_SNDBUF
            self.rcvbuf = TCP_RCVBUF

    def release(self) -> None:
        self.endpoint.close(self.values.get(SO.SO_LINGER, -1))

    def listening(self) -> bool:
        return self.is_listening

    # Names

    def parse(self, addr: bytes, strict: bool) -> Name:
        """A destination; strict: an IPv6 socket takes no sockaddr_in."""
        family = address.family_of(addr)
        if self.domain == SO.AF_INET:
            if len(addr) < address.SIZE4:
                raise Errno(E.EINVAL)
            if family != SO.AF_INET:
                raise Errno(E.EAFNOSUPPORT)
            return address.parse4(addr)
        if family == SO.AF_INET and not strict:
            name = address.parse4(addr)
        else:
            if len(addr) < address.MIN_SIZE6:
                raise Errno(E.EINVAL)
            if family != SO.AF_INET6:
                raise Errno(E.EAFNOSUPPORT)
            name = address.parse6(addr)
        if self.v6only and is_v4(name.ip):
            raise Errno(E.ENETUNREACH)
        return name

    def bind(self, t: Task, addr: bytes) -> None:
        if self.domain == SO.AF_INET:
            if len(addr) < address.SIZE4:
                raise Errno(E.EINVAL)
            name = address.parse4(addr)
            family = address.family_of(addr)
            if family != SO.AF_INET and (family != SO.AF_UNSPEC or name.ip != ANY4):
                raise Errno(E.EAFNOSUPPORT)
        else:
            if len(addr) < address.MIN_SIZE6:
                raise Errno(E.EINVAL)
            if address.family_of(addr) != SO.AF_INET6:
                raise Errno(E.EAFNOSUPPORT)
            name = address.parse6(addr)
            if self.v6only and is_v4(name.ip):
                raise Errno(E.EINVAL)
            if name.scope == 0 and name.ip[0] == 0xFE and name.ip[1] & 0xC0 == 0x80:
                raise Errno(E.EINVAL)  # link-local, without saying which link
        if 0 < name.port < self.stack.settings.low_port and not t.creds.has(C.CAP_NET_BIND_SERVICE):
            raise Errno(E.EACCES)
        self.endpoint.bind(name)

    def sockname(self) -> bytes:
        return address.sockaddr(self.domain, self.endpoint.local())

    def peername(self) -> bytes:
        name = self.endpoint.remote()
        if name is None:
            raise Errno(E.ENOTCONN)
        return address.sockaddr(self.domain, name)

    # Connections

    @property
    def busy(self) -> int:
        return E.EALREADY if self.began else E.EINPROGRESS

    def connect(self, t: Task, addr: bytes) -> WaitQueue | None:
        family = address.family_of(addr)
        endpoint = self.endpoint
        if family == SO.AF_UNSPEC:
            endpoint.disconnect()
            self.phase = UNCONNECTED
            self.is_listening = False
            return None
        if not self.stream:
            if self.v6only and family == SO.AF_INET:
                raise Errno(E.EAFNOSUPPORT)
            endpoint.connect(self.parse(addr, False))
            return None
        if self.phase == CONNECTED:
            raise Errno(E.EISCONN)
        self.began = self.phase == CONNECTING
        if self.began:
            return self.look()
        if self.is_listening:
            raise Errno(E.EISCONN)
        name = self.parse(addr, True)
        if name.ip == ANY6 and not self.v6only and is_v4(endpoint.local().ip):
            name = Name(ANY4, name.port)
        self.phase = CONNECTING
        try:
            endpoint.connect(name)
        except Errno:
            self.phase = UNCONNECTED
            raise
        return self.waitq if self.nonblocking else self.look()

    def look(self) -> WaitQueue | None:
        """How far a connect has come."""
        try:
            if self.endpoint.progress():
                return self.waitq
        except Errno:
            self.phase = UNCONNECTED
            self.endpoint.disconnect()
            raise
        self.phase = CONNECTED
        return None

    def listen(self, t: Task, backlog: int) -> None:
        if not self.stream:
            raise Errno(E.EOPNOTSUPP)
        if self.phase != UNCONNECTED:
            raise Errno(E.EINVAL)
        self.endpoint.listen(backlog)
        self.is_listening = True

    def accept(self, t: Task, flags: int) -> Socket | None:
        if not self.stream:
            raise Errno(E.EOPNOTSUPP)
        end = self.endpoint.accept()
        if end is None:
            return None
        s = InetSocket(t, self.stack, self.domain, self.kind, end, flags & F.O_NONBLOCK)
        s.phase = CONNECTED
        s.v6only = self.v6only
        s.values = self.values.copy()
        s.set_values = self.set_values.copy()
        s.sndbuf, s.rcvbuf = self.sndbuf, self.rcvbuf
        return s

    # Data

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if self.stream:
            return self.endpoint.read(count, False) if count else b""
        got = self.endpoint.receive(count, False)
        if got is None:
            return self.end()
        self.last_time = got.time
        return got.data

    def end(self) -> bytes | None:
        """What a read of no datagram brings: an end, for those who wait where the reading end is shut."""
        return b"" if self.deaf and not self.nonblocking else None

    def write(self, t: Task, data: bytes, offset: int) -> int:
        if self.stream:
            return self.endpoint.write(data)
        return self.send_datagram(data, None, None, False)

    def send(self, t: Task, data: bytes, addr: bytes | None, control: Control | None, flags: int) -> int:
        if flags & SO.MSG_OOB:
            raise Errno(E.EOPNOTSUPP)  # urgent data: tcp(7) itself advises against it
        if self.stream:
            if flags & SO.MSG_FASTOPEN:
                raise Errno(E.EOPNOTSUPP)
            return self.write(t, data, -1)
        info: SendInfo | None = None
        if control is not None and control.extra is not None:
            info = self.send_info(control.extra)
        name: Name | None = None
        if addr is not None and address.family_of(addr) == SO.AF_UNSPEC:
            if self.domain == SO.AF_INET:
                if len(addr) < address.SIZE4:
                    raise Errno(E.EINVAL)
                name = address.parse4(addr)
        elif addr is not None:
            name = self.parse(addr, False)
            if name.ip == ANY6 and is_v4(self.endpoint.local().ip):
                name = Name(ANY4, name.port)
        return self.send_datagram(data, name, info, flags & SO.MSG_MORE != 0)

    def send_datagram(self, data: bytes, name: Name | None, info: SendInfo | None, more: bool) -> int:
        if self.cork is None and not more:
            return self.endpoint.send(data, name, info)
        return self.corked().send(data, name, info, more)

    def corked(self) -> Cork:
        """Datagrams may come in pieces: C, which would send each of them, is told to leave them alone."""
        if self.cork is None:
            self.cork = Cork(self.endpoint)
            self.mirror = 0
            self.remirror()
        return self.cork

    def send_info(self, extra: list[tuple[int, int, bytes]]) -> SendInfo:
        """What control messages say of one datagram (ip(7), ipv6(7)); EINVAL for others."""
        info = SendInfo()
        for level, kind, body in extra:
            if level == SO.SOL_IP:
                if kind == SO.IP_PKTINFO and len(body) == IN_PKTINFO.size:
                    info.source = own_address(MAPPED + body[4:8])
                elif kind == SO.IP_TTL and len(body) == 4:
                    info.ttl = self.small(body, 1)
                elif kind == SO.IP_TOS and len(body) in (1, 4):
                    info.tos = self.small(body.ljust(4, b"\0"), 0)
                else:
                    raise Errno(E.EINVAL)
            elif level == SO.SOL_IPV6 and self.domain == SO.AF_INET6:
                if kind == SO.IPV6_PKTINFO and len(body) == IN6_PKTINFO.size:
                    info.source = own_address(body[:16])
                elif kind == SO.IPV6_HOPLIMIT and len(body) == 4:
                    info.ttl = self.small(body, -1)
                elif kind == SO.IPV6_TCLASS and len(body) == 4:
                    info.tos = self.small(body, -1)
                else:
                    raise Errno(E.EINVAL)
        return info

    def small(self, body: bytes, low: int) -> int:
        number: int = INT.unpack(body)[0]
        if not low <= number <= 255:
            raise Errno(E.EINVAL)
        return number

    def receive(self, t: Task, count: int, flags: int) -> Received | None:
        if flags & SO.MSG_ERRQUEUE:
            raise Errno(E.EAGAIN)  # there is never anything in it
        peek = flags & SO.MSG_PEEK != 0
        if self.stream:
            if flags & SO.MSG_OOB:
                raise Errno(E.EINVAL)
            data = self.endpoint.read(count, peek)
            if data is None:
                return None
            got = Received(data)
            if flags & SO.MSG_TRUNC:
                got.data = b""
            return got
        message = self.endpoint.receive(count, peek)
        if message is None:
            return Received(b"") if self.deaf and not self.nonblocking and not flags & SO.MSG_DONTWAIT else None
        got = Received(message.data)
        got.length = message.length
        if message.length > count:
            got.flags = SO.MSG_TRUNC
        got.name = address.sockaddr(self.domain, message.source)
        self.last_time = message.time
        if self.wants:
            self.add_control(got, message)
        return got

    def add_control(self, got: Received, m: Datagram) -> None:
        """What the socket's options ask to be told with each message."""
        out: list[tuple[int, int, bytes]] = []
        got.extra = out
        add = out.append
        sec, ns = m.time // NS, m.time % NS
        if self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMP_OLD) or self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMP_NEW):
            kind = SO.SO_TIMESTAMP_OLD if self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMP_OLD) else SO.SO_TIMESTAMP_NEW
            add((SO.SOL_SOCKET, kind, TIMES.pack(sec, ns // 1000)))
        if self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMPNS_OLD) or self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMPNS_NEW):
            kind = SO.SO_TIMESTAMPNS_OLD if self.has(SO.SOL_SOCKET, SO.SO_TIMESTAMPNS_OLD) else SO.SO_TIMESTAMPNS_NEW
            add((SO.SOL_SOCKET, kind, TIMES.pack(sec, ns)))
        dest = m.dest if m.dest is not None else self.endpoint.local()
        if is_v4(m.source.ip):
            if self.has(SO.SOL_IP, SO.IP_PKTINFO):
                add((SO.SOL_IP, SO.IP_PKTINFO, IN_PKTINFO.pack(m.ifindex, dest.ip[12:], dest.ip[12:])))
            if self.has(SO.SOL_IP, SO.IP_RECVTTL):
                add((SO.SOL_IP, SO.IP_TTL, INT.pack(m.ttl)))
            if self.has(SO.SOL_IP, SO.IP_RECVTOS):
                add((SO.SOL_IP, SO.IP_TOS, bytes((m.tos,))))
        if self.domain == SO.AF_INET6:
            if self.has(SO.SOL_IPV6, SO.IPV6_RECVPKTINFO):
                add((SO.SOL_IPV6, SO.IPV6_PKTINFO, IN6_PKTINFO.pack(dest.ip, m.ifindex)))
            if not is_v4(m.source.ip):
                if self.has(SO.SOL_IPV6, SO.IPV6_RECVHOPLIMIT):
                    add((SO.SOL_IPV6, SO.IPV6_HOPLIMIT, INT.pack(m.ttl)))
                if self.has(SO.SOL_IPV6, SO.IPV6_RECVTCLASS):
                    add((SO.SOL_IPV6, SO.IPV6_TCLASS, INT.pack(m.tos)))

    def shutdown(self, how: int) -> None:
        self.deaf = self.deaf or how != SO.SHUT_WR
        self.endpoint.shutdown(how)
        if self.is_listening and how != SO.SHUT_WR:
            self.is_listening = False

    def poll(self) -> int:
        return self.endpoint.poll()

    def unread(self) -> int:
        if self.is_listening:
            raise Errno(E.EINVAL)
        return self.endpoint.unread()

    def unsent(self) -> int:
        if self.is_listening:
            raise Errno(E.EINVAL)
        return self.endpoint.unsent()

    # Options

    def has(self, level: int, name: int) -> bool:
        return self.set_values.get((level, name), 0) != 0

    def take_error(self) -> int:
        return self.endpoint.take_error()

    def option(self, t: Task, name: int) -> bytes:
        own = self.endpoint.option(SO.SOL_SOCKET, name)
        if own is not None:
            return own
        if name in options.SOCKET:
            return INT.pack(self.set_values.get((SO.SOL_SOCKET, name), 0))
        if name == SO.SO_BINDTODEVICE:
            return b""
        if name == SO.SO_MARK:
            return INT.pack(0)
        return super().option(t, name)

    def set_option(self, t: Task, name: int, value: bytes) -> None:
        if name == SO.SO_BINDTODEVICE:
            device = value.partition(b"\0")[0]
            if device and self.stack.tables().by_name(device[:15]) is None:
                raise Errno(E.ENODEV)
            if device:
                raise Errno(E.EPERM)
            return
        if (SO.SOL_SOCKET, name) in options.REFUSED:
            raise Errno(options.REFUSED[(SO.SOL_SOCKET, name)])
        if name in options.SOCKET:
            number = options.SOCKET[name].check(self.number_of(value))
            self.set_values[(SO.SOL_SOCKET, name)] = number
            self.wants = True
            value = INT.pack(number)
        else:
            super().set_option(t, name, value)
            if name == SO.SO_SNDBUF or name == SO.SO_SNDBUFFORCE:
                name, value = SO.SO_SNDBUF, INT.pack(self.sndbuf)
            elif name == SO.SO_RCVBUF or name == SO.SO_RCVBUFFORCE:
                name, value = SO.SO_RCVBUF, INT.pack(self.rcvbuf)
        self.endpoint.set_option(SO.SOL_SOCKET, name, value)

    def number_of(self, value: bytes) -> int:
        """An integer option's value; IP takes a single byte, too."""
        if len(value) >= 4:
            number: int = INT.unpack_from(value)[0]
            return number
        if value:
            return value[0]
        raise Errno(E.EINVAL)

    def own_option(self, t: Task, level: int, name: int) -> bytes:
        error = E.EOPNOTSUPP if self.domain == SO.AF_INET else E.ENOPROTOOPT
        table = options.table(self.domain, self.kind, level, error)
        own = self.endpoint.option(level, name)
        if own is not None:
            return own
        rule = table.get(name)
        if rule is not None:
            return INT.pack(self.set_values.get((level, name), rule.default))
        if level == SO.SOL_TCP:
            if name == SO.TCP_INFO:
                return self.tcp_info()
            if name == SO.TCP_CONGESTION:
                return self.congestion.ljust(16, b"\0")
            if name in (SO.TCP_FASTOPEN, SO.TCP_FASTOPEN_CONNECT):
                return INT.pack(0)
            if name == SO.TCP_ULP:
                return b""
        elif level == SO.SOL_IP and name == SO.IP_OPTIONS:
            return b""
        elif (level, name) in ((SO.SOL_IP, SO.IP_MTU), (SO.SOL_IPV6, SO.IPV6_MTU)):
            if self.endpoint.remote() is None:
                raise Errno(E.ENOTCONN)
            return INT.pack(options.LO_MTU4 if level == SO.SOL_IP else options.LO_MTU6)
        elif level == SO.SOL_IP and name == SO.IP_MULTICAST_IF:
            return bytes(4)
        elif (level, name) in options.REFUSED:
            return INT.pack(0)
        raise Errno(E.ENOPROTOOPT)

    def set_own_option(self, t: Task, level: int, name: int, value: bytes) -> None:
        table = options.table(self.domain, self.kind, level)
        rule = table.get(name)
        if rule is None:
            if level == SO.SOL_TCP and name == SO.TCP_CONGESTION:
                self.set_congestion(value)
                return
            if level == SO.SOL_IP and name == SO.IP_OPTIONS and not value:
                return
            raise Errno(options.REFUSED.get((level, name), E.ENOPROTOOPT))
        if len(value) < 4 and level != SO.SOL_IP:
            raise Errno(E.EINVAL)
        old = self.set_values.get((level, name), rule.default)
        number = options.check(self.domain, self.kind, level, name, rule, self.number_of(value), old)
        if level == SO.SOL_IPV6 and name == SO.IPV6_V6ONLY:
            if self.endpoint.local().port:
                raise Errno(E.EINVAL)
            self.v6only = number != 0
        self.set_values[(level, name)] = number
        if level == SO.SOL_UDP:
            self.corked().set_option(number != 0)
            return
        if number:
            self.wants = True
        self.endpoint.set_option(level, name, INT.pack(number))

    def set_congestion(self, value: bytes) -> None:
        name = value.partition(b"\0")[0][:15]
        if not name:
            raise Errno(E.EINVAL)
        if name not in options.CONGESTION:
            raise Errno(E.ENOENT)
        self.endpoint.set_option(SO.SOL_TCP, SO.TCP_CONGESTION, name)
        self.congestion = name

    def tcp_info(self) -> bytes:
        """struct tcp_info of a connection that loses nothing: state, options of the header, timeouts, segment sizes."""
        state = self.endpoint.state()
        open_ = state not in (SO.TCP_CLOSE, SO.TCP_LISTEN)
        mss = options.LO_MSS if open_ else 536
        flags = SO.TCPI_OPT_TIMESTAMPS | SO.TCPI_OPT_SACK | SO.TCPI_OPT_WSCALE if open_ else 0
        head = (state, 0, 0, 0, 0, flags, 0x77 if open_ else 0, 0)
        words = [0] * 24
        words[0], words[1] = (RTO if open_ else INITIAL_RTO), (40_000 if open_ else 0)
        words[2] = words[3] = mss
        words[17], words[18] = 0x7FFFFFFF, CWND
        words[19] = mss
        return TCP_INFO.pack(*head, *words)

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == SO.SIOCATMARK and self.stream:
            t.mm.write_u32(arg, 0)
            return 0
        if cmd in (SO.SIOCGSTAMP_OLD, SO.SIOCGSTAMPNS_OLD):
            if not self.last_time:
                raise Errno(E.ENOENT)
            part = self.last_time % NS
            t.mm.write(arg, TIMES.pack(self.last_time // NS, part // 1000 if cmd == SO.SIOCGSTAMP_OLD else part))
            return 0
        return super().ioctl(t, cmd, arg)


def own_address(ip: bytes) -> bytes | None:
    return None if ip in (ANY4, ANY6) else ip


class InetFamily(Family):
    """AF_INET or AF_INET6 on a stack."""

    def __init__(self, stack: Stack, domain: int) -> None:
        self.stack: Stack = stack
        self.domain: int = domain

    def create(self, t: Task, kind: int, protocol: int, flags: int) -> Socket:
        if not 0 <= protocol < SO.IPPROTO_MAX:
            raise Errno(E.EINVAL)
        if kind == SO.SOCK_RAW:
            if not t.creds.has(C.CAP_NET_RAW):
                raise Errno(E.EPERM)
            raise Errno(E.EPROTONOSUPPORT)
        if kind == SO.SOCK_STREAM:
            if protocol not in (0, SO.IPPROTO_TCP):
                raise Errno(E.EPROTONOSUPPORT)
        elif kind == SO.SOCK_DGRAM:
            if protocol in (SO.IPPROTO_ICMP, SO.IPPROTO_ICMPV6):
                settings = self.stack.settings
                if not settings.first_ping_gid <= t.creds.egid <= settings.last_ping_gid:
                    raise Errno(E.EACCES)
                raise Errno(E.EPROTONOSUPPORT)
            if protocol not in (0, SO.IPPROTO_UDP):
                raise Errno(E.EPROTONOSUPPORT)
        else:
            raise Errno(E.ESOCKTNOSUPPORT)
        return InetSocket(t, self.stack, self.domain, kind, None, flags & F.O_NONBLOCK)
