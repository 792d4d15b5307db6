"""Ports of the loopback stack: who has which, and who gets what is sent to one (bind(2), ip(7), socket(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.kernel.wait import WaitQueue
from sentry.net.stack import ANY4, ANY6, Endpoint, Name, Settings, is_v4

if TYPE_CHECKING:
    from sentry.kernel.randomness import Randomness
    from sentry.net.inet.loopback import Loopback

#: Bits of a score, by what a socket is bound to.
EXACT: Final = 4
WILD: Final = 2
SAME_FAMILY: Final = 1
CONNECTED: Final = 8


class PortUser(Endpoint):
    """An endpoint that can have a port."""

    def __init__(self, family: int, kind: int, stack: Loopback, ports: Ports) -> None:
        super().__init__(family, kind, WaitQueue())
        self.stack: Loopback = stack
        self.ports: Ports = ports
        self.any: bytes = ANY4 if family == SO.AF_INET else ANY6
        self.ip: bytes = self.any
        self.bound: bytes = self.any  # address that bind(2) named
        self.port: int = 0
        self.chosen: bool = False  # bind(2) named the port
        self.peername: Name | None = None
        self.reuse_addr: bool = False
        self.reuse_port: bool = False
        self.v6only: bool = False
        self.listening: bool = False
        self.error: int = 0

    def bind(self, name: Name) -> None:
        if self.port:
            raise Errno(E.EINVAL)
        self.stack.check_local(name.ip)
        self.ip = name.ip
        try:
            self.ports.bind(self, name.port)
        except Errno:
            self.ip = self.any
            raise
        self.bound = name.ip

    def local(self) -> Name:
        return Name(self.ip, self.port)

    def take_error(self) -> int:
        error = self.error
        self.error = 0
        return error

    def covers(self, ip: bytes) -> bool:
        """Is something sent to that address (or a bind to it) ours?"""
        mine = self.ip
        if mine == ip:
            return True
        if mine == ANY4:
            return is_v4(ip)
        if mine == ANY6:
            return not (self.v6only and is_v4(ip))
        return False

    def overlaps(self, other: PortUser) -> bool:
        return self.covers(other.ip) or other.covers(self.ip)


class Ports:
    """The ports of one protocol."""

    def __init__(self, random: Randomness, settings: Settings, streams: bool) -> None:
        self.random: Randomness = random
        self.settings: Settings = settings
        self.streams: bool = streams
        self.users: dict[int, list[PortUser]] = {}

    def conflict(self, e: PortUser, port: int) -> bool:
        """May `e` not have that port beside those that have it (inet_csk_bind_conflict, inet_rcv_saddr_equal)?"""
        for other in self.users.get(port, ()):
            if other is e or not e.overlaps(other):
                continue
            if e.reuse_port and other.reuse_port and e.uid == other.uid:
                continue
            if e.reuse_addr and other.reuse_addr and not (self.streams and other.listening):
                continue
            return True
        return False

    def bind(self, e: PortUser, port: int) -> None:
        """Gives `e` the port, or a free one for 0. EADDRINUSE."""
        e.chosen = port != 0
        if port:
            if self.conflict(e, port):
                e.chosen = False
                raise Errno(E.EADDRINUSE)
        else:
            port = self.free(e)
        self.add(e, port)

    def free(self, e: PortUser) -> int:
        """A port that nobody has whom it could be taken for."""
        first = self.settings.first_port
        count = self.settings.last_port - first + 1
        start = self.random.below(count)
        for i in range(count):
            port = first + (start + i) % count
            if port not in self.users:
                return port
        for i in range(count):
            port = first + (start + i) % count
            if not self.conflict(e, port):
                return port
        raise Errno(E.EADDRINUSE)

    def free_for(self, e: PortUser, to: Name) -> int:
        """A port for a connection: one that others have is good, too, as long as the four numbers of the connection are new."""
        try:
            return self.free(e)
        except Errno:
            pass
        for port in range(self.settings.first_port, self.settings.last_port + 1):
            if not self.connection(e.ip, port, to) and not any(o.listening for o in self.users[port]):
                return port
        raise Errno(E.EADDRNOTAVAIL)

    def connection(self, ip: bytes, port: int, to: Name) -> bool:
        """Is there such a connection already?"""
        for other in self.users.get(port, ()):
            peer = other.peername
            if peer is not None and peer.same(to) and other.ip == ip:
                return True
        return False

    def add(self, e: PortUser, port: int) -> None:
        e.port = port
        users = self.users.get(port)
        if users is None:
            self.users[port] = [e]
        else:
            users.append(e)

    def remove(self, e: PortUser) -> None:
        """Gives the port back."""
        users = self.users.get(e.port)
        if users is not None and e in users:
            if len(users) == 1:
                del self.users[e.port]
            else:
                users.remove(e)
        e.port = 0

    def find(self, to: Name, source: Name) -> PortUser | None:
        """Who gets what `source` sends: the most exact match, the newest of equals, or one of those with SO_REUSEPORT."""
        users = self.users.get(to.port)
        if users is None:
            return None
        best = -1
        found: PortUser | None = None
        same: list[PortUser] = []
        v4 = is_v4(to.ip)
        for e in users:
            if self.streams and not e.listening:
                continue
            if not e.covers(to.ip):
                continue
            score = EXACT if e.ip == to.ip else WILD
            if v4 == (e.family == SO.AF_INET):
                score |= SAME_FAMILY
            peer = e.peername
            if peer is not None:
                if not peer.same(source):
                    continue
                score |= CONNECTED
            if score > best:
                best = score
                same = [e]
                found = e
            elif score == best:
                same.append(e)
                found = e
        if found is not None and found.reuse_port and len(same) > 1:
            return same[(source.port * 2654435761 >> 16) % len(same)]
        return found
