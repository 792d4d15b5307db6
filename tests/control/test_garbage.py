"""Hostile and garbled input on the control socket: one clear error, and the sandbox goes on."""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cordon.control import Connection, ControlError, pack, unpack
from tests.control.harness import Sandbox

HELLO = pack({"cordon": 1})
IDLE = ["sleep", "1000"]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("box"), IDLE) as s:
        yield s
        assert s.sentry.poll() is None
        assert s.line.state("c")["status"] == "running"


def frames(s: Sandbox, data: bytes, fds: list[int] | None = None) -> list[dict[str, object]]:
    """What the sentry says to these bytes until it hangs up."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(s.path)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with contextlib.suppress(BrokenPipeError):  # it may hang up before everything was said
        sent = sock.sendmsg([data], rights)
        if sent < len(data):
            sock.sendall(data[sent:])
    got = b""
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        got += more
    sock.close()
    out = []
    while got:
        size = int.from_bytes(got[:4], "little")
        out.append(unpack(got[4 : 4 + size]))
        got = got[4 + size :]
    return out


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(4),
        b"\xff" * 100,
        struct.pack("<I", 3) + b"{]}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 20000) + b"[" * 20000,
        struct.pack("<I", 4 << 20) + b"9" * (4 << 20),
        struct.pack("<I", (4 << 20) + 1),
        HELLO + pack({}),
        HELLO + pack({"id": -1, "call": "containers"}),
        HELLO + pack({"id": True, "call": "containers"}),
        HELLO + pack({"id": 1 << 60, "call": "containers"}),
        HELLO + pack({"id": 1, "call": "containers", "fds": 1}),
        HELLO + pack({"id": 1, "call": "wait", "args": {"container": "c"}}) + pack({"id": 1, "call": "kill"}),
    ],
)
def test_garbage_is_one_error_and_the_end(box: Sandbox, data: bytes) -> None:
    said = [f for f in frames(box, data) if "cordon" not in f]
    assert len(said) == 1
    error = said[0]["error"]
    assert isinstance(error, dict)
    assert error["code"] == ("version" if data.startswith(struct.pack("<I", 2) + b"{}") else "garbled")


@pytest.mark.parametrize("version", [0, 2, "1", None, []])
def test_other_versions(box: Sandbox, version: object) -> None:
    said = frames(box, pack({"cordon": version}))
    assert said == [
        {
            "id": -1,
            "error": {
                "code": "version",
                "message": "this sandbox speaks version 1 of the protocol",
                "status": 125,
            },
        }
    ]


def test_descriptors_do_not_pile_up(box: Sandbox) -> None:
    inside = f"/proc/{sentry_pid(box)}/fd"
    before = len(os.listdir(inside))
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(20):
        said = frames(box, HELLO + pack({"id": 1, "call": "nothing", "fds": 64}) + bytes(4), [null] * 64)
        assert [f["error"]["code"] for f in said if "error" in f] == ["unknown-call", "garbled"]  # type: ignore[index]
    os.close(null)
    assert len(os.listdir(inside)) <= before + 2


def sentry_pid(box: Sandbox) -> int:
    """The inner process, which is init of its PID namespace."""
    (pid,) = Path(f"/proc/{box.sentry.pid}/task/{box.sentry.pid}/children").read_text().split()
    return int(pid)


def test_random_bytes(box: Sandbox) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    calls = [
        "start",
        "exec",
        "wait",
        "signal",
        "ps",
        "pause",
        "stats",
        "events",
        "update",
        "resize",
        "create",
        "destroy",
        "x",
    ]
    values = [None, True, -1, 0, 1 << 70, 1.5, "", "c", "x" * 5000, [], {}, [1], {"a": []}]
    for _ in range(150):
        if rng.random() < 0.3:
            data = rng.randbytes(rng.randrange(1, 200))
        else:
            keys = ["container", "signal", "pid", "mode", "process", "spec", "tie", "rows", "memory", "zz"]
            args = {k: rng.choice(values) for k in rng.sample(keys, rng.randrange(6))}
            if args.get("container") == "c":
                del args["container"]
            message = {
                "id": rng.choice([1, 2, -5, "1"]),
                "call": rng.choice(calls),
                "args": args,
                "fds": rng.choice([0, 0, 3]),
            }
            data = HELLO + pack(message)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(box.path)
        sock.sendall(data[: rng.randrange(1, len(data) + 1)])
        sock.close()
    with box.connect() as c:
        assert c.state("c")["status"] == "running", seed


def test_a_peer_that_never_reads_does_not_stop_others(box: Sandbox) -> None:
    deaf = box.connect()
    for _ in range(2000):
        try:
            deaf.request("ps", {"container": "c"})
        except Exception:
            break
    with box.connect() as c:
        assert c.state("c")["status"] == "running"
    deaf.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_refused(box: Sandbox) -> None:
    os.chmod(box.path, 0o777)
    for directory in Path(box.path).parents:
        if str(directory).startswith("/tmp/"):
            os.chmod(directory, 0o711)
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.setgid(1234); os.setuid(1234); "
        "s.connect(sys.argv[1]); sys.stdout.buffer.write(s.recv(1000)[4:])"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-c", program, box.path], capture_output=True, check=True
    ).stdout
    assert unpack(said)["error"]["code"] == "denied"


def test_too_many_connections(box: Sandbox) -> None:
    many = [Connection.open(box.path) for _ in range(70)]
    refused = 0
    for c in many:
        try:
            c.call("containers", {})
        except ControlError as e:
            refused += "64 connections" in e.message or e.code == "gone"
    assert 5 <= refused <= 8
    for c in many:
        c.close()
