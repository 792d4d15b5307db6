"""The sentry's seal and the gofer's confinement, looked at from outside and tried from inside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.gofer.harness import Gofer

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
PRELUDE = f"""
import os, sys, threading, socket, signal
sys.path.insert(0, {str(ROOT)!r})
from sentry import seal
from native._core import lib
"""


def sealed(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code after isolate() and seal()."""
    script = PRELUDE + "seal.isolate()\nseal.seal('ptrace')\n" + code
    return subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {k: v.strip() for k, _, v in (line.partition(":") for line in lines)}


def test_sealed_process_can_start_threads_and_use_its_descriptors() -> None:
    done = sealed(
        "t = threading.Thread(target=lambda: print('in a thread'))\nt.start()\nt.join()\nprint(os.getpid())"
    )
    assert done.stdout == "in a thread\n1\n"
    assert done.returncode == 0


def test_sealed_root_is_empty() -> None:
    done = sealed("""
for path in ('/etc/passwd', '/proc/self/status', '/', '.', '/dev/null'):
    try:
        os.open(path, os.O_RDONLY)
        print('opened', path)
    except OSError:
        pass
print('end')
""")
    assert done.stdout == "end\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "os.execv('/bin/sh', ['sh'])",
        "os.fork()",
        "socket.socket()",
        "os.mkdir('/x')",
        "os.chdir('/')",
        "os.kill(1, 0); os.setuid(0)",
        "os.unlink('/x')",
        "__import__('mmap').mmap(-1, 4096, prot=7)",
    ],
)
def test_forbidden_calls_end_the_sealed_process_with_a_line(attempt: str) -> None:
    done = sealed(f"import mmap\ntry:\n    {attempt}\nexcept OSError as e:\n    print(e)\nprint('survived')")
    assert "survived" not in done.stdout
    assert done.returncode == 128 + signal.SIGSYS
    assert done.stderr.startswith("sentry: host system call ")
    assert done.stderr.endswith(" is not allowed\n")


def test_sealing_is_refused_with_threads_running() -> None:
    script = PRELUDE + (
        "seal.isolate()\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "try:\n    seal.seal('ptrace')\nexcept Exception as e:\n    print(e, flush=True)\nos._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "cannot seal the sentry: it has more than one thread already\n"


def test_unknown_platform_is_refused() -> None:
    script = PRELUDE + "try:\n    seal.seal('abacus')\nexcept Exception as e:\n    print(e)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "cannot seal the sentry: there is no filter for platform abacus\n"


def test_sealed_sentry_seen_from_outside() -> None:
    script = PRELUDE + "seal.isolate()\nseal.seal('ptrace')\nprint('sealed', flush=True)\nos.read(0, 1)"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == "sealed\n"
        (child,) = (int(c) for c in Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split())
        confined(child, NAMESPACES, 0)
        assert os.listdir(f"/proc/{child}/root") == []
        p.kill()  # the outer process: the sentry dies with it
        p.wait()
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(child, 0)
            threading.Event().wait(0.02)


def confined(pid: int, namespaces: tuple[str, ...], caps: int) -> None:
    """What /proc tells of a confined process."""
    st = status_of(pid)
    assert (st["Seccomp"], st["NoNewPrivs"]) == ("2", "1")
    assert int(st["CapEff"], 16) & ~caps == 0
    assert int(st["CapPrm"], 16) & ~caps == 0
    assert int(st["CapBnd"], 16) == 0
    assert int(st["CapAmb"], 16) == 0
    for ns in namespaces:
        assert os.readlink(f"/proc/{pid}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns


def mounts_of(pid: int) -> str:
    return Path(f"/proc/{pid}/mountinfo").read_text()


def test_gofer_seen_from_outside(tmp_path: Path) -> None:
    before = mounts_of(os.getpid())
    with Gofer((b"view:default", True), (os.fsencode(tmp_path), True)) as g:
        (pid,) = g.children()
        confined(pid, tuple(ns for ns in NAMESPACES if ns != "user" or os.geteuid()), 1 << 2)
        assert len(status_of(pid)["Threads"].split()) == 1
        assert sorted(os.listdir(f"/proc/{pid}/root")) == ["0", "1", "empty", "empty.d"]
        for line in mounts_of(pid).splitlines():
            fields = line.split()
            assert "ro" in fields[5].split(","), line
            assert "shared:" not in line
            if fields[4] != "/" and not fields[4].endswith(("empty", "empty.d")):
                assert "nosuid" in fields[5], line
        assert mounts_of(os.getpid()) == before
    assert mounts_of(os.getpid()) == before


def test_written_through_gofer_has_few_capabilities(tmp_path: Path) -> None:
    with Gofer((os.fsencode(tmp_path), False)) as g:
        (pid,) = g.children()
        confined(pid, ("mnt", "pid", "net", "ipc", "uts"), sum(1 << c for c in (0, 1, 2, 3, 4, 31)))


def test_gofer_dies_with_its_starter(tmp_path: Path) -> None:
    with Gofer((os.fsencode(tmp_path), False)) as g:
        (pid,) = g.children()
        g.process.kill()
        g.process.wait()
        with pytest.raises(ProcessLookupError):
            for _ in range(200):
                os.kill(pid, 0)
                threading.Event().wait(0.02)


def test_gofer_that_cannot_start_says_why() -> None:
    g = Gofer((b"/nonexistent/place", True))
    assert g.line == "error: gofer: cannot export /nonexistent/place: No such file or directory"
    assert g.status() == 1
    assert g.process.stderr is not None
    assert g.process.stderr.read() == "gofer: cannot export /nonexistent/place: No such file or directory\n"
    g.process.stderr.close()
