"""The time that file systems stamp inodes with."""

from __future__ import annotations

import time


def now() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()
