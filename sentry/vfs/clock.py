"""The time that file systems stamp inodes with."""

from __future__ import annotations

from sentry.kernel import clock


def now() -> int:
    """Nanoseconds since the epoch."""
    return clock.realtime()
