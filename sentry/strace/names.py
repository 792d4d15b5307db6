"""Names of flags and numbers for printing: taken from sentry/abi by prefix."""

from __future__ import annotations

from typing import Any, Final

from sentry.abi import errno, fcntl, futex, ioctl, mman, resource, sched, signal, socket, time
from sentry.errors import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS


def constants(module: Any, prefix: str, leave_out: str = "") -> dict[int, str]:
    """Values of a module's constants whose names begin with `prefix`; of two names of a value the alphabet's first.

    `leave_out`: names, or beginnings of names followed by "*".
    """
    words = leave_out.split()
    skipped = [w for w in words if not w.endswith("*")]
    beginnings = tuple([w[:-1] for w in words if w.endswith("*")])
    out: dict[int, str] = {}
    for name, value in sorted(vars(module).items()):
        if not name.startswith(prefix) or not isinstance(value, int) or name in skipped:
            continue
        if not beginnings or not name.startswith(beginnings):
            out.setdefault(value, str(name))
    return out


def single_bits(table: dict[int, str]) -> list[tuple[int, str]]:
    """The flags of a table that are one bit, lowest first."""
    return [(value, table[value]) for value in sorted(table) if value > 0 and value & (value - 1) == 0]


OPEN_COMPOUND: Final = ((fcntl.O_TMPFILE, "O_TMPFILE"), (fcntl.O_SYNC, "O_SYNC"))
OPEN_BITS: Final = single_bits(constants(fcntl, "O_", "O_LARGEFILE O_ASYNC O_NDELAY O_WRONLY O_RDWR O_FSYNC O_RSYNC"))
ACCESS_MODES: Final = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")
PROT_BITS: Final = single_bits(constants(mman, "PROT_"))
MAP_BITS: Final = single_bits(constants(mman, "MAP_", "MAP_SHARED MAP_PRIVATE MAP_TYPE MAP_FILE MAP_SHARED_VALIDATE"))
MAP_TYPES: Final[dict[int, str]] = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE"}
CLONE_BITS: Final = single_bits(constants(sched, "CLONE_"))
ERRNO: Final[dict[int, str]] = errno.NAMES
SIGNALS: Final = constants(signal, "SIG", "SIG_* SIGEV_* SIGIOT SIGPOLL SIGCLD SIGSTKSZ SIGRTMIN SIGRTMAX")
FUTEX_OPS: Final = constants(futex, "FUTEX_", "FUTEX_OP_* FUTEX_32 FUTEX_BITSET* FUTEX_PRIVATE* FUTEX_CLOCK* FUTEX_CMD_MASK")
IOCTLS: Final = {**constants(ioctl, "FI"), **constants(ioctl, "TC"), **constants(ioctl, "TIOC")}
FCNTL_VALUES: Final = "F_OWNER_* F_SEAL_* F_OK F_RDLCK F_WRLCK F_UNLCK F_EXLCK F_SHLCK F_LOCK F_TEST F_TLOCK F_ULOCK"
FCNTLS: Final = constants(fcntl, "F_", FCNTL_VALUES)
RLIMITS: Final = constants(resource, "RLIMIT_", "RLIMIT_NLIMITS")
CLOCKS: Final = constants(time, "CLOCK_")
FAMILIES: Final = constants(socket, "AF_")
RESTARTS: Final[dict[int, str]] = {
    ERESTARTSYS: "ERESTARTSYS",
    ERESTARTNOINTR: "ERESTARTNOINTR",
    ERESTARTNOHAND: "ERESTARTNOHAND",
    ERESTART_RESTARTBLOCK: "ERESTART_RESTARTBLOCK",
}


def flags(value: int, bits: list[tuple[int, str]], zero: str = "0") -> str:
    """Names of the set bits with what is left over in hex."""
    if value == 0:
        return zero
    words: list[str] = []
    for bit, name in bits:
        if value & bit:
            words.append(name)
            value &= ~bit
    if value:
        words.append(hex(value))
    return "|".join(words)


def open_flags(value: int) -> str:
    words = [ACCESS_MODES[value & 3]]
    rest = value & ~3 & ~fcntl.O_LARGEFILE
    for bits, name in OPEN_COMPOUND:
        if rest & bits == bits:
            words.append(name)
            rest &= ~bits
    if rest:
        words.append(flags(rest, OPEN_BITS))
    return "|".join(words)


def map_flags(value: int) -> str:
    kind = MAP_TYPES.get(value & 15, hex(value & 15))
    rest = value & ~15
    return f"{kind}|{flags(rest, MAP_BITS)}" if rest else kind


def clone_flags(value: int) -> str:
    sig = SIGNALS.get(value & 0xFF, str(value & 0xFF)) if value & 0xFF else ""
    rest = flags(value & ~0xFF, CLONE_BITS, "")
    return "|".join(w for w in (rest, sig) if w) or "0"


def signal_name(number: int) -> str:
    if 32 <= number <= 64:
        return f"SIGRT_{number - 32}"
    return SIGNALS.get(number, str(number))


def signal_set(mask: int) -> str:
    """As strace prints sets: the shorter of the set and its complement."""
    full = (1 << 64) - 1
    prefix = ""
    if mask.bit_count() > 32:
        mask, prefix = full & ~mask, "~"
    words = [signal_name(n + 1).removeprefix("SIG") for n in range(64) if mask >> n & 1]
    return f"{prefix}[{' '.join(words)}]"


def futex_op(value: int) -> str:
    command = FUTEX_OPS.get(value & 0x7F, str(value & 0x7F))
    words = [command]
    if value & futex.FUTEX_PRIVATE_FLAG:
        words[0] = f"{command}_PRIVATE"
    if value & futex.FUTEX_CLOCK_REALTIME:
        words.append("FUTEX_CLOCK_REALTIME")
    return "|".join(words)
