"""What belongs to the machine and not to a container: refused as to a process without the capability for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.task import Task

IO_PORTS: Final = 65536


def not_permitted(t: Task, *_: int) -> int:
    """EPERM, as Linux says before it looks at any argument."""
    raise Errno(E.EPERM)


def iopl(t: Task, level: int) -> int:
    """iopl(2): the level is 0 and stays 0."""
    if level > 3:
        raise Errno(E.EINVAL)
    if level:
        raise Errno(E.EPERM)
    return 0


def ioperm(t: Task, first: int, count: int, on: int) -> int:
    """ioperm(2): no port is allowed."""
    if count == 0 or first + count > IO_PORTS:
        raise Errno(E.EINVAL)
    if on:
        raise Errno(E.EPERM)
    return 0
