"""Internet and netlink sockets: guest programs print the same natively, in a new network namespace whose lo is up, and in the sandbox,
whose loopback stack is its own; and with host sockets in such a namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c, native

GUEST = Path(__file__).parent.parent / "guest"
QUIET = ("-Wno-unused-result", "-Wno-nonnull", "-Wno-unused-function")
PROGRAMS = ["inet_tcp", "inet_udp", "inet_links"]


def natively(name: str, folder: Path) -> list[str]:
    compile_c(GUEST / f"{name}.c", folder / name, *QUIET)
    theirs = native(["unshare", "-n", "sh", "-c", f"ip link set lo up; exec ./{name}"], folder)
    assert theirs.status == 0
    return theirs.out.splitlines()


@pytest.mark.root
@pytest.mark.needs("unshare", "ip")
@pytest.mark.parametrize("name", PROGRAMS)
def test_loopback_stack(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    theirs = natively(name, tmp_path)
    ours = sandbox.run([f"./{name}"], timeout=60)
    assert ours.out.splitlines() == theirs
    assert ours.status == 0


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace whose lo is up."""
    name = f"cordon-lo-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()[:200]}")
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield f"/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
@pytest.mark.needs("unshare", "ip")
@pytest.mark.parametrize("name", PROGRAMS)
def test_host_stack(sandbox: Sandbox, tmp_path: Path, namespace: str, name: str) -> None:
    theirs = natively(name, tmp_path)
    ours = sandbox.run([f"./{name}"], ["--network", f"ns:{namespace}"], timeout=60)
    assert ours.out.splitlines() == theirs
    assert ours.status == 0
