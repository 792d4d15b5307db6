"""What all sockets share: the interface of a protocol family, options of SOL_SOCKET, what a message carries (socket(7))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import ioctl as IO
from sentry.abi import socket as SO
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.anon import SOCKFS, AnonInode
from sentry.kernel.wait import WaitQueue
from sentry.net import ifioctl
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

BUFFER: Final = 212_992  # net.core.{r,w}mem_default and _max
MIN_SNDBUF: Final = 4608
MIN_RCVBUF: Final = 2304
NS: Final = 1_000_000_000
TIMEVAL: Final = struct.Struct("<qq")
INT: Final = struct.Struct("<i")
LINGER: Final = struct.Struct("<ii")
UCRED: Final = struct.Struct("<iII")
NOBODY: Final = 0xFFFFFFFF
I32_MAX: Final = 0x7FFFFFFF


class Cred:
    """Who sent or connected (struct ucred)."""

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid: int = pid
        self.uid: int = uid
        self.gid: int = gid

    def pack(self) -> bytes:
        return UCRED.pack(self.pid, self.uid, self.gid)

    def same(self, other: Cred) -> bool:
        return self.pid == other.pid and self.uid == other.uid and self.gid == other.gid


class Control:
    """What a message carries beside its bytes. The files hold a reference each until `drop` or delivery."""

    def __init__(self, cred: Cred) -> None:
        self.cred: Cred = cred
        self.explicit: bool = False  # the sender gave SCM_CREDENTIALS
        self.rights: list[File] = []
        self.extra: list[tuple[int, int, bytes]] | None = None  # (level, type, data) of other levels than SOL_SOCKET

    def drop(self) -> None:
        rights = self.rights
        self.rights = []
        for file in rights:
            file.decref()


class Received:
    """What one receive brings."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes = data
        self.length: int = len(data)  # of the whole message, if it was cut (MSG_TRUNC)
        self.name: bytes = b""  # sockaddr of the sender; empty when it has none
        self.cred: Cred | None = None
        self.rights: list[File] = []  # references that the caller owns
        self.flags: int = 0  # MSG_TRUNC, MSG_EOR
        self.extra: list[tuple[int, int, bytes]] | None = None  # other control messages: (level, type, data)


class Socket(File):
    """An open socket of any family. Methods never block; what they return when they would have to is said at each.

    A family derives from it and gives: bind, connect, listen, accept, send, receive, shutdown, sockname, peername, poll.
    """

    def __init__(self, t: Task, domain: int, kind: int, protocol: int, flags: int) -> None:
        inode = AnonInode(SOCKFS, S.S_IFSOCK | 0o777, t.creds)
        super().__init__(F.O_RDWR | flags, None, inode)
        self.ino: int = inode.attr.ino
        self.domain: int = domain
        self.kind: int = kind  # SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
        self.protocol: int = protocol
        self.records = kind != SO.SOCK_STREAM
        self.error: int = 0  # pending, told once by SO_ERROR or the next call
        self.sndbuf: int = BUFFER
        self.rcvbuf: int = BUFFER
        self.passcred: bool = False
        self.values: dict[int, int] = {}  # options that are only remembered

    # For the family

    def bind(self, t: Task, addr: bytes) -> None:
        raise Errno(E.EOPNOTSUPP)

    def connect(self, t: Task, addr: bytes) -> WaitQueue | None:
        """None: connected. Else the queue on which to wait for POLLOUT before the next attempt; `busy` says what a caller that
        does not want to wait gets."""
        raise Errno(E.EOPNOTSUPP)

    @property
    def busy(self) -> int:
        """errno of a non-blocking connect that is not done."""
        return E.EINPROGRESS

    def listen(self, t: Task, backlog: int) -> None:
        raise Errno(E.EOPNOTSUPP)

    def accept(self, t: Task, flags: int) -> Socket | None:
        """The next connection with these status flags, None when there is none yet."""
        raise Errno(E.EOPNOTSUPP)

    def send(self, t: Task, data: bytes, addr: bytes | None, control: Control | None, flags: int) -> int:
        """Bytes taken, or WOULD_BLOCK. Rights in `control` are the socket's once bytes were taken (with none, on return of 0)."""
        raise Errno(E.EOPNOTSUPP)

    def receive(self, t: Task, count: int, flags: int) -> Received | None:
        """None when nothing is there yet. flags: MSG_PEEK counts."""
        raise Errno(E.EOPNOTSUPP)

    def shutdown(self, how: int) -> None:
        """SHUT_RD, SHUT_WR or SHUT_RDWR."""
        raise Errno(E.EOPNOTSUPP)

    def sockname(self) -> bytes:
        raise Errno(E.EOPNOTSUPP)

    def peername(self) -> bytes:
        raise Errno(E.ENOTCONN)

    def peer_cred(self) -> Cred:
        """SO_PEERCRED."""
        return Cred(0, NOBODY, NOBODY)

    def peer_groups(self) -> list[int]:
        """SO_PEERGROUPS; ENODATA without a peer."""
        raise Errno(E.ENODATA)

    def listening(self) -> bool:
        return False

    def unread(self) -> int:
        """FIONREAD."""
        raise Errno(E.EINVAL)

    def unsent(self) -> int:
        """SIOCOUTQ."""
        return 0

    def own_option(self, t: Task, level: int, name: int) -> bytes:
        """getsockopt(2) at another level than SOL_SOCKET."""
        raise Errno(E.EOPNOTSUPP)

    def set_own_option(self, t: Task, level: int, name: int, value: bytes) -> None:
        raise Errno(E.EOPNOTSUPP)

    # As a file

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        if count == 0:
            return b""
        got = self.receive(t, count, 0)
        if got is None:
            return None
        for file in got.rights:
            file.decref()
        return got.data

    def write(self, t: Task, data: bytes, offset: int) -> int:
        return self.send(t, data, None, None, 0)

    def ioctl(self, t: Task, cmd: int, arg: int) -> int:
        if cmd == IO.FIONREAD:
            t.mm.write_u32(arg, self.unread())
        elif cmd == IO.TIOCOUTQ:
            t.mm.write_u32(arg, self.unsent())
        elif ifioctl.FIRST <= cmd <= ifioctl.LAST and t.kernel.stack is not None:
            return ifioctl.ioctl(t, t.kernel.stack, cmd, arg)
        else:
            raise Errno(E.ENOTTY)
        return 0

    def mapping(self, t: Task) -> None:
        return None

    def describe(self) -> bytes:
        return b"socket:[%d]" % self.ino

    # Options of SOL_SOCKET

    def take_error(self) -> int:
        """The pending error, which is gone then."""
        error = self.error
        self.error = 0
        return error

    def raise_error(self) -> None:
        if self.error:
            raise Errno(self.take_error())

    def option(self, t: Task, name: int) -> bytes:
        """getsockopt(2) at SOL_SOCKET."""
        if name in (SO.SO_RCVTIMEO_OLD, SO.SO_RCVTIMEO_NEW):
            return TIMEVAL.pack(self.read_timeout // NS, self.read_timeout % NS // 1000)
        if name in (SO.SO_SNDTIMEO_OLD, SO.SO_SNDTIMEO_NEW):
            return TIMEVAL.pack(self.write_timeout // NS, self.write_timeout % NS // 1000)
        if name == SO.SO_LINGER:
            linger = self.values.get(SO.SO_LINGER, -1)
            return LINGER.pack(int(linger >= 0), max(linger, 0))
        if name == SO.SO_PEERCRED:
            return self.peer_cred().pack()
        if name == SO.SO_PEERGROUPS:
            return b"".join(g.to_bytes(4, "little") for g in self.peer_groups())
        if name == SO.SO_COOKIE:
            return self.ino.to_bytes(8, "little")
        return INT.pack(self.int_option(name))

    def int_option(self, name: int) -> int:
        if name == SO.SO_TYPE:
            return self.kind
        if name == SO.SO_DOMAIN:
            return self.domain
        if name == SO.SO_PROTOCOL:
            return self.protocol
        if name == SO.SO_ERROR:
            return self.take_error()
        if name == SO.SO_ACCEPTCONN:
            return int(self.listening())
        if name == SO.SO_SNDBUF:
            return self.sndbuf
        if name == SO.SO_RCVBUF:
            return self.rcvbuf
        if name == SO.SO_PASSCRED:
            return int(self.passcred)
        if name == SO.SO_RCVLOWAT or name == SO.SO_SNDLOWAT:
            return 1
        if name == SO.SO_INCOMING_CPU:
            return -1
        if name in REMEMBERED:
            return self.values.get(name, 0)
        raise Errno(E.ENOPROTOOPT)

    def set_option(self, t: Task, name: int, value: bytes) -> None:
        """setsockopt(2) at SOL_SOCKET."""
        if name in (SO.SO_RCVTIMEO_OLD, SO.SO_RCVTIMEO_NEW):
            self.read_timeout = timeout(value)
            return
        if name in (SO.SO_SNDTIMEO_OLD, SO.SO_SNDTIMEO_NEW):
            self.write_timeout = timeout(value)
            return
        if len(value) < 4:
            raise Errno(E.EINVAL)
        number: int = INT.unpack_from(value)[0]
        if name == SO.SO_LINGER:
            if len(value) < LINGER.size:
                raise Errno(E.EINVAL)
            self.values[name] = min(LINGER.unpack_from(value)[1] & 0xFFFFFFFF, I32_MAX) if number else -1
        elif name == SO.SO_SNDBUF or name == SO.SO_SNDBUFFORCE:
            if name == SO.SO_SNDBUFFORCE:
                force(t)
            elif number < 0 or number > BUFFER:
                number = BUFFER
            self.sndbuf = max(2 * min(number, I32_MAX // 2), MIN_SNDBUF)
        elif name == SO.SO_RCVBUF or name == SO.SO_RCVBUFFORCE:
            if name == SO.SO_RCVBUFFORCE:
                force(t)
            elif number < 0 or number > BUFFER:
                number = BUFFER
            self.rcvbuf = max(2 * min(number, I32_MAX // 2), MIN_RCVBUF)
        elif name == SO.SO_PASSCRED:
            self.passcred = number != 0
        elif name == SO.SO_PRIORITY:
            if not 0 <= number <= 6 and not t.creds.has(C.CAP_NET_ADMIN):
                raise Errno(E.EPERM)
            self.values[name] = number
        elif name == SO.SO_RCVLOWAT:
            if number > 1:
                raise Errno(E.ENOPROTOOPT)  # reads return as soon as there is a byte
        elif name in REMEMBERED:
            self.values[name] = int(number != 0)
        else:
            raise Errno(E.ENOPROTOOPT)


# Flags that change nothing for local sockets, or only what a family asks `values` for.
REMEMBERED: Final = (
    SO.SO_REUSEADDR, SO.SO_REUSEPORT, SO.SO_KEEPALIVE, SO.SO_BROADCAST, SO.SO_OOBINLINE, SO.SO_DONTROUTE, SO.SO_NO_CHECK,
    SO.SO_PRIORITY, SO.SO_DEBUG,
)  # fmt: skip


def force(t: Task) -> None:
    if not t.creds.has(C.CAP_NET_ADMIN):
        raise Errno(E.EPERM)


def timeout(value: bytes) -> int:
    """A struct timeval in ns; 0 for none. EINVAL, EDOM."""
    if len(value) < TIMEVAL.size:
        raise Errno(E.EINVAL)
    sec, usec = TIMEVAL.unpack_from(value)
    if not 0 <= usec < 1_000_000:
        raise Errno(E.EDOM)
    if sec < 0:
        return 1
    ns: int = min(sec, 1 << 31) * NS + usec * 1000
    return ns


class Family:
    """A protocol family: makes sockets. A network stack is a family for AF_INET and AF_INET6."""

    def create(self, t: Task, kind: int, protocol: int, flags: int) -> Socket:
        """socket(2); flags: O_NONBLOCK. EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
        raise Errno(E.EAFNOSUPPORT)

    def pair(self, t: Task, kind: int, protocol: int, flags: int) -> tuple[Socket, Socket]:
        """socketpair(2), which makes the sockets before it finds that the family has no pairs."""
        self.create(t, kind, protocol, flags).release()
        raise Errno(E.EOPNOTSUPP)


FAMILIES: Final[dict[int, Family]] = {}  # by AF_*; a family that is not here is EAFNOSUPPORT
