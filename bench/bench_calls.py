"""System calls: ns in the sandbox, with the native ns and the ratio of the same interleaved run as extra information.

The promise that issue 2 makes is printed, not asserted: getpid on ptrace against a bare SYSEMU round trip.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cordon import measure

PLATFORMS = os.environ.get("CORDON_PLATFORMS", "ptrace").split(",")
CASES = (
    "getpid clock_gettime read_4k write_4k write_null open_close stat stat_enoent pipe pipe_pingpong futex_wake mmap_munmap "
    "page_fault signal fork_wait exec_wait"
).split()


@cache
def results() -> dict[str, dict[str, float]]:
    found = measure.calls(PLATFORMS)
    print("\n" + measure.table(found, PLATFORMS))
    if "ptrace" in PLATFORMS:
        bare = measure.sysemu()
        print(f"bare SYSEMU round trip {bare:.0f} ns; getpid on ptrace is {found['getpid']['ptrace'] / bare:.2f} times that")
    return found


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("case", CASES)
def test_call(benchmark: BenchmarkFixture, platform: str, case: str) -> None:
    """The program measures itself; the benchmark's record carries its numbers."""
    by = results()[case]
    benchmark.extra_info.update(native_ns=by["native"], sandbox_ns=by[platform], ratio=by[platform] / by["native"])
    benchmark.pedantic(lambda: None, rounds=1)


def test_start_up(benchmark: BenchmarkFixture) -> None:
    by = measure.start_up(PLATFORMS)
    print("\nstart to end of /bin/true: " + ", ".join(f"{where} {ms:.1f} ms" for where, ms in by.items()))
    benchmark.extra_info.update(by)
    benchmark.pedantic(lambda: None, rounds=1)
