"""What a start may cost: the budget of issue 3 holds for the installed (compiled) package."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.harness import CORDON

BUDGET = 0.1  # seconds; 0.06 are measured on a quiet machine (docs/performance.md)
TRIES = 40


@pytest.mark.skipif("CORDON_COMMAND" not in os.environ, reason="the budget is the installed package's")
def test_start_is_within_its_budget() -> None:
    """The fastest of some starts: others may use the machine, but what a start needs is what it needs."""
    best = 9.0
    for _ in range(TRIES):
        began = time.monotonic()
        subprocess.run([CORDON, "do", "--", "/bin/true"], check=True)
        best = min(best, time.monotonic() - began)
        if best <= BUDGET:
            break
        time.sleep(0.2)
    assert best <= BUDGET
