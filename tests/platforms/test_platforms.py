"""The platform contract and the run loop, on every platform that works here.

The tests are C programs: native/tests/test_stops.c, test_spaces.c and test_run.c.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from native import build_native
from platforms import detect
from platforms.platform import PlatformError

NATIVE = Path(__file__).resolve().parents[2] / "native"
PROGRAMS = ("test_stops", "test_spaces", "test_run")
BUILT = [name for name, p in detect.PLATFORMS.items() if p is not None]


def working(name: str) -> str:
    why = detect.probe(name)
    if why is not None:
        pytest.skip(f"{name}: {why}")
    return name


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test programs, linked with the objects of the last native build; a program's own functions go first."""
    out = tmp_path_factory.mktemp("native")
    work = NATIVE.parent / "build" / "native"
    sources = [*build_native.c_sources(), *sorted(work.glob("*_image.c"))]
    objects = [work / (str(s.relative_to(NATIVE.parent)).replace("/", "_") + ".o") for s in sources]
    flags = ["-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    for name in PROGRAMS:
        command = ["gcc", *flags, "-Wl,--allow-multiple-definition", "-o", str(out / name)]
        command += [str(NATIVE / "tests" / f"{name}.c"), *map(str, objects)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return out


def run(program: Path, *args: str, prefix: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*prefix, str(program), *args], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("program", PROGRAMS)
def test_contract(programs: Path, program: str, name: str) -> None:
    out = run(programs / program, working(name))
    assert out.endswith("ok no stub left\n")


@pytest.mark.parametrize("name", BUILT)
def test_contract_on_one_core(programs: Path, name: str) -> None:
    cpu = min(os.sched_getaffinity(0))
    assert "ok ping_pong" in run(programs / "test_run", working(name), prefix=("taskset", "-c", str(cpu)))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", BUILT)
def test_contract_without_privileges(programs: Path, name: str) -> None:
    for d in (programs, *programs.parents[:3]):
        d.chmod(d.stat().st_mode | 0o055)
    as_user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    run(programs / "test_spaces", working(name), "threads", "batch", prefix=as_user)
    # As init of its own pid namespace, where pids differ from the host's.
    run(programs / "test_spaces", name, "threads", "batch", prefix=("unshare", "-Urpf", "--kill-child"))


@pytest.mark.parametrize("name", BUILT)
def test_stubs_die_with_the_sentry(programs: Path, name: str) -> None:
    """SIGKILL at any moment leaves no process behind."""
    for delay in (0.0, 0.01, 0.05, 0.2):
        child = subprocess.Popen(
            [str(programs / "test_spaces"), working(name), "churn", "interrupt", "threads"],
            stdout=subprocess.PIPE,
        )
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            pass
        child.kill()
        child.wait()
        # Stubs hold the pipe no more than they hold anything else of the sentry: it ends at once.
        assert child.stdout is not None
        child.stdout.read()
        deadline = 50
        while deadline and stubs_of(child.pid):
            deadline -= 1
            subprocess.run(["sleep", "0.02"], check=True)
        assert not stubs_of(child.pid)


def stubs_of(sentry: int) -> list[int]:
    """Children of that sentry, and orphaned stubs of any."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        comm, _, rest = stat.partition("(")[2].rpartition(")")
        state, parent = rest.split()[0], int(rest.split()[1])
        if state == "Z":  # dead; some machines' init is slow to reap
            continue
        if parent == sentry or (comm.startswith("cordon-stub") and parent == 1):
            found.append(int(entry.name))
    return found


def test_detect() -> None:
    report = detect.report()
    assert list(report) == ["kvm", "systrap", "ptrace"]
    assert report["kvm"] == detect.NOT_BUILT
    why = detect.probe("nonsense")
    assert why is not None and "known are" in why
    with pytest.raises(PlatformError, match="platform kvm: not built yet"):
        detect.choose("kvm")
    works = [name for name, reason in report.items() if reason is None]
    assert detect.choose() == works[0]
    assert all(detect.choose(name) == name for name in works)


def test_detect_says_why() -> None:
    """The reason names what failed."""
    code = (
        f"import resource, sys; sys.path.insert(0, {str(NATIVE.parent)!r})\n"
        "from platforms import detect\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "import os; os.setuid(65534)\n"
        "from platforms.ptrace import Ptrace; print(Ptrace().probe())\n"
    )
    if os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot start its helper process: Resource temporarily unavailable" in done.stdout, done.stderr
