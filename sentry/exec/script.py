"""Scripts: what a `#!` line says (execve(2), "Interpreter scripts")."""

from __future__ import annotations

from typing import Final

from sentry.abi import errno as E
from sentry.errors import Errno

HEAD_SIZE: Final = 256  # of a file, looked at by exec
MAX_NESTING: Final = 5
BLANK: Final = b" \t"


def is_script(head: bytes) -> bool:
    return head[:2] == b"#!"


def interpreter(head: bytes) -> tuple[bytes, bytes | None]:
    """(path, the one optional argument or None) of the first HEAD_SIZE bytes of a script; ENOEXEC when there is no path."""
    line, newline, _ = head[2:HEAD_SIZE].partition(b"\n")
    line = line.partition(b"\0")[0]
    line = line.strip(BLANK) if newline or len(head) < HEAD_SIZE else line.lstrip(BLANK)
    if not line:
        raise Errno(E.ENOEXEC)
    end = 0
    while end < len(line) and line[end] not in BLANK:
        end += 1
    if end == len(line) and not newline and len(head) >= HEAD_SIZE:
        raise Errno(E.ENOEXEC)  # the path itself is cut off
    path = line[:end]
    argument = line[end:].strip(BLANK)
    return path, argument if argument else None
