"""AF_UNIX sockets: stream, datagram and sequenced-packet (unix(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.socket import FAMILIES, Control, Cred, Family, Received, Socket
from sentry.net.unix import names, rights
from sentry.vfs.file import WOULD_BLOCK

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.kernel.wait import WaitQueue
    from sentry.net.unix.rights import Parcel
    from sentry.vfs.inode import Inode

READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM | P.POLLWRBAND
EVERYTHING: Final = READABLE | WRITABLE | P.POLLHUP | P.POLLRDHUP | P.POLLERR
OVERHEAD: Final = 576  # what a message costs its sender's buffer beside its bytes
QUEUE: Final = 512  # datagrams that wait at one socket (net.unix.max_dgram_qlen)
MAX_BACKLOG: Final = 4096  # net.core.somaxconn
SHUT_RCV: Final = 1
SHUT_SND: Final = 2


class Packet:
    """A message, or a piece of a stream, in a receive queue."""

    def __init__(self, data: bytes, sender: UnixSocket, cred: Cred) -> None:
        self.data: bytes = data
        self.start: int = 0  # bytes that were read
        self.sender: UnixSocket = sender
        self.name: bytes = sender.name
        self.cred: Cred = cred
        self.parcel: Parcel | None = None
        self.cost: int = len(data) + OVERHEAD


class UnixSocket(Socket):
    def __init__(self, t: Task, kind: int, flags: int) -> None:
        super().__init__(t, SO.AF_UNIX, kind, 0, flags)
        self.name: bytes = b""  # path, or abstract with its leading NUL
        self.node: Inode | None = None  # of a path
        self.peer: UnixSocket | None = None
        self.connected: bool = False  # stream and seqpacket
        self.dead: bool = False
        self.down: int = 0  # SHUT_RCV, SHUT_SND
        self.queue: list[Packet] = []
        self.held: int = 0  # bytes of the send buffer that receivers have not read
        self.backlog: int = -1  # listening if >= 0
        self.pending: list[UnixSocket] = []  # connections to accept
        self.crowd: list[UnixSocket] = []  # datagram sockets that wait for room in our queue
        self.own_cred: Cred = cred_of(t)  # when it connected or began to listen: the peer's SO_PEERCRED
        self.own_groups: list[int] = t.creds.groups
        self.its_cred: Cred | None = None
        self.its_groups: list[int] = []
        names.REGISTRY.sockets[self.ino] = self

    @property
    def stream(self) -> bool:
        return self.kind == SO.SOCK_STREAM

    @property
    def datagram(self) -> bool:
        return self.kind == SO.SOCK_DGRAM

    def listening(self) -> bool:
        return self.backlog >= 0

    @property
    def busy(self) -> int:
        return E.EAGAIN

    # Names

    def bind(self, t: Task, addr: bytes) -> None:
        name = names.parse(addr)
        if self.name:
            raise Errno(E.EADDRINUSE if name and names.taken(t, name) else E.EINVAL)
        if not name:
            self.name = names.autobind(self)
            return
        self.node = names.claim(t, self, name)
        self.name = name

    def sockname(self) -> bytes:
        return names.sockaddr(self.name)

    def peername(self) -> bytes:
        if self.peer is None:
            raise Errno(E.ENOTCONN)
        return names.sockaddr(self.peer.name)

    def peer_cred(self) -> Cred:
        return self.its_cred if self.its_cred is not None else super().peer_cred()

    def peer_groups(self) -> list[int]:
        if self.its_cred is None:
            raise Errno(E.ENODATA)
        return self.its_groups

    def know_peer(self, other: UnixSocket) -> None:
        self.its_cred = other.own_cred
        self.its_groups = other.own_groups

    # Connections

    def connect(self, t: Task, addr: bytes) -> WaitQueue | None:
        if self.datagram:
            self.connect_datagram(t, addr)
            return None
        if self.connected:
            raise Errno(E.EISCONN)
        if self.listening():
            raise Errno(E.EINVAL)
        server = names.find(t, names.parse(addr), self.kind)
        if not server.listening() or server.down & SHUT_RCV:
            raise Errno(E.ECONNREFUSED)
        if len(server.pending) > server.backlog:
            return server.waitq
        if self.passcred and not self.name:
            self.name = names.autobind(self)
        end = UnixSocket(t, self.kind, 0)
        end.name = server.name
        end.own_cred = server.own_cred
        end.own_groups = server.own_groups
        end.passcred = server.passcred
        end.sndbuf = server.sndbuf
        self.own_cred = cred_of(t)
        self.own_groups = t.creds.groups
        join(self, end)
        server.pending.append(end)
        server.waitq.notify(READABLE)
        self.waitq.notify(WRITABLE)
        return None

    def connect_datagram(self, t: Task, addr: bytes) -> None:
        if len(addr) >= 2 and addr[:2] == b"\0\0":  # AF_UNSPEC
            self.leave_peer()
            return
        if self.passcred and not self.name:
            self.name = names.autobind(self)
        other = names.find(t, names.parse(addr), self.kind)
        if other.peer is not None and other.peer is not self:
            raise Errno(E.EPERM)
        if other is not self.peer:
            self.leave_peer()
            self.peer = other
        self.waitq.notify(WRITABLE)

    def leave_peer(self) -> None:
        """A datagram socket gives up its peer: what that one had sent is lost."""
        old = self.peer
        if old is None:
            return
        self.peer = None
        if self in old.crowd:
            old.crowd.remove(self)
        if self.queue:
            self.empty_queue()
            if old.peer is self:
                old.error = E.ECONNRESET
                old.waitq.notify(P.POLLERR)

    def listen(self, t: Task, backlog: int) -> None:
        if self.datagram:
            raise Errno(E.EOPNOTSUPP)
        if not self.name or self.connected:
            raise Errno(E.EINVAL)
        grew = backlog > self.backlog
        self.backlog = max(0, min(backlog & 0xFFFFFFFF, MAX_BACKLOG))
        self.own_cred = cred_of(t)
        self.own_groups = t.creds.groups
        if grew:
            self.waitq.notify(WRITABLE)

    def accept(self, t: Task, flags: int) -> Socket | None:
        if self.datagram:
            raise Errno(E.EOPNOTSUPP)
        if not self.listening():
            raise Errno(E.EINVAL)
        if not self.pending:
            if self.down & SHUT_RCV:
                raise Errno(E.EINVAL)
            return None
        end = self.pending.pop(0)
        end.flags |= flags
        self.waitq.notify(WRITABLE)
        return end

    # Sending

    def send(self, t: Task, data: bytes, addr: bytes | None, control: Control | None, flags: int) -> int:
        if flags & SO.MSG_OOB:
            raise Errno(E.EOPNOTSUPP)
        if control is None:
            control = Control(message_cred(t))
        if self.stream:
            return self.send_stream(t, data, addr, control)
        return self.send_message(t, data, addr, control)

    def send_stream(self, t: Task, data: bytes, addr: bytes | None, control: Control) -> int:
        other = self.peer
        if addr is not None:
            raise Errno(E.EISCONN if self.connected else E.EOPNOTSUPP)
        if other is None:
            raise Errno(E.ENOTCONN)
        if self.down & SHUT_SND or other.dead or other.down & SHUT_RCV:
            raise Errno(E.EPIPE)
        n = len(data)
        piece = max(1, (self.sndbuf >> 1) - 64)
        done = 0
        while done < n and self.held < self.sndbuf:
            packet = Packet(data if n <= piece else data[done : done + piece], self, control.cred)
            if control.rights:
                packet.parcel = rights.take_off(t, control.rights)
                control.rights = []
            self.held += packet.cost
            other.queue.append(packet)
            done += len(packet.data)
        if done:
            other.waitq.notify(READABLE)
        elif n:
            return WOULD_BLOCK
        return done

    def send_message(self, t: Task, data: bytes, addr: bytes | None, control: Control) -> int:
        if addr is not None and not self.datagram:
            addr = None  # the address is ignored on a connection
        self.raise_error()
        if not self.datagram and not self.connected:
            raise Errno(E.ENOTCONN)
        if self.passcred and not self.name:
            self.name = names.autobind(self)
        if len(data) > self.sndbuf - 32:
            raise Errno(E.EMSGSIZE)
        if addr is not None:
            other = names.find(t, names.parse(addr), self.kind)
        elif self.peer is None:
            raise Errno(E.ENOTCONN)
        else:
            other = self.peer
        if self.datagram and other.peer is not None and other.peer is not self:
            raise Errno(E.EPERM)
        if other.dead:
            if not self.datagram:
                raise Errno(E.EPIPE)
            if addr is None:
                self.peer = None
            raise Errno(E.ECONNREFUSED)
        if self.down & SHUT_SND or other.down & SHUT_RCV:
            raise Errno(E.EPIPE)
        if self.held and self.held + len(data) + OVERHEAD > self.sndbuf:
            return WOULD_BLOCK
        if self.datagram and other is not self and len(other.queue) > QUEUE:
            if self not in other.crowd:
                other.crowd.append(self)
            return WOULD_BLOCK
        packet = Packet(data, self, control.cred)
        if control.rights:
            packet.parcel = rights.take_off(t, control.rights)
            control.rights = []
        self.held += packet.cost
        other.queue.append(packet)
        other.waitq.notify(READABLE)
        return len(data)

    def unsent(self) -> int:
        if self.listening():
            raise Errno(E.EINVAL)
        return self.held

    # Receiving

    def receive(self, t: Task, count: int, flags: int) -> Received | None:
        if flags & SO.MSG_OOB:
            raise Errno(E.EOPNOTSUPP if not self.stream else E.EINVAL)
        if self.stream:
            if not self.connected:
                raise Errno(E.EINVAL)
        elif not self.datagram and not self.connected:
            raise Errno(E.ENOTCONN)
        if not self.queue:
            self.raise_error()
            if self.down & SHUT_RCV:
                return Received(b"")
            return None
        return self.receive_stream(count, flags) if self.stream else self.receive_message(count, flags)

    def receive_stream(self, count: int, flags: int) -> Received:
        """Bytes of several packets at once, but not beyond one that carries files, nor of two senders where credentials count."""
        queue = self.queue
        first = queue[0]
        peek = bool(flags & SO.MSG_PEEK)
        got = Received(b"")
        got.cred = first.cred
        if first.name:
            got.name = names.sockaddr(first.name)
        parts: list[bytes] = []
        used = 0
        for packet in queue:
            if count <= 0:
                break
            if self.passcred and not packet.cred.same(first.cred):
                break
            start = packet.start
            data = packet.data
            part = data if start == 0 and count >= len(data) else data[start : start + count]
            parts.append(part)
            count -= len(part)
            parcel = packet.parcel
            if parcel is not None and parcel.files:
                if peek:
                    got.rights = parcel.files[:]
                    for file in got.rights:
                        file.incref()
                else:
                    got.rights = rights.land(parcel)
                    packet.parcel = None
            if not peek:
                packet.start = start + len(part)
            if start + len(part) < len(data):
                break
            used += 1
            if got.rights:
                break
        got.data = parts[0] if len(parts) == 1 else b"".join(parts)
        got.length = len(got.data)
        if used and not peek:
            done = queue[:used]
            del queue[:used]
            for packet in done:
                packet.sender.give_back(packet.cost)
        return got

    def receive_message(self, count: int, flags: int) -> Received:
        peek = bool(flags & SO.MSG_PEEK)
        packet = self.queue[0] if peek else self.queue.pop(0)
        data = packet.data
        got = Received(data if count >= len(data) else data[:count])
        got.length = len(data)
        if count < len(data):
            got.flags |= SO.MSG_TRUNC
        got.cred = packet.cred
        if packet.name:
            got.name = names.sockaddr(packet.name)
        if packet.parcel is not None:
            if peek:
                got.rights = packet.parcel.files[:]
                for file in got.rights:
                    file.incref()
            else:
                got.rights = rights.land(packet.parcel)
        if not peek:
            packet.sender.give_back(packet.cost)
            self.let_in()
        return got

    def give_back(self, cost: int) -> None:
        """A receiver has read what we sent."""
        self.held -= cost
        if not self.dead and self.writable_buffer():
            self.waitq.notify(WRITABLE)

    def let_in(self) -> None:
        """There is room in the queue for datagrams again."""
        if self.crowd and len(self.queue) <= QUEUE:
            crowd = self.crowd
            self.crowd = []
            for socket in crowd:
                socket.waitq.notify(WRITABLE)

    def unread(self) -> int:
        if self.listening():
            raise Errno(E.EINVAL)
        if not self.queue:
            return 0
        if self.stream:
            return sum(len(p.data) - p.start for p in self.queue)
        return len(self.queue[0].data)

    # Ends

    def shutdown(self, how: int) -> None:
        mode = how + 1  # SHUT_RD, SHUT_WR, SHUT_RDWR -> bits
        self.down |= mode
        other = self.peer
        if other is not None and not self.datagram:
            if mode & SHUT_RCV:
                other.down |= SHUT_SND
            if mode & SHUT_SND:
                other.down |= SHUT_RCV
            other.waitq.notify(EVERYTHING)
        self.waitq.notify(EVERYTHING)

    def empty_queue(self) -> None:
        queue = self.queue
        self.queue = []
        for packet in queue:
            if packet.parcel is not None:
                rights.discard(packet.parcel)
            packet.sender.give_back(packet.cost)

    def decref(self) -> None:
        super().decref()
        if rights.FLIGHT.sockets and self.refs == rights.FLIGHT.counts.get(id(self), -1) and not self.numbers():
            rights.collect()  # only messages refer to it now

    def release(self) -> None:
        self.dead = True
        names.REGISTRY.sockets.pop(self.ino, None)
        if self.name[:1] == b"\0" and names.REGISTRY.abstract.get((self.kind, self.name[1:])) is self:
            del names.REGISTRY.abstract[(self.kind, self.name[1:])]
        if self.node is not None and self.node.socket is self:
            self.node.socket = None
        other = self.peer
        if other is not None and not self.datagram:
            other.down = SHUT_RCV | SHUT_SND
            if self.queue:
                other.error = E.ECONNRESET
            other.waitq.notify(EVERYTHING)
        elif other is not None:
            self.leave_peer_quietly(other)
        self.empty_queue()
        for end in self.pending:
            if end.peer is not None:
                end.peer.error = E.ECONNRESET
            end.release()
        self.pending = []
        self.backlog = -1
        self.waitq.notify(EVERYTHING)
        self.let_in()
        rights.collect()

    def leave_peer_quietly(self, other: UnixSocket) -> None:
        if self in other.crowd:
            other.crowd.remove(self)
        self.peer = None

    def parcels(self) -> list[Parcel]:
        """Files in the queues of this socket and of connections that it has not accepted."""
        found = [p.parcel for p in self.queue if p.parcel is not None]
        for end in self.pending:
            found += end.parcels()
        return found

    # Readiness

    def writable_buffer(self) -> bool:
        return not self.listening() and self.held << 2 <= self.sndbuf

    def poll(self) -> int:
        events = P.POLLERR if self.error else 0
        down = self.down
        if down == SHUT_RCV | SHUT_SND:
            events |= P.POLLHUP
        if down & SHUT_RCV:
            events |= P.POLLRDHUP | READABLE
        if self.queue or self.pending:
            events |= READABLE
        if not self.datagram and not self.connected and not self.listening():
            events |= P.POLLHUP
        if self.writable_buffer():
            peer = self.peer
            if self.datagram and peer is not None and peer.peer is not self and len(peer.queue) > QUEUE:
                if self not in peer.crowd:
                    peer.crowd.append(self)
            else:
                events |= WRITABLE
        return events


def cred_of(t: Task) -> Cred:
    """What SO_PEERCRED shows: effective ids."""
    return Cred(t.tg.pid, t.creds.euid, t.creds.egid)


def message_cred(t: Task) -> Cred:
    """What a message carries unless its sender says otherwise: real ids."""
    return Cred(t.tg.pid, t.creds.ruid, t.creds.rgid)


def join(a: UnixSocket, b: UnixSocket) -> None:
    """Two ends of a connection."""
    a.peer = b
    b.peer = a
    a.connected = b.connected = not a.datagram
    a.know_peer(b)
    b.know_peer(a)


class UnixFamily(Family):
    def create(self, t: Task, kind: int, protocol: int, flags: int) -> Socket:
        if protocol not in (0, SO.AF_UNIX):
            raise Errno(E.EPROTONOSUPPORT)
        if kind == SO.SOCK_RAW:
            kind = SO.SOCK_DGRAM
        if kind not in (SO.SOCK_STREAM, SO.SOCK_DGRAM, SO.SOCK_SEQPACKET):
            raise Errno(E.ESOCKTNOSUPPORT)
        return UnixSocket(t, kind, flags & F.O_NONBLOCK)

    def pair(self, t: Task, kind: int, protocol: int, flags: int) -> tuple[Socket, Socket]:
        a = self.create(t, kind, protocol, flags)
        b = self.create(t, kind, protocol, flags)
        assert isinstance(a, UnixSocket) and isinstance(b, UnixSocket)
        join(a, b)
        return a, b


FAMILIES[SO.AF_UNIX] = UnixFamily()
