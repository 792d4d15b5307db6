"""Hostile guests: the sentry stays up, says what was exceeded, and the host is as before."""

from __future__ import annotations

import os
import random
import subprocess
import sysconfig
from pathlib import Path

import pytest

from cordon import defaults
from tests.harness import ROOT, Sandbox, compile_c
from tests.leaks.processes import Quarters

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("CORDON_FUZZ_SECONDS", "60"))
BUG = ("internal error", "bug in the sentry", "sentry was killed", "gofer was killed", "Traceback")


def assert_no_bug(text: str) -> None:
    assert not [word for word in BUG if word in text], text[-4000:]


@pytest.mark.timeout(SECONDS + 240)
def test_fuzzed_syscalls(sandbox: Sandbox, quarters: Quarters) -> None:
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 48)))
    compile_c(HERE / "fuzz.c", sandbox.cwd / "fuzz", "-w", "-pthread")
    done = sandbox.run(["./fuzz", str(SECONDS), str(seed)], ["--memory", "1G"], timeout=SECONDS + 200)
    print(f"seed {seed}: {done.out[-300:]}")
    assert_no_bug(done.err)
    assert done.status == 0, (seed, done.out[-500:], done.err[-2000:])
    assert "survived" in done.out
    assert quarters.changes() == {}
    assert os.listdir(sandbox.cwd) == ["fuzz"]


@pytest.mark.timeout(120)
def test_after_the_fuzz_all_works(sandbox: Sandbox) -> None:
    """In one sandbox: fuzzed (as root, but sparing the shell), then used."""
    seed = random.randrange(1 << 48)
    compile_c(HERE / "fuzz.c", sandbox.cwd / "fuzz", "-w", "-pthread")
    script = (
        f"./fuzz 8 {seed} >/tmp/log 2>&1; tail -1 /tmp/log | cut -c1-8; "
        "echo text >/tmp/f && cat /tmp/f | sort | wc -c; python3 -c 'import threading as t; x = t.Thread(target=print, "
        "args=(6 * 7,)); x.start(); x.join()'; ls /proc | grep -c '^[0-9]'"
    )
    done = sandbox.run(["bash", "-c", script], ["--memory", "1G"], timeout=100)
    assert done.status == 0, (seed, done)
    *lines, processes = done.out.splitlines()
    assert lines == ["survived", "5", "42"], (seed, done)
    assert int(processes) <= 4  # bash, ls, grep


def survives(sandbox: Sandbox, name: str, seconds: int, *flags: str) -> None:
    """A hostile guest program runs so long, with a seed that is told, and nothing breaks but itself."""
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 32)))
    compile_c(HERE / f"{name}.c", sandbox.cwd / name, "-w", "-pthread", *flags)
    done = sandbox.run([f"./{name}", str(seconds), str(seed)], ["--memory", "1G"], timeout=90)
    assert_no_bug(done.err)
    assert done.status == 0, (seed, done)
    assert "survived" in done.out, (seed, done)


@pytest.mark.timeout(100)
def test_mixes(sandbox: Sandbox) -> None:
    """Threads that map, unmap, protect, move, copy and fork on the same memory."""
    survives(sandbox, "mixes", 8)


@pytest.mark.timeout(100)
def test_tracers(sandbox: Sandbox) -> None:
    """Processes that trace each other with random requests and registers."""
    survives(sandbox, "tracers", 6)


@pytest.mark.timeout(100)
def test_shared_areas(sandbox: Sandbox) -> None:
    """Guests that spoil what systrap shares with them, forge stops, and jump into the stub's text."""
    survives(sandbox, "areas", 12, "-mfsgsbase")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bad_pointers(sandbox: Sandbox) -> None:
    compile_c(HERE / "pointers.c", sandbox.cwd / "pointers", "-w")
    done = sandbox.run(["./pointers"], timeout=500)
    assert_no_bug(done.err)
    assert done == (0, "tried 450 calls, EFAULT often\n", "") or (done.status == 0 and "often" in done.out)


BOMB = "f() { f | f & }; f 2>/dev/null; sleep 3; echo alive"


def test_fork_bomb(sandbox: Sandbox) -> None:
    done = sandbox.run(["bash", "-c", BOMB], ["--pids", "60", "--timeout", "30"])
    assert_no_bug(done.err)
    assert "60 processes" in done.err


# `cordon do` on a small machine: its default limits are as given.
SMALL = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from cordon import defaults
defaults.memory = lambda: 128 << 20
defaults.pids = lambda: 70
from cordon.__main__ import main
sys.exit(main())
"""


def on_small_machine(sandbox: Sandbox, *command: str) -> subprocess.CompletedProcess[str]:
    argv = [str(ROOT / ".venv" / "bin" / "python"), "-I", "-c", SMALL, str(ROOT)]
    argv += ["do", "--platform", sandbox.platform, "--timeout", "60", "--", *command]
    return subprocess.run(argv, cwd=sandbox.cwd, capture_output=True, text=True, check=False, timeout=100)


def test_fork_bomb_without_a_limit(sandbox: Sandbox) -> None:
    done = on_small_machine(sandbox, "bash", "-c", BOMB)
    assert_no_bug(done.stderr)
    assert "reached its limit of 70 processes and threads, the default; --pids sets another" in done.stderr


def test_memory_hog_without_a_limit(sandbox: Sandbox) -> None:
    done = on_small_machine(sandbox, "python3", "-c", "a = []\nwhile True: a.append(b'x' * 1000000)")
    assert_no_bug(done.stderr)
    assert done.returncode == 137
    assert "memory limit exceeded (134217728 bytes, the default; --memory sets another)" in done.stderr


def test_default_limits() -> None:
    assert 64 <= defaults.pids() <= 4096
    memory = defaults.memory()
    assert 64 << 20 <= memory < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def as_a_user(uid: int) -> list[str]:
    """The tree's cordon as an ordinary user; the test is skipped where that user cannot read it."""
    argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-I", "-c", BOOT, str(ROOT)]
    argv.append(sysconfig.get_path("purelib"))
    if subprocess.run([*argv, "--version"], check=False, capture_output=True, cwd="/").returncode:
        pytest.skip(f"/usr/bin/python3 as user {uid} cannot import cordon from {ROOT}")
    return argv


BOOT = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from cordon.__main__ import main; sys.exit(main())"


@pytest.mark.root
@pytest.mark.needs("setpriv", "prlimit")
@pytest.mark.parametrize("threads", [6, 10, 14, 30])
def test_host_has_no_more_threads(sandbox: Sandbox, threads: int) -> None:
    """RLIMIT_NPROC of the ordinary user who runs the sandbox: it does not start, with one sentence, or the guest's fork fails."""
    uid = 1_000_000_000 + os.getpid()  # whose processes the limit counts: nobody else's
    program = "i=0; while [ $i -lt 40 ]; do sleep 50 & i=$((i+1)); done; echo forked all"
    command = [*as_a_user(uid), "do", "--platform", sandbox.platform, "--timeout", "20", "--", "sh", "-c", program]
    done = subprocess.run(
        ["prlimit", f"--nproc={threads}", *command], cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert_no_bug(done.stderr)
    assert done.returncode != 0
    assert "forked all" not in done.stdout
    assert "annot fork" in done.stderr or done.stderr.startswith("cordon: ") or "gofer: cannot start" in done.stderr


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


def test_mutated_programs(sandbox: Sandbox) -> None:
    """A dynamic program with bytes changed anywhere in its headers, cut anywhere; scripts with hostile first lines."""
    seed = int(os.environ.get("CORDON_SEED", random.randrange(1 << 32)))
    r = random.Random(seed)
    good = Path("/bin/true").read_bytes()
    files: list[bytes] = []
    for _ in range(40):
        data = bytearray(good)
        for _ in range(r.choice((1, 2, 8, 64))):
            data[r.randrange(r.choice((64, 800, len(data))))] = r.randrange(256)
        files.append(bytes(data[: r.choice((len(data), len(data), r.randrange(len(data))))]))
    scripts = [b"#!", b"#!\n", b"#! \n", b"#!\0\n", b"#!/bin/sh", b"#!./x0\n", b"#!/\n", b"#!/bin\n", b"#!/proc/self/exe\n"]
    scripts += [b"#!" + b"a" * n + b"\n" for n in (125, 126, 127, 255, 256, 5000)]
    scripts += [b"#!/bin/echo " + r.randbytes(r.randrange(1, 300)) + b"\n" for _ in range(10)]
    scripts += [b"#!" + b" " * n + b"/bin/echo x\n" for n in (10, 250, 300)]
    for i, data in enumerate(files + scripts):
        path = sandbox.cwd / f"x{i}"
        path.write_bytes(data)
        path.chmod(0o755)
    program = """
import os, signal, sys
for i in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        for fd in (1, 2): os.dup2(os.open("/dev/null", os.O_WRONLY), fd)
        try: os.execv(f"./x{i}", ["x"])
        except OSError: os._exit(99)
    os.waitpid(pid, 0)
print("alive")
"""
    done = sandbox.run(["python3", "-c", program, str(len(files + scripts))], timeout=200)
    assert_no_bug(done.err)
    assert (done.status, done.out) == (0, "alive\n"), (seed, done)


def test_lock_of_a_dead_owner(sandbox: Sandbox) -> None:
    """A PI futex whose word names nobody, dead or never born: an error, no loop in the kernel."""
    program = """
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
for word in (999999, 0x40000000 | 999999, 0xC0000000 | 999999):
    cell = ctypes.c_uint32(word)
    r = call(202, ctypes.byref(cell), 6 | 128, 0, None, None, 0)
    print(r, ctypes.get_errno())
"""
    done = sandbox.same(["python3", "-c", program], timeout=20)
    assert done.out == "-1 3\n" * 3
