"""Guest programs about futexes, sleeping, clocks and timers: the same lines natively and in the sandbox, none of them a failed check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c

GUEST = Path(__file__).parent.parent / "guest"


@pytest.mark.parametrize("name", ["futexes", "wakes", "devices", "kept", "clock_sites", "sleeps", "clocks", "notices", "sysv"])
def test_guest_program(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    compile_c(GUEST / f"{name}.c", tmp_path / name, "-pthread", "-w")
    result = sandbox.same([f"./{name}"])
    assert result.status == 0
    assert "FAILED" not in result.out


def test_ipc_limits(sandbox: Sandbox) -> None:
    """/proc/sys limits of System V objects and POSIX queues are the namespace's own, and hold."""
    program = """
import ctypes, os
from errno import errorcode
call = ctypes.CDLL(None, use_errno=True).syscall
SHMGET, SEMGET, SEMOP, MSGGET, MSGSND, MQ_OPEN = 29, 64, 65, 68, 69, 240
def put(name, text):
    try:
        with open("/proc/sys/" + name, "w") as f: f.write(text)
    except OSError as e: return errorcode[e.errno]
def get(name):
    with open("/proc/sys/" + name) as f: return f.read().split()
def result(*a):
    return "done" if call(*a) >= 0 else errorcode[ctypes.get_errno()]
print(get("kernel/sem"), put("kernel/sem", "3 5 2 2"), get("kernel/sem"))
print(*(result(SEMGET, 0, n, 0o600) for n in (4, 3, 3, 2, 0)))
print(result(SEMOP, 0, b"\\0" * 18, 3))
print(put("kernel/shmmax", "8192"), put("kernel/shmall", "3"), put("kernel/shmmni", "40000"), put("kernel/shmmni", "x"))
print(*(result(SHMGET, 0, n, 0o600) for n in (8193, 8192, 8192, 1)))
print(put("kernel/msgmax", "16"), put("kernel/msgmnb", "20"), result(MSGGET, 0, 0o600), put("kernel/msgmni", "1"), result(MSGGET, 0, 0o600))
print(*(result(MSGSND, 0, b"\\1" + b"\\0" * 40, n, 0o4000) for n in (17, 16, 16)))
print(put("fs/mqueue/queues_max", "1"), *(result(MQ_OPEN, name, 0o102, 0o600, None) for name in (b"a", b"b")))
print(put("fs/mqueue/msg_max", "0"), put("fs/mqueue/msg_default", "4"), get("fs/mqueue/msg_default"))
"""
    done = sandbox.run(["python3", "-c", program], ["--user", "0:0"])
    assert done.out.splitlines() == [
        "['32000', '1024000000', '500', '32000'] None ['3', '5', '2', '2']",
        "EINVAL done ENOSPC done EINVAL",
        "E2BIG",
        "None None EINVAL EINVAL",
        "EINVAL done ENOSPC done",
        "None None done None ENOSPC",
        "EINVAL done EAGAIN",
        "None done ENOSPC",
        "EINVAL None ['4']",
    ], done
