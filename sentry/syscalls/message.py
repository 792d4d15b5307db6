"""Messages: send(2), recv(2) and kin, with control data (cmsg(3))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.abi import signal as SIG
from sentry.abi import socket as SO
from sentry.abi import uio as UIO
from sentry.errors import Errno, Restart
from sentry.kernel import clock, signals
from sentry.kernel.wait import NO_DEADLINE
from sentry.net.socket import UCRED, Control, Cred, Received, Socket
from sentry.net.unix import rights
from sentry.net.unix.sockets import message_cred
from sentry.syscalls.socket import (
    IN_EVENTS,
    OUT_EVENTS,
    Sleep,
    read_address,
    socket_of,
    write_address,
)
from sentry.vfs.file import WOULD_BLOCK
from sentry.vfs.transfer import MAX_RW, Segment, gather, sum_of

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

MSGHDR: Final = struct.Struct("<QI4xQQQQI4x")  # struct msghdr
IOVEC: Final = struct.Struct("<QQ")
CMSGHDR: Final = struct.Struct("<Qii")
MMSGHDR: Final = 64  # struct mmsghdr; msg_len is behind the msghdr
TIMESPEC: Final = struct.Struct("<qq")
CONTROL_MAX: Final = 1 << 17
PIECE: Final = 1 << 20  # bytes of a stream that are taken from the guest at a time
NS: Final = 1_000_000_000
FLAGS_OFFSET: Final = 48
CONTROLLEN_OFFSET: Final = 40
NAMELEN_OFFSET: Final = 8
MAX_MESSAGES: Final = 1024  # UIO_MAXIOV bounds sendmmsg and recvmmsg, too


class Header:
    """A msghdr as the guest gave it."""

    def __init__(self, t: Task, addr: int) -> None:
        self.addr: int = addr
        self.name: int
        self.namelen: int
        self.control: int
        self.controllen: int
        self.name, namelen, iov, count, self.control, self.controllen, _ = MSGHDR.unpack(t.mm.read(addr, MSGHDR.size))
        self.namelen = namelen - 0x100000000 if namelen & 0x80000000 else namelen
        if self.namelen < 0:
            raise Errno(E.EINVAL)
        if count > UIO.UIO_MAXIOV:
            raise Errno(E.EMSGSIZE)
        self.iov: list[Segment] = read_segments(t, iov, count)


def read_segments(t: Task, iov: int, count: int) -> list[Segment]:
    """An array of struct iovec; the total is cut to what one call may move. EINVAL for a negative length."""
    data = t.mm.read(iov, IOVEC.size * count)
    out: list[Segment] = []
    total = 0
    for i in range(count):
        addr, length = IOVEC.unpack_from(data, i * IOVEC.size)
        if length >> 63:
            raise Errno(E.EINVAL)
        length = min(length, MAX_RW - total)
        total += length
        out.append(Segment(addr, length))
    return out


# Control data


def parse_control(t: Task, data: bytes) -> Control:
    """What the sender attaches: files and credentials (unix(7))."""
    control = Control(message_cred(t))
    try:
        at = 0
        while at + CMSGHDR.size <= len(data):
            length, level, kind = CMSGHDR.unpack_from(data, at)
            if length < CMSGHDR.size or at + length > len(data):
                raise Errno(E.EINVAL)
            body = data[at + CMSGHDR.size : at + length]
            if level == SO.SOL_SOCKET:
                if kind == SO.SCM_RIGHTS:
                    add_rights(t, control, body)
                elif kind == SO.SCM_CREDENTIALS:
                    control.cred = check_cred(t, body)
                    control.explicit = True
                else:
                    raise Errno(E.EINVAL)
            elif control.extra is None:
                control.extra = [(level, kind, body)]
            else:
                control.extra.append((level, kind, body))
            at += (length + 7) & ~7
    except Errno:
        control.drop()
        raise
    return control


def add_rights(t: Task, control: Control, body: bytes) -> None:
    count = len(body) // 4
    if len(control.rights) + count > rights.MAX_RIGHTS:
        raise Errno(E.EINVAL)
    for (fd,) in struct.iter_unpack("<i", body[: count * 4]):
        file = t.fds.get(fd)
        file.incref()
        control.rights.append(file)


def check_cred(t: Task, body: bytes) -> Cred:
    """SCM_CREDENTIALS: one's own ids unless capabilities allow others."""
    if len(body) != UCRED.size:
        raise Errno(E.EINVAL)
    pid, uid, gid = UCRED.unpack(body)
    c = t.creds
    if (
        (pid == t.tg.pid or c.has(C.CAP_SYS_ADMIN))
        and (uid in (c.ruid, c.euid, c.suid) or c.has(C.CAP_SETUID))
        and (gid in (c.rgid, c.egid, c.sgid) or c.has(C.CAP_SETGID))
    ):
        if pid != t.tg.pid and pid not in t.pidns.groups:
            raise Errno(E.ESRCH)
        return Cred(pid, uid, gid)
    raise Errno(E.EPERM)


class ControlWriter:
    """Fills the guest's control buffer."""

    def __init__(self, room: int) -> None:
        self.room: int = room
        self.out: bytearray = bytearray()
        self.cut: bool = False

    def space(self) -> int:
        """Bytes for the data of one more message."""
        return max(0, self.room - len(self.out) - CMSGHDR.size)

    def add(self, level: int, kind: int, body: bytes) -> None:
        left = self.room - len(self.out)
        if left < CMSGHDR.size:
            self.cut = True
            return
        if left < CMSGHDR.size + len(body):
            self.cut = True
            body = body[: left - CMSGHDR.size]
        self.out += CMSGHDR.pack(CMSGHDR.size + len(body), level, kind) + body
        padding = min(-len(body) % 8, self.room - len(self.out))
        self.out += bytes(padding)


def deliver_control(t: Task, s: Socket, got: Received, room: int, cloexec: bool) -> ControlWriter:
    """Credentials (if the receiver asked for them) and files become control data; files that find no room are closed."""
    w = ControlWriter(room)
    if s.passcred and got.cred is not None:
        w.add(SO.SOL_SOCKET, SO.SCM_CREDENTIALS, got.cred.pack())
    files = got.rights
    got.rights = []
    if files:
        fds: list[int] = []
        fits = w.space() // 4
        for file in files:
            if len(fds) < fits:
                try:
                    fds.append(t.fds.install(file, cloexec, t.tg.limits.soft(R.RLIMIT_NOFILE)))
                except Errno:
                    fits = len(fds)
            file.decref()
        if len(fds) < len(files):
            w.cut = True
        if fds:
            w.add(SO.SOL_SOCKET, SO.SCM_RIGHTS, struct.pack(f"<{len(fds)}i", *fds))
    if got.extra is not None:
        for level, kind, body in got.extra:
            w.add(level, kind, body)
    return w


# Sending


def send_all(t: Task, s: Socket, iov: list[Segment], addr: bytes | None, control: Control | None, flags: int) -> int:
    """Sends what the segments hold, waiting for room if that is allowed; SIGPIPE where a stream is broken."""
    size = sum_of(iov)
    wait = not (s.nonblocking or flags & SO.MSG_DONTWAIT)
    sleep: Sleep | None = None
    total = 0
    s.incref()
    try:
        while True:
            data = gather(t, iov, total, size if s.records else min(PIECE, size - total)) if size else b""
            if s.records and len(data) < size:
                raise Errno(E.EFAULT)
            done = 0
            while True:
                n = s.send(t, data[done:] if done else data, addr, control, flags)
                if n != WOULD_BLOCK:
                    done += n
                    total += n
                    if done >= len(data):
                        break
                    if n:
                        continue
                if not wait:
                    if total:
                        return total
                    raise Errno(E.EAGAIN)
                if sleep is None:
                    sleep = Sleep(t, s.waitq, OUT_EVENTS, s.write_timeout)
                    continue
                if not sleep.nap():
                    if total:
                        return total
                    sleep.fail()
            if total >= size or not data:
                return total
    except Errno as e:
        if e.errno == E.EPIPE and s.kind == SO.SOCK_STREAM and not flags & SO.MSG_NOSIGNAL:
            signals.send_to_task(t, signals.user_info(t, SIG.SIGPIPE))
        if total:
            return total
        raise
    finally:
        if sleep is not None:
            sleep.over()
        s.decref()


def send_header(t: Task, s: Socket, h: Header, flags: int) -> int:
    addr = read_address(t, h.name, h.namelen) if h.name and h.namelen else None
    control: Control | None = None
    if h.controllen:
        if h.controllen > CONTROL_MAX:
            raise Errno(E.ENOBUFS)
        control = parse_control(t, t.mm.read(h.control, h.controllen))
    try:
        return send_all(t, s, h.iov, addr, control, flags)
    finally:
        if control is not None:
            control.drop()


def sendto(t: Task, fd: int, buf: int, count: int, flags: int, addr: int, length: int) -> int:
    """sendto(2)."""
    s = socket_of(t, fd)
    address = read_address(t, addr, length) if addr and length else None
    return send_all(t, s, [Segment(buf, min(count, MAX_RW))], address, None, flags)


def sendmsg(t: Task, fd: int, msg: int, flags: int) -> int:
    """sendmsg(2)."""
    s = socket_of(t, fd)
    return send_header(t, s, Header(t, msg), flags)


def sendmmsg(t: Task, fd: int, msgs: int, count: int, flags: int) -> int:
    """sendmmsg(2)."""
    s = socket_of(t, fd)
    count = min(count, MAX_MESSAGES)
    sent = 0
    while sent < count:
        at = msgs + sent * MMSGHDR
        try:
            n = send_header(t, s, Header(t, at), flags)
            t.mm.write_u32(at + MSGHDR.size, n)
        except (Errno, Restart):
            if sent == 0:
                raise
            break
        sent += 1
    return sent


# Receiving


def receive_once(t: Task, s: Socket, count: int, flags: int) -> Received:
    """Waits for the next message or for some bytes of a stream."""
    got = s.receive(t, count, flags)
    if got is not None:
        return got
    if s.nonblocking or flags & SO.MSG_DONTWAIT:
        raise Errno(E.EAGAIN)
    sleep = Sleep(t, s.waitq, IN_EVENTS, s.read_timeout)
    s.incref()
    try:
        while True:
            got = s.receive(t, count, flags)
            if got is not None:
                return got
            if not sleep.nap():
                got = s.receive(t, count, flags)
                if got is not None:
                    return got
                sleep.fail()
    finally:
        sleep.over()
        s.decref()


def receive_all(t: Task, s: Socket, count: int, flags: int) -> Received:
    """With MSG_WAITALL as many bytes of a stream as were asked for, unless it ends, fails or brings files first."""
    got = receive_once(t, s, count, flags)
    if not flags & SO.MSG_WAITALL or s.kind != SO.SOCK_STREAM or flags & SO.MSG_PEEK:
        return got
    parts = [got.data]
    left = count - len(got.data)
    while left > 0 and parts[-1] and not got.rights:
        try:
            more = receive_once(t, s, left, flags)
        except (Errno, Restart):
            break
        parts.append(more.data)
        left -= len(more.data)
        if more.rights:
            got.rights = more.rights
    got.data = b"".join(parts)
    got.length = len(got.data)
    return got


def scatter(t: Task, iov: list[Segment], data: bytes) -> None:
    at = 0
    for seg in iov:
        if at >= len(data):
            return
        part = data[at : at + seg.length]
        t.mm.write(seg.addr, part)
        at += len(part)


def give_up(got: Received) -> None:
    files: list[File] = got.rights
    got.rights = []
    for file in files:
        file.decref()


def recvfrom(t: Task, fd: int, buf: int, count: int, flags: int, addr: int, length: int) -> int:
    """recvfrom(2)."""
    s = socket_of(t, fd)
    got = receive_all(t, s, min(count, MAX_RW), flags)
    give_up(got)
    t.mm.write(buf, got.data)
    if addr:
        write_address(t, got.name, addr, length)
    return got.length if flags & SO.MSG_TRUNC else len(got.data)


def receive_header(t: Task, s: Socket, h: Header, flags: int) -> int:
    got = receive_all(t, s, sum_of(h.iov), flags)
    try:
        scatter(t, h.iov, got.data)
        if h.name:
            t.mm.write(h.name, got.name[: h.namelen])
    except Errno:
        give_up(got)
        raise
    w = deliver_control(t, s, got, h.controllen if h.control else 0, bool(flags & SO.MSG_CMSG_CLOEXEC))
    if w.out:
        t.mm.write(h.control, bytes(w.out))
    result_flags = got.flags | (SO.MSG_CTRUNC if w.cut else 0) | flags & SO.MSG_CMSG_CLOEXEC
    if h.name:
        t.mm.write_u32(h.addr + NAMELEN_OFFSET, len(got.name))
    t.mm.write_u64(h.addr + CONTROLLEN_OFFSET, len(w.out))
    t.mm.write_u32(h.addr + FLAGS_OFFSET, result_flags)
    return got.length if flags & SO.MSG_TRUNC else len(got.data)


def recvmsg(t: Task, fd: int, msg: int, flags: int) -> int:
    """recvmsg(2)."""
    s = socket_of(t, fd)
    return receive_header(t, s, Header(t, msg), flags)


def recvmmsg(t: Task, fd: int, msgs: int, count: int, flags: int, timeout: int) -> int:
    """recvmmsg(2). As in Linux the timeout is only looked at after each message."""
    s = socket_of(t, fd)
    deadline = NO_DEADLINE
    if timeout:
        sec, nsec = TIMESPEC.unpack(t.mm.read(timeout, TIMESPEC.size))
        if sec < 0 or not 0 <= nsec < NS:
            raise Errno(E.EINVAL)
        deadline = clock.monotonic() + min(sec, 1 << 31) * NS + nsec
    count = min(count, MAX_MESSAGES)
    got = 0
    while got < count:
        at = msgs + got * MMSGHDR
        how = flags & ~SO.MSG_WAITFORONE
        if flags & SO.MSG_WAITFORONE and got:
            how |= SO.MSG_DONTWAIT
        try:
            n = receive_header(t, s, Header(t, at), how)
            t.mm.write_u32(at + MSGHDR.size, n)
        except (Errno, Restart):
            if got == 0:
                raise
            break
        got += 1
        if deadline != NO_DEADLINE and clock.monotonic() >= deadline:
            break
    if timeout:
        left = max(0, deadline - clock.monotonic())
        t.mm.write(timeout, TIMESPEC.pack(left // NS, left % NS))
    return got
