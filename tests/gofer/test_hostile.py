"""Garbage on both ends: one clear error, no crash, nothing leaked. Seeds are printed."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import threading
from pathlib import Path

import pytest

from gofer.client import Client, GoferGone
from gofer.fid import P9Error
from gofer.p9 import const as C
from gofer.p9.wire import ProtocolError, Reader
from tests.gofer.harness import Gofer

TYPES = [
    value
    for name, value in vars(C).items()
    if name.startswith("T") and isinstance(value, int) and name not in ("TVERSION",)
]


def message(kind: int, body: bytes, tag: int = 0) -> bytes:
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    head = sock.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return b""
    (n,) = struct.unpack("<I", head)
    return head + sock.recv(n - 4, socket.MSG_WAITALL)


def hello(sock: socket.socket) -> None:
    reply = ask(sock, message(C.TVERSION, struct.pack("<IH", C.MSIZE, 16) + C.VERSION_CORDON, C.NOTAG))
    assert reply[4] == C.TVERSION + 1
    reply = ask(sock, message(C.TATTACH, struct.pack("<IIHHI", 0, C.NOFID, 0, 0, C.NONUNAME)))
    assert reply[4] == C.TATTACH + 1


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def random_body(r: random.Random) -> bytes:
    """Fields that look right, with wrong lengths and numbers among them."""
    parts = []
    for _ in range(r.randrange(8)):
        parts.append(
            r.choice(
                [
                    lambda: struct.pack("<I", r.choice([0, 1, 2, 3, 0xFFFFFFFF, r.getrandbits(32)])),
                    lambda: struct.pack("<H", r.choice([0, 1, 2, 64, 65, 0xFFFF])),
                    lambda: struct.pack("<H", 4) + b"file",
                    lambda: struct.pack("<H", 2) + b"..",
                    lambda: struct.pack("<Q", r.choice([0, 1, 1 << 63, r.getrandbits(64)])),
                    lambda: r.randbytes(r.randrange(40)),
                ]
            )()
        )
    return b"".join(parts)


def test_server_survives_random_messages(tree: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    with Gofer((os.fsencode(tree), True)) as g:
        sock = g.sockets[0]
        hello(sock)
        (pid,) = g.children()
        for _ in range(5000):
            kind = r.choice(TYPES) if r.random() < 0.9 else r.randrange(256)
            if kind in (C.TCLUNKN, C.TVERSION):
                sock.sendall(message(C.TCLUNKN, random_body(r)))
                continue
            tag = r.randrange(0x7FFF)
            reply = ask(sock, message(kind, random_body(r), tag))
            assert struct.unpack_from("<H", reply, 5)[0] == tag
            if reply[4] == C.RLERROR:
                (errno,) = struct.unpack_from("<I", reply, 7)
                assert 0 < errno < 4096
        reply = ask(sock, message(C.TVERSION, struct.pack("<IH", C.MSIZE, 16) + C.VERSION_CORDON, C.NOTAG))
        assert reply[4] == C.TVERSION + 1
        assert descriptors(pid) < 12
        assert g.status() == 0
        assert g.process.stderr is not None
        assert "Traceback" not in g.process.stderr.read()


@pytest.mark.parametrize("size", [0, 6, 7, C.MSIZE + 1, 0xFFFFFFFF])
def test_server_hangs_up_on_bad_framing(tree: Path, size: int) -> None:
    with Gofer((os.fsencode(tree), True)) as g:
        hello(g.sockets[0])
        g.sockets[0].sendall(struct.pack("<IBH", size, C.TGETATTR, 0))
        if size == 7:
            assert g.sockets[0].recv(100)[4] == C.RLERROR
        else:
            assert g.sockets[0].recv(100) == b""
            assert g.process.wait(10) == 0


def test_server_bounds_fids(tree: Path) -> None:
    """More fids than it has descriptors for: an errno, and it goes on."""
    with Gofer((os.fsencode(tree), True)) as g:
        c = g.client()
        with pytest.raises(P9Error):
            for _ in range(100_000):
                w = c.walk(0, [b"dir"])
                if w.status:
                    raise P9Error(w.status)
        assert c.getattr(0).mode & 0o40000
        c.close()


def test_server_answers_pipelined_and_split_messages(tree: Path) -> None:
    with Gofer((os.fsencode(tree), True)) as g:
        sock = g.sockets[0]
        hello(sock)
        requests = b"".join(message(C.TGETATTR, struct.pack("<IQ", 0, 0), tag) for tag in range(50))
        for i in range(0, len(requests), 11):
            sock.sendall(requests[i : i + 11])
        got = b""
        while len(got) < 50 * (7 + C.ATTR):
            got += sock.recv(65536)
        tags = [struct.unpack_from("<H", got, i * (7 + C.ATTR) + 5)[0] for i in range(50)]
        assert tags == list(range(50))


class Fake:
    """A hostile server: answers each request with what `answer` makes of it."""

    def __init__(self, answer: object) -> None:
        self.ours, theirs = socket.socketpair()
        self.answer = answer
        self.thread = threading.Thread(target=self.serve, args=(theirs,), daemon=True)
        self.thread.start()

    def serve(self, sock: socket.socket) -> None:
        try:
            while head := sock.recv(7, socket.MSG_WAITALL):
                n, kind, tag = struct.unpack("<IBH", head)
                sock.recv(n - 7, socket.MSG_WAITALL) if n > 7 else b""
                if kind == C.TVERSION:
                    body = struct.pack("<IH", C.MSIZE, 16) + C.VERSION_CORDON
                    sock.sendall(message(kind + 1, body, tag))
                elif kind == C.TATTACH:
                    sock.sendall(message(kind + 1, bytes(13), tag))
                elif kind == C.TGETATTR:
                    sock.sendall(message(kind + 1, ATTR, tag))
                elif kind != C.TCLUNKN:
                    self.answer(sock, kind, tag)  # type: ignore[operator]
        except OSError:
            pass
        finally:
            sock.close()


ATTR = struct.pack("<QBIQIIIQQQQQ", C.GETATTR_ALL, 0x80, 0, 2, 0o40755, 0, 0, 1, 0, 0, 4096, 0) + bytes(80)


def own_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_client_survives_random_answers() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)

    def answer(sock: socket.socket, kind: int, tag: int) -> None:
        body = random_body(r)
        if r.random() < 0.5:
            body = (
                struct.pack("<IH", r.choice([0, 2, 99999]), r.choice([0, 1, 2]))
                + ATTR * r.randrange(3)
                + body
            )
        data = message(
            kind + 1 if r.random() < 0.8 else r.randrange(256), body, tag if r.random() < 0.9 else 1
        )
        broken = r.random() < 0.3
        if broken:
            data = bytearray(data)
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        n = r.choice([0, 0, 1, 2, 8])
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(n)]
        if fds:
            socket.send_fds(sock, [bytes(data)], fds)
        else:
            sock.sendall(data)
        for fd in fds:
            os.close(fd)
        if broken:
            raise OSError  # hangs up: a longer length would be waited for

    before = own_descriptors()
    outcomes = set()
    for _ in range(400):
        fake = Fake(answer)
        c = Client(fake.ours.detach())
        c.start()
        try:
            w = c.walk(0, [b"a", b"b"], os.O_RDONLY)
            if w.hostfd >= 0:
                os.close(w.hostfd)
            c.readdir(0, 0)
            _, fd = c.open(0, 0)
            os.close(fd)
        except GoferGone as e:
            outcomes.add("two lines" if "\n" in str(e) else "gone")
            with pytest.raises(GoferGone):
                c.getattr(0)
        except P9Error:
            outcomes.add("error")
        c.close()
        fake.thread.join(5)
    assert "gone" in outcomes
    assert "two lines" not in outcomes
    assert len(own_descriptors() - before) <= 1


def test_client_refuses_a_descriptor_that_is_no_file() -> None:
    def answer(sock: socket.socket, kind: int, tag: int) -> None:
        r, w = os.pipe()
        socket.send_fds(sock, [message(kind + 1, ATTR + b"\1", tag)], [r])
        os.close(r)
        os.close(w)

    before = own_descriptors()
    fake = Fake(answer)
    c = Client(fake.ours.detach())
    c.start()
    with pytest.raises(GoferGone, match="something else than a file"):
        c.open(0, 0)
    fake.thread.join(5)
    assert own_descriptors() <= before


def test_client_out_of_descriptors_is_an_errno(ro: Client) -> None:
    f = ro.walk(0, [b"file"]).fids[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(n) for n in own_descriptors()) + 1, hard))
    filler = []
    try:
        while True:
            filler.append(os.dup(0))
    except OSError:
        pass
    try:
        with pytest.raises(P9Error, match="23"):
            ro.open(f, os.O_RDONLY)
        assert ro.getattr(f).size == 6
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filler:
            os.close(fd)


def test_client_of_a_dead_server() -> None:
    a, b = socket.socketpair()
    c = Client(a.detach())
    b.close()
    with pytest.raises(GoferGone, match="gone"):
        c.start()
    with pytest.raises(GoferGone):
        c.getattr(0)


def test_client_when_the_gofer_is_killed(tree: Path) -> None:
    with Gofer((os.fsencode(tree), True)) as g:
        c = g.client()
        for pid in g.children():
            os.kill(pid, 9)
        g.process.wait(10)
        with pytest.raises(GoferGone, match="gone"):
            c.walk(0, [b"file"])
        c.close()


def test_reader_checks_every_bound() -> None:
    data = message(1, b"\x05\x00abc")
    with pytest.raises(ProtocolError):
        Reader(data).string()
    for n in range(len(ATTR)):
        with pytest.raises(ProtocolError):
            Reader(message(1, ATTR[:n])).attr()
    assert Reader(message(1, ATTR)).attr() is not None
