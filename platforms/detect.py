"""Which platforms work on this machine, found by running a guest on each, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from platforms.platform import Platform, PlatformError
from platforms.ptrace import Ptrace
from platforms.systrap import Systrap

#: All platforms of the design in the order in which `auto` prefers them; None: not built yet.
PLATFORMS: Final[dict[str, Platform | None]] = {"kvm": None, "systrap": Systrap(), "ptrace": Ptrace()}
AUTO: Final = "auto"
NOT_BUILT: Final = "not built yet"


def probe(name: str, meanwhile: Callable[[], None] = lambda: None) -> str | None:
    """None when the platform works here, else one sentence that says why it doesn't.

    The guest runs in a forked child, so that nothing it does to the process (helpers, pinning) stays. Call
    it while the process has one thread. `meanwhile` is work to be done here while the child is at it.
    """
    if name not in PLATFORMS:
        return f"there is no platform of that name; known are {', '.join(PLATFORMS)}"
    platform = PLATFORMS[name]
    if platform is None:
        return NOT_BUILT
    answer, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(answer)
            os.write(out, (platform.probe() or "").encode())
            status = 0
        finally:
            os._exit(status)
    os.close(out)
    meanwhile()
    with open(answer, "rb") as f:
        why = f.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"its probe was killed by signal {os.WTERMSIG(status)}"
    if status:
        return "its probe failed"
    return why or None


def report() -> dict[str, str | None]:
    """`probe` of every platform, in order of preference."""
    return {name: probe(name) for name in PLATFORMS}


def choose(name: str = AUTO, meanwhile: Callable[[], None] = lambda: None) -> str:
    """The platform to use for `name`: itself if it works here, for "auto" the first that does.

    PlatformError when there is none. `meanwhile`: work for the time of each probe.
    """
    if name != AUTO:
        why = probe(name, meanwhile)
        if why is not None:
            raise PlatformError(f"platform {name}: {why}")
        return name
    reasons = []
    for candidate in PLATFORMS:
        why = probe(candidate, meanwhile)
        if why is None:
            return candidate
        reasons.append(f"{candidate}: {why}")
    raise PlatformError(f"no platform works here ({'; '.join(reasons)})")
