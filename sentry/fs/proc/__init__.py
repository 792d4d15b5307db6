"""/proc (proc(5)): the kernel's objects as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import statfs as SF

if TYPE_CHECKING:
    from sentry.fs.proc.root import ProcRoot
    from sentry.kernel.kernel import Kernel


def new(kernel: Kernel, dev: int) -> ProcRoot:
    """The root of a new proc (its super block is root.sb)."""
    from sentry.fs.generated import GenSuper
    from sentry.fs.proc.root import ProcRoot

    sb = GenSuper(b"proc", dev, SF.PROC_SUPER_MAGIC)
    sb.source = b"proc"
    return ProcRoot(sb, kernel)
