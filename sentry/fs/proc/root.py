"""The root of /proc: a directory for each process, and what is about the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import stat as S
from sentry.fs.generated import DynamicDir, GenNode, GenSuper
from sentry.fs.proc import sysctl, system, sysvipc
from sentry.fs.proc.base import DIR_INO, INO_SHIFT
from sentry.fs.proc.pid import TidDir
from sentry.vfs.attr import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.pidns import PidNamespace
    from sentry.vfs.attr import Attr
    from sentry.vfs.inode import Inode

ROOT_INO: Final = 1
KEPT: Final = 16  # directories of dead tasks that may be kept


class ProcRoot(DynamicDir):
    def __init__(self, sb: GenSuper, kernel: Kernel, pidns: PidNamespace) -> None:
        super().__init__(sb, 0o555, ROOT_INO)
        sb.last_ino = ROOT_INO
        self.pidns: PidNamespace = pidns
        self.tasks: dict[int, TidDir] = {}  # the directories that were looked up, by tid
        system.populate(self, sb)
        sysctl.populate(self, sb, kernel)
        sysvipc.populate(self, sb)

    def forget_dead(self) -> None:
        """Directories of tasks that were reaped go when there are more of them than of others."""
        if len(self.tasks) > 2 * len(self.pidns.tasks) + KEPT:
            for tid in [tid for tid, d in self.tasks.items() if d.ref.find() is None]:
                del self.tasks[tid]

    def find(self, name: bytes) -> GenNode | None:
        if not name.isdigit() or len(name) > 7:
            return None
        tid = int(name)
        t = self.pidns.tasks.get(tid)
        if t is None or name != b"%d" % tid:
            return None
        known = self.tasks.get(tid)
        if known is not None and known.ref.find() is t:
            return known
        self.forget_dead()
        d = TidDir(self.fs, t, True)
        self.tasks[tid] = d
        return d

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        if isinstance(child, TidDir):
            return child.ref.find() is not None
        return child is not None

    def entries(self) -> list[DirEntry]:
        kind = S.S_IFDIR >> 12
        return [DirEntry(b"%d" % pid, pid << INO_SHIFT | DIR_INO, kind) for pid in sorted(self.pidns.groups)]

    def getattr(self) -> Attr:
        attr = super().getattr()
        attr.nlink += len(self.pidns.groups)
        return attr
