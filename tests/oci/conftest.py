"""Container engines with cordon as their runtime, each with storage and configuration of its own below a temporary directory; and
the runtime itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cordon.oci import default
from tests.harness import CORDON, Done, done

BUSYBOX = "/bin/busybox"
#: Where engines are started: conmon leaves an empty file `oom` there.
SCRATCH = tempfile.TemporaryDirectory(prefix="cordon-oci-")
ULIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768")


def run(argv: Sequence[str | Path], timeout: float = 60, data: bytes = b"", **env: str) -> Done:
    """Runs a program to its end."""
    p = subprocess.run(
        [str(a) for a in argv],
        cwd=SCRATCH.name,
        input=data,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **env},
    )
    return done(p.returncode, p.stdout, p.stderr)


def make_rootfs(where: Path) -> Path:
    """A root with busybox and nothing else."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/tmp", "usr/bin"):
        (where / name).mkdir(parents=True)
    where.chmod(0o755)
    (where / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, where / "bin" / "busybox")
    for applet in subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if not (where / "bin" / applet).exists():
            (where / "bin" / applet).symlink_to("busybox")
    (where / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"
    )
    (where / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    (where / "not-executable").write_text("#!/bin/sh\n")
    return where


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(scope="session")
def image(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root as a tar file for `import`."""
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(rootfs, ".")
    return path


def eventually(what: str, check: object, seconds: float = 15) -> None:
    """Waits until a condition holds."""
    assert callable(check)
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Podman:
    """podman with storage of its own."""

    def __init__(self, where: Path, runtime: str = "cordon") -> None:
        self.where = where
        self.runtime = runtime
        self.conf = where / "containers.conf"
        self.conf.write_text(
            f"""\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "cordon"]
runtime_supports_nocgroup = ["crun", "cordon"]
[engine.runtimes]
cordon = ["{CORDON}"]
[network]
network_backend = "netavark"
network_config_dir = "{where}/networks"
"""
        )

    def argv(self, *args: str) -> list[str]:
        return [
            "podman", "--root", f"{self.where}/root", "--runroot", f"{self.where}/run", "--tmpdir", f"{self.where}/tmp",
            "--storage-driver", "vfs", "--runtime", self.runtime, *args,
        ]  # fmt: skip

    def __call__(self, *args: str, timeout: float = 90, data: bytes = b"") -> Done:
        return run(self.argv(*args), timeout, data, CONTAINERS_CONF=str(self.conf))

    def ok(self, *args: str, timeout: float = 90, data: bytes = b"") -> str:
        """Its output; it must succeed."""
        d = self(*args, timeout=timeout, data=data)
        assert d.status == 0, f"podman {' '.join(args)}: {d}"
        return d.out

    def clean(self) -> None:
        self("rm", "-fa", "-t", "0")


@pytest.fixture(scope="session")
def podman_store(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[Podman]:
    if shutil.which("podman") is None or shutil.which("conmon") is None:
        pytest.skip("podman and conmon are not installed")
    if os.geteuid() != 0:
        pytest.skip("podman's tests run as root")
    p = Podman(tmp_path_factory.mktemp("podman"))
    p.ok("import", str(image), "busybox:test")
    yield p
    p.clean()
    p("system", "reset", "-f", timeout=60)


@pytest.fixture
def podman(podman_store: Podman) -> Iterator[Podman]:
    """podman with the image busybox:test; what a test leaves is removed."""
    yield podman_store
    podman_store.clean()


class Runtime:
    """cordon with a state directory of its own, and bundles."""

    def __init__(self, where: Path, rootfs: Path) -> None:
        self.where = where
        self.rootfs = rootfs
        self.root = where / "state"

    def __call__(self, *args: str, timeout: float = 60, **more: Any) -> Done:
        p = subprocess.run(
            [CORDON, "--root", str(self.root), *args],
            capture_output=True,
            timeout=timeout,
            check=False,
            env={},
            **more,
        )
        return done(p.returncode, p.stdout, p.stderr)

    def ok(self, *args: str) -> str:
        d = self(*args)
        assert d.status == 0, f"{args}: {d} {[(p.name, p.read_text()) for p in self.root.glob('*/log')]}"
        return d.out

    def bundle(self, name: str, *command: str, **changes: Any) -> str:
        """A bundle with the shared root, read-only; its directory."""
        document = default.document()
        document["process"]["terminal"] = False
        document["process"]["args"] = list(command) or ["true"]
        document["root"]["path"] = str(self.rootfs)
        document.update(changes)
        where = self.where / name
        where.mkdir(exist_ok=True)
        (where / "config.json").write_text(json.dumps(document))
        return str(where)

    def state(self, cid: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.ok("state", cid))
        return value

    def status(self, cid: str) -> str:
        return str(self.state(cid)["status"])

    def create(self, cid: str, *command: str, **changes: Any) -> int:
        """Creates a container whose streams go nowhere; its PID."""
        bundle = self.bundle(cid, *command, **changes)
        with open(self.where / "errors", "w+") as errors:  # not a pipe: the guest has it as long as it runs
            p = subprocess.run(
                [CORDON, "--root", str(self.root), "create", "--bundle", bundle, cid],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                timeout=60,
                check=False,
                env={},
            )
            errors.seek(0)
            assert p.returncode == 0, errors.read()
        return int(self.state(cid)["pid"])

    def nothing_left(self) -> None:
        """No process, mount, cgroup, socket or state of these containers."""
        assert not self.root.exists() or not os.listdir(self.root)
        assert str(self.where) not in Path("/proc/mounts").read_text()
        eventually("no process is left", lambda: not self.processes())
        left = [
            p
            for h in Path("/sys/fs/cgroup").glob("**/cordon/*")
            if (p := str(h)).split("/")[-1] in os.listdir(self.where)
        ]
        assert not left

    def processes(self) -> list[str]:
        found = []
        for p in Path("/proc").glob("[0-9]*"):
            try:
                line = (p / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if any(
                f"{line} ".startswith((f"cordon: {what} {name} ", f"cordon: {what} {name}:"))
                for what in KINDS
                for name in os.listdir(self.where)
            ):
                found.append(line)
        return found


KINDS = ("container", "gofer of", "sentry of", "broker of", "exec in")


@pytest.fixture
def runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    r = Runtime(tmp_path, rootfs)
    yield r
    for cid in os.listdir(r.root) if r.root.is_dir() else []:
        r("delete", "--force", cid)
    r.nothing_left()
