"""Stubs, the host processes that run guest code: no way of calling the host's kernel leads there, and they hold nothing worth having.

What the stubs' seccomp filter itself allows is tested by native/tests/test_spaces.c (filter), what each instruction stops as by
native/tests/test_stops.c.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c
from tests.leaks.processes import descendants

HERE = Path(__file__).parent
TASK_SIZE = 0x7FFF00000000
SIGILL, SIGSEGV, SIGTRAP, SIGSYS = "signal 4", "signal 11", "signal 5", "signal 31"
ESRCH, ENOSYS = "-3", "-38"

#: What each attempt must come to: values are the sentry's answers.
EXPECTED = {
    "syscall": {ESRCH},  # no such process inside
    "x32": {ENOSYS},
    "high bits": {ENOSYS, ESRCH},  # Linux looks at 32 bits only
    "int 0x80": {SIGSEGV},
    "sysenter": {SIGSEGV, SIGILL},  # AMD does not know it in long mode
    "32-bit code": {SIGSEGV},
    "vsyscall time": {"0", SIGSEGV},  # hosts may have none
    "vsyscall middle": {SIGSEGV},
    "vsyscall getcpu": {"0", SIGSEGV},
    "stub batch": {SIGTRAP, SIGSEGV},  # its calls stop as any guest's, then its int3
    "stub syscall": {SIGTRAP, SIGSEGV},
    "write text": {SIGSEGV},
    "write control": {SIGSEGV},
    "write answers": {SIGSEGV},
    "map text": {"-1"},
    "map control": {"-1"},
    "protect text": {"-1"},
    "unmap text": {"-1"},
    "move text": {"-1"},
    "kernel reads stub text": {"-1"},
    "stub descriptors": {"-1"},
}


def test_every_way_of_calling_the_host(sandbox: Sandbox) -> None:
    compile_c(HERE / "stub_escape.c", sandbox.cwd / "escape", "-w")
    with subprocess.Popen(["sleep", "1000"]) as victim:
        try:
            done = sandbox.run(["./escape", str(victim.pid)])
            assert victim.poll() is None, "a guest killed a process of the host"
        finally:
            victim.kill()
    assert (done.status, done.err) == (0, ""), done
    got = dict(line.rsplit(": ", 1) for line in done.out.splitlines())
    assert {name: result for name, result in got.items() if result not in EXPECTED[name]} == {}
    assert got.keys() == EXPECTED.keys()


def stubs(front: int) -> list[int]:
    return [pid for pid in descendants(front) if Path(f"/proc/{pid}/comm").read_text() == "cordon-stub\n"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look at them")
def test_stubs_seen_from_outside(sandbox: Sandbox) -> None:
    """Sealed, without capabilities; nothing writable above the guest; descriptors of guest memory and mapped files only."""
    compile_c(HERE / "stub_escape.c", sandbox.cwd / "escape", "-w")
    with subprocess.Popen(sandbox.argv(["./escape", "wait"]), cwd=sandbox.cwd, stdout=subprocess.PIPE) as front:
        try:
            assert front.stdout is not None
            assert front.stdout.readline() == b"ready\n"
            found = stubs(front.pid)
            assert len(found) > 1  # the mother, the guest's, the pool's
            for pid in found:
                status = dict(
                    line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
                )
                if status["State"].startswith("Z"):
                    continue  # killed, and not waited for yet
                assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
                assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
                above = [
                    (line.split()[1], line.split()[5] if len(line.split()) > 5 else "")
                    for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
                    if TASK_SIZE <= int(line.split("-")[0], 16) < 1 << 47
                ]
                mother = any(name == "[stack]" for _, name in above)
                # systrap: what a context and the sentry hand over in.
                writable = [name for perm, name in above if "w" in perm and not name.startswith("/memfd:cordon-areas")]
                assert mother or not writable, above
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    assert re.match(r"/memfd:cordon|socket:|anon_inode:\[eventfd\]|/tmp/#|/", target), target
                    if target.startswith("/") and "memfd" not in target and "#" not in target:
                        flags = int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("flags:")[1].split()[0], 8)
                        assert flags & os.O_ACCMODE == os.O_RDONLY, target  # a program's file, to be mapped
                assert os.listdir(f"/proc/{pid}/root") == []
        finally:
            front.terminate()
            front.wait(20)
