"""The public interface has the types that api_types.py says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT


def test_types() -> None:
    file = Path(__file__).with_name("api_types.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "api_types.py" not in done.stdout, done.stdout
