"""The standard descriptors that a caller has closed."""

from __future__ import annotations

import os
import sys


def fill() -> None:
    """Opens those of 0 to 2 that are closed on the null device, lest a file of ours takes the place and becomes the guest's."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
