"""Resource limits of a process (getrlimit(2))."""

from __future__ import annotations

from typing import Final

from sentry.abi import resource as R
from sentry.errors import SandboxError

INFINITY: Final = 0xFFFFFFFFFFFFFFFF
COUNT: Final = R.RLIM_NLIMITS

# Soft and hard values a fresh machine gives its first process.
DEFAULTS: Final[dict[int, tuple[int, int]]] = {
    R.RLIMIT_STACK: (8 << 20, INFINITY),
    R.RLIMIT_CORE: (0, INFINITY),
    R.RLIMIT_NPROC: (65536, 65536),
    R.RLIMIT_NOFILE: (1024, 1 << 20),
    R.RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    R.RLIMIT_SIGPENDING: (65536, 65536),
    R.RLIMIT_MSGQUEUE: (819200, 819200),
    R.RLIMIT_NICE: (0, 0),
    R.RLIMIT_RTPRIO: (0, 0),
}


class Limits:
    """Soft and hard limits by RLIMIT_* number; INFINITY for none. Shared by the threads of a process, copied by fork."""

    def __init__(self) -> None:
        self.softs: list[int] = [DEFAULTS.get(r, (INFINITY, INFINITY))[0] for r in range(COUNT)]
        self.hards: list[int] = [DEFAULTS.get(r, (INFINITY, INFINITY))[1] for r in range(COUNT)]

    def soft(self, resource: int) -> int:
        return self.softs[resource]

    def hard(self, resource: int) -> int:
        return self.hards[resource]

    def set(self, resource: int, soft: int, hard: int) -> None:
        self.softs[resource] = soft
        self.hards[resource] = hard

    def set_by_name(self, name: str, soft: int, hard: int) -> None:
        """By the name after RLIMIT_, -1 for infinity; SandboxError for an unknown name or a soft value above the hard one."""
        number = NAMES.get(name.upper())
        if number is None:
            raise SandboxError(f"limit {name}: no such resource")
        soft, hard = (INFINITY if v < 0 else v for v in (soft, hard))
        if soft > hard:
            raise SandboxError(f"limit {name}: soft value {soft} is above the hard value {hard}")
        self.set(number, soft, hard)

    def copy(self) -> Limits:
        new = Limits()
        new.softs = self.softs[:]
        new.hards = self.hards[:]
        return new


NAMES: Final[dict[str, int]] = {
    "CPU": R.RLIMIT_CPU,
    "FSIZE": R.RLIMIT_FSIZE,
    "DATA": R.RLIMIT_DATA,
    "STACK": R.RLIMIT_STACK,
    "CORE": R.RLIMIT_CORE,
    "RSS": R.RLIMIT_RSS,
    "NPROC": R.RLIMIT_NPROC,
    "NOFILE": R.RLIMIT_NOFILE,
    "MEMLOCK": R.RLIMIT_MEMLOCK,
    "AS": R.RLIMIT_AS,
    "LOCKS": R.RLIMIT_LOCKS,
    "SIGPENDING": R.RLIMIT_SIGPENDING,
    "MSGQUEUE": R.RLIMIT_MSGQUEUE,
    "NICE": R.RLIMIT_NICE,
    "RTPRIO": R.RLIMIT_RTPRIO,
    "RTTIME": R.RLIMIT_RTTIME,
}
