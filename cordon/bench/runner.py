"""Runs the cases in interleaved rounds."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cordon.bench import machine, whole
from cordon.bench.cases import Case
from cordon.bench.launchers import HERE, Launcher
from cordon.bench.results import Results
from cordon.errors import CordonError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
}
ENTRIES = 1000
BIG = 256 << 20
#: A program of its own: what a ptrace platform costs at the least.
FLOOR = "sysemu.c"
Step = Callable[[str], None]


class Settings(NamedTuple):
    rounds: int = 7
    quick: bool = False
    seed: int = 0
    #: Seconds to wait for a quiet machine before each round.
    quiet_limit: float = 20.0
    #: Seconds after which no new round begins; 0: none.
    limit: float = 0.0

    @property
    def sample_ms(self) -> float:
        return 2 if self.quick else 20

    @property
    def patience(self) -> float:
        """Seconds that one start of a program may take."""
        return 60 if self.quick else 180


class Failure(Exception):
    """A program that did not end well; the text is why."""


class Ran(NamedTuple):
    output: str
    error: str
    status: int


def sources() -> list[Path]:
    """The guest program's: of the source tree, or the copy in an installation."""
    for folder in (HERE.parent.parent / "bench" / "guest", HERE.parent / "guest"):
        if (folder / "guest.c").exists():
            return sorted(folder.glob("*.c"))
    raise CordonError("bench: the sources of the guest program are not there (bench/guest)")


def compile_guest(target: str, floor: bool = False) -> None:
    """The guest program, or with `floor` the one that measures a bare PTRACE_SYSEMU. Static if possible, so that its start
    is its own and peers need not show a C library."""
    compiler = next((c for c in ("gcc", "cc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise CordonError("bench: there is no C compiler (gcc, cc or clang) for the guest program")
    names = [str(s) for s in sources() if (s.name == FLOOR) is floor]
    said = ""
    for extra in (["-static"], []):
        done = subprocess.run(
            [compiler, "-O2", "-w", "-pthread", *extra, "-o", target, *names], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        said = done.stderr.strip()[:300]
    raise CordonError(f"bench: {compiler} cannot compile the guest program: {said}")


def prepare(work: str, big: int) -> None:
    """The directory that programs run in: the guest program, a large file, a directory of many."""
    os.makedirs(f"{work}/many")
    os.mkdir(f"{work}-bundles")
    compile_guest(f"{work}/guest")
    compile_guest(f"{work}/sysemu", floor=True)
    for i in range(ENTRIES):
        Path(work, "many", f"entry-{i}").touch()
    block = os.urandom(1 << 20)
    with open(f"{work}/big", "wb") as f:
        for _ in range(big >> 20):
            f.write(block)


def start(
    launcher: Launcher, work: str, argv: Sequence[str], core: int = -1, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    command = launcher.command(work, argv)
    if core >= 0:
        command = ["taskset", "-c", str(core), *command]
    keep = {k: v for k, v in os.environ.items() if k.startswith("CORDON_")}
    try:
        return subprocess.Popen(
            command, cwd=work, env={**keep, **ENVIRONMENT}, stdin=stdin, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as e:
        raise Failure(f"{command[0]}: {e.strerror}") from None


def end(child: subprocess.Popen[str]) -> None:
    """Kills it with its session, if it still runs."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def sweep() -> None:
    """Kills what a launcher that was given up has left (this process is its reaper: whole.adopt_orphans)."""
    for pid in whole.descendants(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(launcher: Launcher, work: str, argv: Sequence[str], patience: float, core: int = -1) -> Ran:
    """Failure when it takes too long."""
    child = start(launcher, work, argv, core)
    try:
        out, err = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        end(child)
        sweep()
        out, err = child.communicate()
        return Ran(out, f"not done after {patience:.0f} s", -1)
    except BaseException:
        end(child)
        raise
    finally:
        launcher.finish()
    return Ran(out, err, child.returncode)


def why(ran: Ran) -> str:
    lines = ran.error.strip().splitlines()
    return "; ".join(dict.fromkeys((lines[0][:200], lines[-1][:200]))) if lines else f"status {ran.status}"


def works(launcher: Launcher, work: str) -> str | None:
    """None, or why it can't run a program here."""
    try:
        ran = run(launcher, work, ["{work}/guest", "nothing"], 20)
    except Failure as e:
        return str(e)
    return why(ran) if ran.status else None


def parse(text: str) -> dict[str, float]:
    """The guest program's lines: name -> ns."""
    out: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            out[name] = float(value)
    return out


class Runner:
    def __init__(self, launchers: Sequence[Launcher], cases: Sequence[Case], settings: Settings, work: str, step: Step) -> None:
        self.launchers = list(launchers)
        self.cases = list(cases)
        self.settings = settings
        self.work = work
        self.step = step
        self.results = Results()
        self.random = random.Random(settings.seed)
        self.core = max(os.sched_getaffinity(0))
        #: (launcher, case) that failed once: not tried again.
        self.broken: set[tuple[str, str]] = set()

    def of_kind(self, kind: str) -> list[Case]:
        return [c for c in self.cases if c.kind == kind]

    def steps(self) -> int:
        """How often `step` will be called, if nothing cuts the run short."""
        guest = {c.one_core for c in self.of_kind("guest")}
        each = len(guest) + len(self.of_kind("program")) + len([c for c in self.of_kind("launch") if c.name == "start_up"])
        once = len([c for c in self.of_kind("launch") if c.name != "start_up"])
        return len(self.launchers) * (each * self.settings.rounds + once)

    def measure(self) -> Results:
        r = self.results
        r.seed, r.quick, r.quiet_limit = self.settings.seed, self.settings.quick, self.settings.quiet_limit
        r.machine = machine.description()
        r.launchers = {x.name: x.version() for x in self.launchers}
        began = time.monotonic()
        for number in range(self.settings.rounds):
            if number and self.settings.limit and time.monotonic() - began > self.settings.limit:
                break
            r.busy.append(round(machine.wait_for_quiet(self.settings.quiet_limit), 3))
            order = list(self.launchers)
            self.random.shuffle(order)
            for launcher in order:
                self.one_round(launcher)
                if launcher.name == "cordon ptrace" and any(c.name == "getpid" for c in self.cases):
                    self.floor(launcher)
            r.rounds = number + 1
        for case in self.of_kind("launch"):
            if case.name != "start_up":
                for launcher in self.launchers:
                    self.step(f"{launcher.name}: {case.title}")
                    self.whole_sandbox(launcher, case)
        return r

    def one_round(self, launcher: Launcher) -> None:
        for pinned in (False, True):
            chosen = [c for c in self.of_kind("guest") if c.one_core is pinned]
            if chosen:
                self.step(f"{launcher.name}: calls{' on one core' if pinned else ''}")
                self.guest_cases(launcher, chosen, self.core if pinned else -1)
        rest = [c for c in self.cases if c.kind == "program" or c.name == "start_up"]
        self.random.shuffle(rest)
        for case in rest:
            self.step(f"{launcher.name}: {case.title}")
            if (launcher.name, case.name) not in self.broken:
                if case.kind == "program":
                    self.program(launcher, case)
                else:
                    self.start_up(launcher, case)

    def broke(self, launcher: Launcher, case: Case, reason: str) -> None:
        self.broken.add((launcher.name, case.name))
        self.results.fail(f"{launcher.name}: {case.name}: {reason}")

    def guest_cases(self, launcher: Launcher, cases: list[Case], core: int) -> None:
        """All of them in one start; a case that fails is left out and the others go on."""
        left = [c for c in cases if (launcher.name, c.name) not in self.broken]
        while left:
            argv = ["{work}/guest", "-t", str(self.settings.sample_ms), "-d", "{work}", *(c.guest_name for c in left)]
            ran = run(launcher, self.work, argv, self.settings.patience, core)
            found = parse(ran.output)
            missing = [c for c in left if c.guest_name not in found]
            for case in left:
                if case.guest_name in found:
                    self.results.add(case.name, launcher.name, found[case.guest_name])
            if not missing:
                return
            self.broke(launcher, missing[0], why(ran))
            left = missing[1:]

    def floor(self, launcher: Launcher) -> None:
        ran = run(self.launchers[0], self.work, ["{work}/sysemu"], self.settings.patience, self.core)
        found = parse(ran.output).get("sysemu")
        if found is None:
            self.results.fail(f"{launcher.name}: a bare PTRACE_SYSEMU round trip: {why(ran)}")
        else:
            self.results.sysemu.append(found)

    def program(self, launcher: Launcher, case: Case) -> None:
        argv = ["{work}/guest", "run", case.name, case.before, *case.command]
        ran = run(launcher, self.work, argv, self.settings.patience)
        found = parse(ran.output)
        if ran.status or case.name not in found:
            self.broke(launcher, case, why(ran))
        else:
            self.results.add(case.name, launcher.name, found[case.name])

    def start_up(self, launcher: Launcher, case: Case) -> None:
        began = time.perf_counter()
        ran = run(launcher, self.work, ["/bin/true"], self.settings.patience)
        took = time.perf_counter() - began
        if ran.status:
            self.broke(launcher, case, why(ran))
        else:
            self.results.add(case.name, launcher.name, took * 1e9)

    def whole_sandbox(self, launcher: Launcher, case: Case) -> None:
        try:
            for value in whole.measure(case.name, launcher, self.work, self.settings):
                self.results.add(case.name, launcher.name, value)
        except Failure as e:
            self.broke(launcher, case, str(e))
        finally:
            launcher.finish()
