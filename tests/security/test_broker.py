"""The broker treats the sentry as compromised: garbage, wrong descriptors, forbidden sockets; and what it is itself confined to."""

from __future__ import annotations

import array
import errno
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import wire
from broker.client import Broker
from tests.harness import Sandbox

LO = struct.pack("<H", socket.AF_INET) + struct.pack(">H", 0) + bytes([127, 0, 0, 1]) + bytes(8)


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, int]]:
    """The sentry's end of the line to a broker, and the broker's process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ready, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        from broker import main

        ours.close()
        os.close(ready)
        main.run(main.BrokerSpec(theirs.fileno(), "", said))
    theirs.close()
    os.close(said)
    with os.fdopen(ready, "rb") as f:
        assert f.readline() == b"ok\n"
    yield ours, pid
    ours.close()
    os.waitpid(pid, 0)


def broker_of(ours: socket.socket) -> Broker:
    return Broker(ours.dup().detach())


def inner(pid: int) -> int:
    """The process that serves: the one child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def opened(pid: int) -> list[str]:
    """What the broker has open."""
    folder = f"/proc/{inner(pid)}/fd"
    return sorted(os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))


def test_sockets_that_it_makes(line: tuple[socket.socket, int]) -> None:
    broker = broker_of(line[0])
    for domain in (socket.AF_INET, socket.AF_INET6):
        for kind, protocol in ((socket.SOCK_STREAM, 6), (socket.SOCK_DGRAM, 17)):
            fd = broker.socket(domain, kind, protocol)
            assert not os.get_blocking(fd)
            os.close(fd)
    for domain in range(50):
        for kind in range(8):
            for protocol in (0, 1, 6, 17, 58, 132, 255):
                if domain in (2, 10) and (kind, protocol) in ((1, 6), (2, 17)):
                    continue
                with pytest.raises(OSError, match=r"Protocol not supported|Invalid argument"):
                    broker.socket(domain, kind, protocol)


def test_descriptors_that_it_takes(line: tuple[socket.socket, int]) -> None:
    broker = broker_of(line[0])
    a, b = socket.socketpair()
    raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    for fd in (a.fileno(), raw.fileno(), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH)):
        for call in (broker.bind, broker.connect):
            with pytest.raises(OSError, match="Invalid argument"):
                call(fd, LO)
    fd = broker.socket(socket.AF_INET, socket.SOCK_STREAM, 6)
    broker.bind(fd, LO)
    for addr in (b"", b"\0", LO[:8], LO + b"\0", b"\1\0/tmp/x", LO * 3, b"\xff" * 16):
        with pytest.raises(OSError, match="Invalid argument"):
            broker.bind(fd, addr)
    a.close()
    b.close()


def settled(pid: int, wanted: int) -> int:
    """How many descriptors it holds, once that is `wanted` or a second has passed: it closes those of a request after its answer."""
    for _ in range(50):
        count = len(os.listdir(f"/proc/{inner(pid)}/fd"))
        if count == wanted:
            break
        time.sleep(0.02)
    return count


def test_garbage(line: tuple[socket.socket, int]) -> None:
    """Random requests with random descriptors; afterwards it still answers and has kept nothing open."""
    ours, pid = line
    r = random.Random(7)
    broker_of(ours).tables()
    before = settled(pid, -1)
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(500):
        data = r.randbytes(r.randrange(1, 200))
        if r.random() < 0.5:
            data = wire.REQUEST.pack(r.randrange(6), r.choice((2, 10)), r.choice((1, 2)), r.choice((6, 17))) + data[:30]
        fds = [null] * r.choice((0, 0, 1, 1, 2, 4, 9))
        ours.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        while True:
            answer, got, _, _ = socket.recv_fds(ours, 1 << 16, 4)
            for fd in got:
                os.close(fd)
            assert len(answer) >= wire.ANSWER.size
            if not wire.ANSWER.unpack_from(answer)[1]:
                break
    os.close(null)
    assert settled(pid, before) == before
    assert broker_of(ours).tables()["links"]


def test_end(line: tuple[socket.socket, int]) -> None:
    """It ends with status 0 when the sentry has gone."""
    line[0].close()
    ended = os.waitid(os.P_PID, line[1], os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)


def test_an_empty_message_is_no_end(line: tuple[socket.socket, int]) -> None:
    """SOCK_SEQPACKET can't tell an empty message from the end: the broker ends, which ends the sandbox, and no more."""
    ours, pid = line
    ours.send(b"")
    with pytest.raises(OSError, match="down"):
        broker_of(ours).socket(socket.AF_INET, socket.SOCK_STREAM, 6)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)


@pytest.mark.root
def test_confinement(line: tuple[socket.socket, int]) -> None:
    pid = inner(line[1])
    status = dict(
        text.split(":\t", 1) for text in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in text
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 10
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert os.listdir(f"/proc/{pid}/root/") == []
    for name in ("mnt", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    kinds = sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2)
    assert kinds.count("socket") >= 2


def test_gone(line: tuple[socket.socket, int]) -> None:
    broker = broker_of(line[0])
    os.kill(inner(line[1]), 9)
    with pytest.raises(OSError, match="down") as caught:
        broker.socket(socket.AF_INET, socket.SOCK_STREAM, 6)
    assert caught.value.errno == errno.ENETDOWN


@pytest.mark.root
def test_low_ports_need_the_guests_capability(sandbox: Sandbox) -> None:
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 81))"
    done = sandbox.run(["python3", "-c", code], ["--network", "host", "--user", "1000"])
    assert done.status == 1
    assert "Permission denied" in done.err
