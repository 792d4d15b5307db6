"""What all tests share: the sandbox, slow tests, known failures."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import FULL, Sandbox
from tests.leaks.processes import Quarters

KNOWN_FAILURES = Path(__file__).parent / "known_failures.toml"
PLATFORMS = os.environ.get("CORDON_PLATFORMS", "ptrace,systrap").split(",")


def known_failures() -> list[dict[str, Any]]:
    """[[failure]] tables: `test`, a node id without the platform's [..]; `reason`."""
    failures: list[dict[str, Any]] = tomllib.loads(KNOWN_FAILURES.read_text()).get("failure", [])
    return failures


@pytest.fixture(params=PLATFORMS)
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    """A sandbox that shows the test's own directory, its working directory."""
    return Sandbox(request.param, tmp_path)


@pytest.fixture
def quarters(sandbox: Sandbox) -> Iterator[Quarters]:
    """The sandbox's commands run where nobody else changes what is looked at afterwards."""
    with Quarters() as found:
        sandbox.prefix = found.enter(sandbox.cwd)
        yield found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {f["test"]: f["reason"] for f in known_failures()}
    slow_wanted = FULL or "slow" in str(config.getoption("-m"))
    for item in items:
        reason = reasons.get(item.nodeid) or reasons.get(item.nodeid.partition("[")[0])
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="slow: set CORDON_FULL=1"))
        for marker in item.iter_markers("needs"):
            missing = [p for p in marker.args if shutil.which(p) is None]
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
