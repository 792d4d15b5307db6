"""UDP inside the sentry (udp(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.net.inet.ports import PortUser
from sentry.net.stack import ANY4, ANY6, LOOPBACK4, LOOPBACK6, Datagram, Name, SendInfo, is_v4

if TYPE_CHECKING:
    from sentry.net.inet.loopback import Loopback

READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM | P.POLLWRBAND
EVERYTHING: Final = READABLE | WRITABLE | P.POLLHUP | P.POLLRDHUP | P.POLLERR
OVERHEAD: Final = 768  # what a datagram costs its receiver's buffer beside its bytes
RCVBUF: Final = 212_992
MAX4: Final = 65507  # bytes of a datagram
MAX6: Final = 65527
SHUT_RCV: Final = 1
SHUT_SND: Final = 2
BOTH: Final = 3
LO: Final = 1  # its interface


class LoopDatagram(PortUser):
    def __init__(self, stack: Loopback, family: int) -> None:
        super().__init__(family, SO.SOCK_DGRAM, stack, stack.udp)
        self.down: int = 0
        self.queue: list[Datagram] = []
        self.held: int = 0  # what the queue costs
        self.rcvbuf: int = RCVBUF
        self.broadcast: bool = False
        self.ttl: int = 64
        self.tos: int = 0
        self.closed: bool = False

    # Names

    def remote(self) -> Name | None:
        return self.peername

    def need_port(self) -> None:
        if self.port == 0:
            self.stack.udp.bind(self, 0)
            self.chosen = False

    def connect(self, name: Name) -> int:
        self.stack.check_route(name.ip)
        target = self.stack.target(name.ip)
        self.check_broadcast(target)
        if self.bound in (ANY4, ANY6):
            self.ip = LOOPBACK4 if is_v4(target) else LOOPBACK6
        self.need_port()
        self.peername = Name(target, name.port)
        self.error = 0
        return 0

    def disconnect(self) -> None:
        self.peername = None
        self.ip = self.bound
        if not self.chosen:
            self.stack.udp.remove(self)

    def check_broadcast(self, ip: bytes) -> None:
        if self.stack.is_broadcast(ip) and not self.broadcast:
            raise Errno(E.EACCES)

    # Messages

    def send(self, data: bytes, to: Name | None, info: SendInfo | None) -> int:
        peer = self.peername
        if len(data) > (MAX4 if self.family == SO.AF_INET else MAX6):
            raise Errno(E.EMSGSIZE)
        if to is None:
            if peer is None:
                raise Errno(E.EDESTADDRREQ)
            target = peer
        else:
            if to.port == 0:
                raise Errno(E.EINVAL)
            self.stack.check_route(to.ip)
            target = Name(self.stack.target(to.ip), to.port)
            self.check_broadcast(target.ip)
        if self.down & SHUT_SND:
            raise Errno(E.EPIPE)
        if self.error:
            raise Errno(self.take_error())
        self.need_port()
        self.stack.packets += 1
        self.stack.bytes += len(data)
        ip = self.ip if info is None or info.source is None else info.source
        if ip in (ANY4, ANY6):
            ip = LOOPBACK4 if is_v4(target.ip) else LOOPBACK6
        elif is_v4(ip) != is_v4(target.ip):
            raise Errno(E.ENETUNREACH)
        came = Name(ip, self.port)
        message = Datagram(data, came)
        message.dest = target
        message.ifindex = LO
        message.ttl = self.ttl if info is None or info.ttl < 0 else info.ttl
        message.tos = self.tos if info is None or info.tos < 0 else info.tos
        message.time = clock.realtime()
        receiver = self.stack.udp.find(target, came)
        if isinstance(receiver, LoopDatagram):
            receiver.deliver(message)
        elif peer is not None and (to is None or to.same(peer)):
            self.error = E.ECONNREFUSED
            self.waitq.notify(P.POLLERR)
        return len(data)

    def deliver(self, message: Datagram) -> None:
        """Takes a datagram; one that finds no room is lost, as UDP has it."""
        cost = message.length + OVERHEAD
        if self.queue and (self.held + cost > self.rcvbuf or not self.stack.roomy()):
            self.stack.udp_dropped += 1
            return
        self.queue.append(message)
        self.held += cost
        self.stack.held += cost
        self.waitq.notify(READABLE)

    def receive(self, count: int, peek: bool) -> Datagram | None:
        if self.error:
            raise Errno(self.take_error())
        if not self.queue:
            return None
        if peek:
            return self.cut(self.queue[0], count, True)
        message = self.queue.pop(0)
        cost = message.length + OVERHEAD
        self.held -= cost
        self.stack.held -= cost
        return message if count >= message.length else self.cut(message, count, False)

    def cut(self, message: Datagram, count: int, copy: bool) -> Datagram:
        """The first bytes of a message, leaving the one in the queue alone if `copy`."""
        if not copy:
            message.data = message.data[:count]
            return message
        seen = Datagram(message.data[:count], message.source)
        seen.length = message.length
        seen.dest = message.dest
        seen.ifindex = message.ifindex
        seen.ttl, seen.tos, seen.time = message.ttl, message.tos, message.time
        return seen

    def unread(self) -> int:
        return self.queue[0].length if self.queue else 0

    # Ends

    def shutdown(self, how: int) -> None:
        self.down |= how + 1
        self.waitq.notify(EVERYTHING)
        if self.peername is None:
            raise Errno(E.ENOTCONN)

    def close(self, linger: int) -> None:
        if not self.closed:
            self.closed = True
            self.stack.held -= self.held
            self.held = 0
            self.queue = []
            self.stack.udp.remove(self)
            self.stack.datagrams.pop(id(self), None)

    # Readiness

    def poll(self) -> int:
        events = WRITABLE
        if self.error:
            events |= P.POLLERR
        if self.queue:
            events |= READABLE
        down = self.down
        if down:
            if down & SHUT_RCV:
                events |= READABLE | P.POLLRDHUP
            if down == BOTH:
                events |= P.POLLHUP
        return events

    def state(self) -> int:
        return SO.TCP_CLOSE if self.peername is None else SO.TCP_ESTABLISHED

    def set_option(self, level: int, name: int, value: bytes) -> None:
        self.stack.note_option(self, level, name, value)
        number = int.from_bytes(value[:4], "little", signed=True)
        if level == SO.SOL_SOCKET:
            if name == SO.SO_RCVBUF:
                self.rcvbuf = number
            elif name == SO.SO_BROADCAST:
                self.broadcast = number != 0
        elif (level == SO.SOL_IP and name == SO.IP_TTL) or (level == SO.SOL_IPV6 and name == SO.IPV6_UNICAST_HOPS):
            self.ttl = 64 if number < 0 else number
        elif (level == SO.SOL_IP and name == SO.IP_TOS) or (level == SO.SOL_IPV6 and name == SO.IPV6_TCLASS):
            self.tos = max(number, 0) & 0xFF
