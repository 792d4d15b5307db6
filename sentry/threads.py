"""Host threads of the sentry's own: timers, readiness of descriptors, the control server."""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable
from typing import Any

from sentry.errors import SandboxError, trace


def start(body: Callable[[], None], purpose: str) -> None:
    """Runs `body` in a new thread. SandboxError when the host has none: the sandbox cannot go on without."""
    try:
        _thread.start_new_thread(body, ())
    except RuntimeError:
        raise SandboxError(f"the host has no further thread for the sentry ({purpose})", 70) from None


def unraisable(hook: Any) -> None:
    """sys.unraisablehook of a sealed sentry, which cannot read the source lines that the usual one prints."""
    e: BaseException | None = hook.exc_value
    if e is not None and not isinstance(e, SystemExit):
        sys.stderr.write(f"cordon: bug in the sentry, in a thread of its own: {trace(e)}\n")
        sys.stderr.flush()
