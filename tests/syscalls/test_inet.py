"""Internet and netlink sockets: guest programs print the same natively, in a new network namespace whose lo is up, and in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Sandbox, compile_c, native

GUEST = Path(__file__).parent.parent / "guest"
QUIET = ("-Wno-unused-result", "-Wno-nonnull", "-Wno-unused-function")


@pytest.mark.root
@pytest.mark.needs("unshare", "ip")
@pytest.mark.parametrize("name", ["inet_tcp", "inet_udp", "inet_links"])
def test_same_answers(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    compile_c(GUEST / f"{name}.c", tmp_path / name, *QUIET)
    theirs = native(["unshare", "-n", "sh", "-c", f"ip link set lo up; exec ./{name}"], tmp_path)
    ours = sandbox.run([f"./{name}"], timeout=60)
    assert theirs.status == 0
    assert ours.out.splitlines() == theirs.out.splitlines()
    assert ours.status == 0
