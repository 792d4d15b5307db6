"""Hostile guests: the sentry stays up, says what was exceeded, and the host is as before."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("CORDON_FUZZ_SECONDS", "60"))
BUG = ("internal error", "bug in the sentry", "sentry was killed", "gofer was killed", "Traceback")


def assert_no_bug(text: str) -> None:
    assert not [word for word in BUG if word in text], text[-4000:]


@pytest.mark.timeout(SECONDS + 240)
def test_fuzzed_syscalls(sandbox: Sandbox) -> None:
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 48)))
    compile_c(HERE / "fuzz.c", sandbox.cwd / "fuzz", "-w", "-pthread")
    done = sandbox.run(["./fuzz", str(SECONDS), str(seed)], ["--memory", "1G"], timeout=SECONDS + 200)
    print(f"seed {seed}: {done.out[-300:]}")
    assert_no_bug(done.err)
    assert done.status == 0, (seed, done.out[-500:], done.err[-2000:])
    assert "survived" in done.out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bad_pointers(sandbox: Sandbox) -> None:
    compile_c(HERE / "pointers.c", sandbox.cwd / "pointers", "-w")
    done = sandbox.run(["./pointers"], timeout=500)
    assert_no_bug(done.err)
    assert done == (0, "tried 450 calls, EFAULT often\n", "") or (done.status == 0 and "often" in done.out)


def test_fork_bomb(sandbox: Sandbox) -> None:
    bomb = "f() { f | f & }; f 2>/dev/null; sleep 3; echo alive"
    done = sandbox.run(["bash", "-c", bomb], ["--pids", "60", "--timeout", "30"])
    assert_no_bug(done.err)
    assert "60 processes" in done.err


def test_pids_limit_is_eagain(sandbox: Sandbox) -> None:
    program = """
import os, errno, time
n = 0
try:
    while True:
        if os.fork() == 0: time.sleep(100)
        n += 1
except OSError as e: print(n, errno.errorcode[e.errno])
"""
    done = sandbox.run(["python3", "-c", program], ["--pids", "20"])
    assert done.out == "19 EAGAIN\n"
    assert done.status == 0


def test_memory_hog(sandbox: Sandbox) -> None:
    done = sandbox.run(["python3", "-c", "a = []\nwhile True: a.append(b'x' * 1000000)"], ["--memory", "200M"], timeout=60)
    assert_no_bug(done.err)
    assert done.status != 0
    assert "memory limit" in done.err


def test_memory_hog_in_files(sandbox: Sandbox) -> None:
    done = sandbox.run(["sh", "-c", "dd if=/dev/zero of=/tmp/big bs=1M 2>&1; echo ended"], ["--memory", "200M"], timeout=60)
    assert_no_bug(done.err)
    assert "No space left" in done.out or "memory limit" in done.err


def test_memory_under_the_limit(sandbox: Sandbox) -> None:
    done = sandbox.run(["python3", "-c", "a = b'x' * 100_000_000; print(len(a))"], ["--memory", "300M"])
    assert done == (0, "100000000\n", "")


def test_descriptor_exhaustion(sandbox: Sandbox) -> None:
    program = """
import os, errno, resource, socket
for make in (lambda: os.open("/etc/passwd", 0), lambda: os.pipe(), lambda: os.eventfd(0), lambda: os.memfd_create("x")):
    held, n = [], 0
    try:
        while True: held.append(make()); n += 1
    except OSError as e: print(errno.errorcode[e.errno], n > 100)
    for fd in range(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        try: os.close(fd)
        except OSError: pass
"""
    done = sandbox.run(["python3", "-c", program], timeout=100)
    assert_no_bug(done.err)
    assert done.out == "EMFILE True\n" * 4


def test_many_processes_hold_many_files(sandbox: Sandbox) -> None:
    program = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
for _ in range(30):
    if os.fork() == 0:
        fds = []
        try:
            while True: fds.append(os.open("/usr/bin/bash", 0))
        except OSError: pass
        os.pread(fds[-1], 10, 0); os._exit(0)
ok = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(30)]
print(sum(ok))
"""
    done = sandbox.run(["python3", "-c", program], timeout=100)
    assert_no_bug(done.err)
    assert done.out == "0\n"


def test_deep_directories_and_long_names(sandbox: Sandbox) -> None:
    program = """
import os
for i in range(600):
    os.mkdir("d" * 200); os.chdir("d" * 200)
try: os.stat("/" + "x/" * 3000)
except OSError as e: print(e.errno)
for i in range(50): os.symlink(f"l{i+1}", f"l{i}")
try: os.stat("l0")
except OSError as e: print(e.errno)
print("deep")
"""
    (sandbox.cwd / "p.py").write_text(program)
    done = sandbox.run(["python3", "p.py"], timeout=60)
    assert_no_bug(done.err)
    assert done == (0, "36\n40\ndeep\n", "")


def test_garbage_programs(sandbox: Sandbox) -> None:
    r = random.Random(7)
    good = Path("/bin/busybox").read_bytes()[: 1 << 16]
    for i in range(25):
        data = bytearray(good)
        for _ in range(r.randrange(1, 40)):
            data[r.randrange(0, 400)] = r.randrange(256)
        path = sandbox.cwd / f"elf{i}"
        path.write_bytes(bytes(data))
        path.chmod(0o755)
    script = "for f in elf*; do timeout -s KILL 5 ./$f >/dev/null 2>&1; done; echo alive"
    done = sandbox.run(["bash", "-c", script], timeout=200)
    assert_no_bug(done.err)
    assert done.out == "alive\n"


