"""/proc (proc(5)): the kernel's objects as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import statfs as SF
from sentry.fs.generated import GenSuper

if TYPE_CHECKING:
    from sentry.fs.proc.root import ProcRoot
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.pidns import PidNamespace


def new(kernel: Kernel, pidns: PidNamespace, dev: int) -> ProcRoot:
    """The root of a new proc that shows a PID namespace (its super block is root.sb)."""
    from sentry.fs.proc.root import (
        ProcRoot,  # sentry/tree.py has loaded it: nothing can be imported in a sealed sentry
    )

    return ProcRoot(GenSuper(b"proc", dev, SF.PROC_SUPER_MAGIC), kernel, pidns)
