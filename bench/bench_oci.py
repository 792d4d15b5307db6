"""What a container costs beside crun and runc: `podman run --rm` of `true`, and create + start + delete alone. Medians, interleaved.

BENCH="-k oci" make bench
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cordon.oci import default
from tests.harness import CORDON
from tests.oci.conftest import Podman, make_rootfs

ROUNDS = 7
RUNTIMES = {"cordon": CORDON, **{name: path for name in ("crun", "runc") if (path := shutil.which(name))}}
pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


def interleaved(cases: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            began = time.perf_counter()
            case()
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def report(benchmark: BenchmarkFixture, what: str, medians: dict[str, float]) -> None:
    benchmark.extra_info.update(medians)
    benchmark.pedantic(lambda: None, rounds=1)
    ours = medians["cordon"]
    others = "".join(
        f", {name} {ms:.0f} ms ({ours / ms:.2f} x)" for name, ms in medians.items() if name != "cordon"
    )
    print(f"\n{what}: cordon {ours:.0f} ms{others}")


def quiet(argv: list[str], **env: str) -> None:
    subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=60,
        env={**os.environ, **env},
    )  # fmt: skip


def test_create_start_delete(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    make_rootfs(tmp_path / "rootfs")
    document = default.document()
    document["ociVersion"] = "1.0.2"
    document["process"].update({"terminal": False, "args": ["sleep", "100"]})
    document["linux"]["namespaces"] = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]
    (tmp_path / "config.json").write_text(json.dumps(document))

    def life(path: str) -> Callable[[], None]:
        def run() -> None:
            base = [path, "--root", str(tmp_path / "state")]
            quiet([*base, "create", "--bundle", str(tmp_path), "bench"])
            quiet([*base, "start", "bench"])
            quiet([*base, "delete", "--force", "bench"])

        return run

    working = {}
    for name, path in RUNTIMES.items():
        try:
            life(path)()
            working[name] = life(path)
        except subprocess.CalledProcessError:  # crun and the hybrid cgroup layout
            quiet([path, "--root", str(tmp_path / "state"), "delete", "--force", "bench"])
    report(benchmark, "create + start + delete", interleaved(working))


@pytest.mark.needs("podman")
def test_podman_run(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    root = make_rootfs(tmp_path / "rootfs")
    podman = Podman(Path(tempfile.mkdtemp(prefix="cordon-")))  # podman takes no long paths
    command = ("run", "--rm", "--network", "none", "--rootfs", str(root), "true")

    def case(name: str) -> Callable[[], None]:
        argv = podman.argv(*command)
        argv[argv.index("--runtime") + 1] = name
        return lambda: quiet(argv, CONTAINERS_CONF=str(podman.conf))

    working = {}
    for name in RUNTIMES:
        try:
            case(name)()
            working[name] = case(name)
        except subprocess.CalledProcessError:
            continue
    report(benchmark, "podman run --rm true", interleaved(working))
    podman("system", "reset", "-f")
    shutil.rmtree(podman.where, ignore_errors=True)
