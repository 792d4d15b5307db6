"""Prints arguments by the kinds of the table's rows, as strace(1) does.

What an argument points to is read from guest memory at the moment of printing; what can't be read is printed as an address.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sentry.abi import fcntl
from sentry.errors import Errno
from sentry.strace import names

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.syscalls.table import Row

STRING: Final = 32  # bytes of a buffer that are shown
MAX_WORDS: Final = 32  # elements of an argument vector, iovec or poll set that are shown
#: Kinds that the call fills in, so they are printed when it returned.
FILLED: Final = frozenset(
    "buf_out stat_out iov_out fds_out sigset_out timespec_out timeval_out itimerspec_out itimerval_out rlimit_out "
    "str_out sigaction_out siginfo_out pollfds fdset".split()
)
ESCAPES: Final[dict[int, str]] = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quote(data: bytes, limit: int = STRING) -> str:
    """A C string literal, "..." after it when it was cut."""
    shown = data[:limit]
    text = ""
    for i, c in enumerate(shown):
        if c in ESCAPES:
            text += ESCAPES[c]
        elif 32 <= c < 127:
            text += chr(c)
        elif i + 1 < len(shown) and 48 <= shown[i + 1] <= 57:
            text += f"\\{c:03o}"
        else:
            text += f"\\{c:o}"
    return f'"{text}"' + ("..." if len(data) > limit else "")


def u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def i64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little", signed=True)


def i32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)


def pointer(value: int) -> str:
    return hex(value) if value else "NULL"


def buffer(t: Task, addr: int, count: int) -> str:
    """The beginning of `count` bytes."""
    if count < 0 or (addr == 0 and count == 0):  # a length that the guest got wrong
        return pointer(addr)
    return quote(t.mm.read_some(addr, min(count, STRING)) if count else b"") + ("..." if count > STRING else "")


def iovec(t: Task, addr: int, count: int, limit: int) -> str:
    """Buffers of which `limit` bytes hold something."""
    words: list[str] = []
    for i in range(min(count, MAX_WORDS)):
        entry = t.mm.read(addr + 16 * i, 16)
        base, length = u64(entry, 0), u64(entry, 8)
        n = min(length, limit)
        limit -= n
        words.append(f"{{iov_base={buffer(t, base, n)}, iov_len={length}}}")
    return "[" + ", ".join(words) + (", ..." if count > MAX_WORDS else "") + "]"


def vector(t: Task, addr: int) -> str:
    """argv or envp."""
    words: list[str] = []
    for i in range(MAX_WORDS):
        at = u64(t.mm.read(addr + 8 * i, 8), 0)
        if at == 0:
            return "[" + ", ".join(words) + "]"
        words.append(quote(t.mm.read_path(at)))
    return "[" + ", ".join(words) + ", ...]"


def count_vector(t: Task, addr: int) -> str:
    """envp, of which only the length is of interest."""
    n = 0
    while n < 4096 and u64(t.mm.read(addr + 8 * n, 8), 0):
        n += 1
    return f"{addr:#x} /* {n} vars */"


def pollfds(t: Task, addr: int, count: int, events_at: int) -> str:
    words: list[str] = []
    for i in range(min(count, MAX_WORDS)):
        entry = t.mm.read(addr + 8 * i, 8)
        words.append(f"{{fd={i32(entry, 0)}, events={int.from_bytes(entry[4:6], 'little'):#x}")
        words[-1] += f", revents={int.from_bytes(entry[6:8], 'little'):#x}}}" if events_at else "}"
    return "[" + ", ".join(words) + (", ..." if count > MAX_WORDS else "") + "]"


def fdset(t: Task, addr: int, count: int) -> str:
    bits = int.from_bytes(t.mm.read(addr, (min(max(count, 0), 1024) + 63) // 64 * 8), "little")
    return "[" + " ".join(str(n) for n in range(count if count < 1024 else 1024) if bits >> n & 1) + "]"


def sockaddr(t: Task, addr: int, length: int) -> str:
    data = t.mm.read(addr, min(length, 128)) if length >= 2 else b""
    if len(data) < 2:
        return pointer(addr)
    family = data[0] | data[1] << 8
    name = names.FAMILIES.get(family, str(family))
    if name == "AF_UNIX":
        path = data[2:]
        text = "@" + quote(path[1:], 108) if path[:1] == b"\0" else quote(path.partition(b"\0")[0], 108)
        return f"{{sa_family=AF_UNIX, sun_path={text}}}"
    if name == "AF_INET" and len(data) >= 8:
        return f"{{sa_family=AF_INET, sin_port={data[2] << 8 | data[3]}, sin_addr={'.'.join(str(b) for b in data[4:8])}}}"
    return f"{{sa_family={name}, sa_data={quote(data[2:])}}}"


def stat_buffer(t: Task, addr: int) -> str:
    """struct stat: type and mode, size."""
    data = t.mm.read(addr, 56)
    return f"{{st_mode={u64(data, 24) & 0xFFFFFFFF:#o}, st_size={u64(data, 48)}, ...}}"


def sigaction(t: Task, addr: int) -> str:
    data = t.mm.read(addr, 32)
    handler = u64(data, 0)
    name = ("SIG_DFL", "SIG_IGN")[handler] if handler < 2 else hex(handler)
    return f"{{sa_handler={name}, sa_mask={names.signal_set(u64(data, 24))}, sa_flags={u64(data, 8):#x}}}"


def times(t: Task, addr: int, count: int, unit: str) -> str:
    """One timespec or timeval, or two as interval and value."""
    data = t.mm.read(addr, 16 * count)
    words = [f"{{tv_sec={i64(data, 16 * i)}, {unit}={i64(data, 16 * i + 8)}}}" for i in range(count)]
    return words[0] if count == 1 else f"{{it_interval={words[0]}, it_value={words[1]}}}"


def structure(t: Task, kind: str, addr: int, args: list[int], result: int, leaving: bool) -> str:
    """What a pointer of a kind leads to; "" for a kind that is just an address."""
    kind = kind.removesuffix("_out")
    if kind in ("path", "str"):
        return quote(t.mm.read_path(addr), 4096)
    if kind == "argv":
        return vector(t, addr)
    if kind == "stat":
        return stat_buffer(t, addr)
    if kind == "sigset":
        return names.signal_set(u64(t.mm.read(addr, 8), 0))
    if kind == "sigaction":
        return sigaction(t, addr)
    if kind == "timespec":
        return times(t, addr, 1, "tv_nsec")
    if kind == "timeval":
        return times(t, addr, 1, "tv_usec")
    if kind == "itimerspec":
        return times(t, addr, 2, "tv_nsec")
    if kind == "itimerval":
        return times(t, addr, 2, "tv_usec")
    if kind == "rlimit":
        data = t.mm.read(addr, 16)
        soft, hard = (("RLIM_INFINITY" if v == (1 << 64) - 1 else str(v)) for v in (u64(data, 0), u64(data, 8)))
        return f"{{rlim_cur={soft}, rlim_max={hard}}}"
    if kind == "fds":
        data = t.mm.read(addr, 8)
        return f"[{i32(data, 0)}, {i32(data, 4)}]"
    if kind == "siginfo":
        data = t.mm.read(addr, 12)
        return f"{{si_signo={names.signal_name(i32(data, 0))}, si_code={i32(data, 8)}}}"
    return ""


def number(row_name: str, kind: str, value: int) -> str:
    """An argument that is no pointer; "" for a kind that is one."""
    if kind == "dirfd":
        return "AT_FDCWD" if value == fcntl.AT_FDCWD else str(value)
    if kind == "oflags":
        return names.open_flags(value)
    if kind == "prot":
        return names.flags(value, names.PROT_BITS, "PROT_NONE")
    if kind == "mmap_flags":
        return names.map_flags(value)
    if kind == "clone_flags":
        return names.clone_flags(value)
    if kind == "sig":
        return names.signal_name(value)
    if kind == "futex_op":
        return names.futex_op(value)
    if kind == "clock":
        return names.CLOCKS.get(value, str(value))
    if kind == "cmd":
        return (names.IOCTLS if row_name == "ioctl" else names.FCNTLS).get(value, hex(value))
    if kind == "mode":
        return f"0{value:o}" if value else "000"
    if kind == "dev32":
        return hex(value)
    if kind in ("fd", "int", "size", "uint", "pid", "off", "uid", "gid", "long", "whence", "kind", "cap"):
        return str(value)
    return ""


def argument(t: Task, row: Row, index: int, args: list[int], result: int, leaving: bool) -> str:
    """One argument, as far as it can be told now."""
    name, kind = row.arguments()[index]
    value = args[index]
    plain = number(row.name, kind, value)
    if plain:
        return names.RLIMITS.get(value, plain) if name == "resource" else plain
    if value == 0:
        return "NULL"
    if kind == "addr":
        return hex(value)
    following = args[index + 1] if index + 1 < len(args) else 0
    if leaving and kind in FILLED and result < 0:
        return hex(value)
    try:
        if kind == "buf_in":
            return buffer(t, value, following)
        if kind == "buf_out":
            return buffer(t, value, result)
        if kind == "iov_in":
            return iovec(t, value, following, 1 << 62)
        if kind == "iov_out":
            return iovec(t, value, following, result)
        if kind == "argv" and name == "envp":
            return count_vector(t, value)
        if kind == "pollfds":
            return pollfds(t, value, following, leaving)
        if kind == "fdset":
            return fdset(t, value, args[0])
        if kind == "sockaddr":
            return sockaddr(t, value, following)
        return structure(t, kind, value, args, result, leaving) or hex(value)
    except Errno:
        return hex(value)


def outcome(result: int) -> str:
    """`= value`, `= -1 ENAME (text)`."""
    if -4096 < result < 0:
        return f"= -1 {names.ERRNO.get(-result, str(-result))} ({os.strerror(-result)})"
    return f"= {result:#x}" if result > 0xFFFFFF else f"= {result}"
