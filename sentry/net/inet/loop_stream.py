"""TCP inside the sentry: two endpoints that hand bytes to each other (tcp(7)). What Linux does over lo, without packets.

There is no loss, so there are no retransmissions and no TIME_WAIT: a port is free as soon as its connection is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import poll as P
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.net.inet.ports import PortUser
from sentry.net.stack import ANY4, ANY6, LOOPBACK4, LOOPBACK6, Endpoint, Name, is_v4
from sentry.vfs.file import WOULD_BLOCK

if TYPE_CHECKING:
    from sentry.kernel.timers import Timer
    from sentry.net.inet.loopback import Loopback

READABLE: Final = P.POLLIN | P.POLLRDNORM
WRITABLE: Final = P.POLLOUT | P.POLLWRNORM
EVERYTHING: Final = READABLE | WRITABLE | P.POLLHUP | P.POLLRDHUP | P.POLLERR
SYN_TIMEOUT: Final = 127_000_000_000  # ns until a connect to a full listener gives up (net.ipv4.tcp_syn_retries)
SNDBUF: Final = 1 << 20  # bytes in flight to a peer that does not read, unless SO_SNDBUF says otherwise
LOW_SNDBUF: Final = 16384  # the same while the stack holds too much
SHUT_RCV: Final = 1
SHUT_SND: Final = 2
BOTH: Final = 3

# Where an endpoint is in its life; TCP_* are computed from it.
IDLE: Final = 0
LISTENS: Final = 1
WAITS: Final = 2  # for room in a listener's backlog
OPEN: Final = 3
OVER: Final = 4  # reset, refused, or closed from both sides


class LoopStream(PortUser):
    def __init__(self, stack: Loopback, family: int) -> None:
        super().__init__(family, SO.SOCK_STREAM, stack, stack.tcp)
        self.phase: int = IDLE
        self.peer: LoopStream | None = None
        self.down: int = 0  # own SHUT_RCV and SHUT_SND
        self.fin: bool = False  # the peer sends no more
        self.closed: bool = False
        self.queue: list[bytes] = []  # received, not read
        self.start: int = 0  # bytes of queue[0] that were read
        self.held: int = 0  # bytes in the queue
        self.starved: bool = False  # was told that there is no room
        self.sndbuf: int = SNDBUF
        self.backlog: int = 0
        self.pending: list[LoopStream] = []  # connections to accept
        self.waiting: list[LoopStream] = []  # connects that found the backlog full
        self.server: LoopStream | None = None  # the listener that we wait for
        self.timer: Timer | None = None

    # Names

    def remote(self) -> Name | None:
        return self.peername if self.phase == OPEN else None

    # Connections

    def connect(self, name: Name) -> int:
        self.stack.check_route(name.ip)
        to = Name(self.stack.target(name.ip), name.port)
        self.start_over()
        bound = self.ip
        if bound in (ANY4, ANY6):
            self.ip = LOOPBACK4 if is_v4(to.ip) else LOOPBACK6
        elif is_v4(bound) != is_v4(to.ip):
            raise Errno(E.ENETUNREACH)
        tcp = self.stack.tcp
        if self.port == 0:
            tcp.add(self, tcp.free_for(self, to))
        elif tcp.connection(self.ip, self.port, to):
            self.ip = bound
            raise Errno(E.EADDRNOTAVAIL)
        self.peername = to
        if to.ip == self.ip and to.port == self.port:
            self.join(self)  # a connection to itself
            return 0
        server = tcp.find(to, self.local())
        if not isinstance(server, LoopStream):
            self.fail(E.ECONNREFUSED)
            return E.EINPROGRESS
        if len(server.pending) > server.backlog:
            server.waiting.append(self)
            self.server = server
            self.phase = WAITS
            self.timer = self.stack.kernel.timers.at(clock.monotonic() + SYN_TIMEOUT, self.time_out)
            return E.EINPROGRESS
        server.take(self)
        return 0

    def take(self, client: LoopStream) -> None:
        """A listener gets a connection."""
        to = client.peername
        assert to is not None
        end = LoopStream(self.stack, self.family)
        end.ip = to.ip
        end.peername = client.local()
        end.reuse_addr = self.reuse_addr
        end.reuse_port = self.reuse_port
        end.v6only = self.v6only
        end.sndbuf = self.sndbuf
        end.uid = self.uid
        self.stack.tcp.add(end, self.port)
        self.stack.streams[id(end)] = end
        client.join(end)
        self.pending.append(end)
        self.waitq.notify(READABLE)

    def join(self, other: LoopStream) -> None:
        self.peer = other
        other.peer = self
        self.phase = other.phase = OPEN

    def progress(self) -> int:
        if self.phase == WAITS:
            return E.EINPROGRESS
        if self.phase == OVER:
            raise Errno(self.take_error() or E.ECONNABORTED)
        return 0

    def fail(self, error: int) -> None:
        """A connect has failed, or the connection was reset."""
        self.stop_waiting()
        self.error = error
        self.phase = OVER
        self.peer = None
        self.down = BOTH
        self.waitq.notify(EVERYTHING)

    def start_over(self) -> None:
        """Forgets a connection that failed."""
        self.phase = IDLE
        self.peername = None
        self.down = 0
        self.fin = False
        self.error = 0
        if not self.chosen:
            self.stack.tcp.remove(self)
        self.ip = self.bound

    def time_out(self) -> None:
        if self.phase == WAITS:
            self.fail(E.ETIMEDOUT)

    def stop_waiting(self) -> None:
        if self.server is not None:
            if self in self.server.waiting:
                self.server.waiting.remove(self)
            self.server = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def disconnect(self) -> None:
        self.stop_waiting()
        if self.phase == LISTENS:
            self.end_listening()
        elif self.phase == OPEN:
            self.leave(E.ECONNRESET)
        self.start_over()

    def listen(self, backlog: int) -> None:
        if self.phase not in (IDLE, LISTENS):
            raise Errno(E.EINVAL)
        tcp = self.stack.tcp
        if self.port == 0:
            tcp.bind(self, 0)
        if self.phase == IDLE:
            self.listening = True
            if tcp.conflict(self, self.port):
                self.listening = False
                raise Errno(E.EADDRINUSE)
        self.phase = LISTENS
        self.down = 0
        self.backlog = min(backlog & 0xFFFFFFFF, self.stack.settings.somaxconn)
        self.let_in()

    def let_in(self) -> None:
        """There may be room in the backlog."""
        while self.waiting and len(self.pending) <= self.backlog:
            client = self.waiting.pop(0)
            client.server = None
            client.stop_waiting()
            self.take(client)
            client.waitq.notify(WRITABLE)

    def accept(self) -> Endpoint | None:
        if self.phase != LISTENS:
            raise Errno(E.EINVAL)
        if not self.pending:
            return None
        end = self.pending.pop(0)
        if self.waiting:
            self.let_in()
        return end

    # Bytes

    def read(self, count: int, peek: bool) -> bytes | None:
        queue = self.queue
        if not queue:
            return self.nothing()
        first = queue[0]
        start = self.start
        left = len(first) - start
        if count < left:
            data = first[start : start + count]
            if not peek:
                self.start = start + count
                self.taken(count)
            return data
        if count == left or len(queue) == 1:
            data = first[start:] if start else first
            if not peek:
                del queue[0]
                self.start = 0
                self.taken(left)
            return data
        return self.read_pieces(count, peek)

    def read_pieces(self, count: int, peek: bool) -> bytes:
        parts: list[bytes] = []
        used = 0
        start = self.start
        total = 0
        for piece in self.queue:
            part = piece[start : start + count - total]
            parts.append(part)
            total += len(part)
            if start + len(part) < len(piece):
                start += len(part)
                break
            used += 1
            start = 0
            if total == count:
                break
        if not peek:
            del self.queue[:used]
            self.start = start
            self.taken(total)
        return b"".join(parts)

    def nothing(self) -> bytes | None:
        """What a read says when there are no bytes."""
        if self.fin:
            return b""
        if self.error:
            raise Errno(self.take_error())
        if self.down & SHUT_RCV and self.phase != IDLE:
            return b""
        if self.phase in (IDLE, LISTENS):
            raise Errno(E.ENOTCONN)
        return None

    def taken(self, count: int) -> None:
        """Bytes have left the queue: the peer has room."""
        self.held -= count
        self.stack.held -= count
        peer = self.peer
        if peer is not None and peer.starved and self.held * 3 <= peer.limit() * 2:
            peer.starved = False
            peer.waitq.notify(WRITABLE)

    def limit(self) -> int:
        """Bytes that may wait at the peer."""
        return self.sndbuf if self.stack.roomy() else min(self.sndbuf, LOW_SNDBUF)

    def write(self, data: bytes) -> int:
        if self.error:
            raise Errno(self.take_error())
        if self.down & SHUT_SND:
            raise Errno(E.EPIPE)
        if self.phase != OPEN:
            if self.phase == WAITS:
                return WOULD_BLOCK
            raise Errno(E.EPIPE)
        peer = self.peer
        assert peer is not None
        n = len(data)
        if peer.closed:
            self.fail(E.EPIPE if self.fin else E.ECONNRESET)
            return n
        room = self.limit() - peer.held
        if room <= 0:
            if n == 0:
                return 0
            self.starved = True
            return WOULD_BLOCK
        if n > room:
            data = data[:room]
            n = room
        if n:
            peer.queue.append(data)
            peer.held += n
            stack = self.stack
            stack.held += n
            stack.packets += 1
            stack.bytes += n
            peer.waitq.notify(READABLE)
        return n

    def unread(self) -> int:
        return self.held

    def unsent(self) -> int:
        return 0

    # Ends

    def shutdown(self, how: int) -> None:
        mode = how + 1
        if self.phase == LISTENS:
            if mode & SHUT_RCV:
                self.end_listening()
                self.phase = IDLE
                self.waitq.notify(EVERYTHING)
            return
        if self.phase == WAITS:
            self.fail(0)
            return
        if self.phase != OPEN:
            raise Errno(E.ENOTCONN)
        if mode & SHUT_SND and not self.down & SHUT_SND:
            self.end_sending()
        self.down |= mode
        self.settle()
        self.waitq.notify(EVERYTHING)

    def end_sending(self) -> None:
        self.down |= SHUT_SND
        peer = self.peer
        if peer is not None:
            peer.fin = True
            peer.settle()
            peer.waitq.notify(READABLE | P.POLLRDHUP | P.POLLHUP)

    def settle(self) -> None:
        """Both directions are at their end: so is the connection."""
        if self.phase == OPEN and self.fin and self.down & SHUT_SND:
            self.phase = OVER
            self.down = BOTH

    def end_listening(self) -> None:
        self.listening = False
        pending, self.pending = self.pending, []
        for end in pending:
            end.leave(E.ECONNRESET)
            end.forget()
        waiting, self.waiting = self.waiting, []
        for client in waiting:
            client.server = None
            client.fail(E.ECONNREFUSED)

    def leave(self, error: int) -> None:
        """Resets the connection: the peer sees `error`."""
        peer = self.peer
        self.peer = None
        self.phase = OVER
        if peer is not None and peer is not self and peer.peer is self:
            if not peer.closed:
                peer.fail(E.EPIPE if peer.fin else error)
            peer.peer = None

    def close(self, linger: int) -> None:
        if self.closed:
            return
        self.stop_waiting()
        if self.phase == LISTENS:
            self.end_listening()
        elif self.phase == OPEN:
            if self.held or linger == 0:
                self.leave(E.ECONNRESET)
            elif not self.down & SHUT_SND:
                self.end_sending()
        self.forget()

    def forget(self) -> None:
        """The endpoint is gone for everybody but a peer that has not noticed."""
        self.closed = True
        self.stack.held -= self.held
        self.held = 0
        self.queue = []
        peer = self.peer
        if peer is not None and peer.closed:
            peer.peer = None
            self.peer = None
        self.stack.tcp.remove(self)
        self.stack.streams.pop(id(self), None)

    # Readiness

    def poll(self) -> int:
        phase = self.phase
        if phase == LISTENS:
            return READABLE if self.pending else 0
        events = P.POLLERR if self.error else 0
        down = self.down
        if self.fin:
            down |= SHUT_RCV
        if down == BOTH or phase in (IDLE, OVER):
            events |= P.POLLHUP
        if down & SHUT_RCV:
            events |= READABLE | P.POLLRDHUP
        if phase == WAITS:
            return events
        if self.queue:
            events |= READABLE
        peer = self.peer
        if down & SHUT_SND or peer is None or peer.held * 3 <= self.limit() * 2:
            events |= WRITABLE
        else:
            self.starved = True
        return events

    def state(self) -> int:
        phase = self.phase
        if phase == OPEN:
            if self.fin:
                return SO.TCP_CLOSE_WAIT
            return SO.TCP_FIN_WAIT2 if self.down & SHUT_SND else SO.TCP_ESTABLISHED
        if phase == LISTENS:
            return SO.TCP_LISTEN
        return SO.TCP_SYN_SENT if phase == WAITS else SO.TCP_CLOSE

    def set_option(self, level: int, name: int, value: bytes) -> None:
        self.stack.note_option(self, level, name, value)
        if level == SO.SOL_SOCKET and name == SO.SO_SNDBUF:
            self.sndbuf = int.from_bytes(value[:4], "little")
