"""The cases of `cordon bench` for developers: ns in the sandbox, with the native ns and the ratio of the same interleaved run.

    BENCH="-k getpid" make bench-pytest
    CORDON_PLATFORMS=ptrace,systrap    platforms (default: those that work here)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cordon.bench import cases, runner
from cordon.bench.launchers import Cordon, Launcher
from cordon.bench.results import NATIVE
from platforms import detect

CHOSEN = [c for c in cases.ALL if c.kind != "launch" or c.name == "start_up"]


def platforms() -> list[str]:
    wanted = os.environ.get("CORDON_PLATFORMS")
    return wanted.split(",") if wanted else [name for name, why in detect.report().items() if why is None]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the guest program."""
    folder = tmp_path_factory.mktemp("bench") / "work"
    runner.prepare(str(folder), 32 << 20)
    return folder


@pytest.mark.parametrize("platform", platforms())
@pytest.mark.parametrize("case", CHOSEN, ids=lambda c: c.name)
def test_case(benchmark: BenchmarkFixture, work: Path, case: cases.Case, platform: str) -> None:
    """The program measures itself; the benchmark's record carries its numbers."""
    launchers = [Launcher(NATIVE), Cordon(platform)]
    settings = runner.Settings(rounds=3, quick=True, quiet_limit=0.0)
    results = runner.Runner(launchers, [case], settings, str(work), lambda _: None).measure()
    assert not results.failures
    native, ours = (results.summary(case.name, x.name) for x in launchers)
    assert native is not None and ours is not None
    benchmark.extra_info.update(native_ns=native.median, sandbox_ns=ours.median, ratio=ours.ratio)
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\n{case.title}: native {native.median:.0f} ns, {platform} {ours.median:.0f} ns, {ours.ratio:.2f} x")
