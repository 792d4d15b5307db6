"""/proc/sysvipc: the System V objects of the sandbox (sysvipc(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.kernel.ipc.registry import IpcObject

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MSG_HEAD: Final = (
    b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
    b"      stime      rtime      ctime\n"
)
SEM_HEAD: Final = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
SHM_HEAD: Final = (
    b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
    b"      atime      dtime      ctime                   rss                  swap\n"
)


def owners(obj: IpcObject) -> bytes:
    return b"%5d %5d %5d %5d" % (obj.uid, obj.gid, obj.cuid, obj.cgid)


def msg(t: Task) -> bytes:
    out = [MSG_HEAD]
    for _, q in sorted(t.container.ipc.msg.registry.slots.items()):
        head = (q.key, q.ident, q.mode, q.bytes, len(q.messages), q.lspid, q.lrpid, owners(q))
        out.append(b"%10d %10d  %4o  %10d %10d %5d %5d %s " % head)
        out.append(b"%10d %10d %10d\n" % (q.stime, q.rtime, q.ctime))
    return b"".join(out)


def sem(t: Task) -> bytes:
    out = [SEM_HEAD]
    for _, s in sorted(t.container.ipc.sem.registry.slots.items()):
        out.append(b"%10d %10d  %4o %10d %s " % (s.key, s.ident, s.mode, len(s.values), owners(s)))
        out.append(b"%10d %10d\n" % (s.otime, s.ctime))
    return b"".join(out)


def shm(t: Task) -> bytes:
    """Nothing is swapped; all of a segment counts as resident."""
    ns = t.container.ipc.shm
    out = [SHM_HEAD]
    for s in [*(s for _, s in sorted(ns.registry.slots.items())), *ns.dying]:
        attached = ns.attached(t, s)
        out.append(
            b"%10d %10d  %4o %21d %5d %5d  %5d %s "
            % (s.key, s.ident, s.mode, s.size, s.cpid, s.lpid, attached, owners(s))
        )
        out.append(b"%10d %10d %10d %21d %21d\n" % (s.atime, s.dtime, s.ctime, s.size, 0))
    return b"".join(out)


def populate(root: GenDir, sb: GenSuper) -> None:
    """Adds the directory to /proc."""
    d = root.dir(b"sysvipc")
    for name, read in ((b"msg", msg), (b"sem", sem), (b"shm", shm)):
        d.add(name, GenFile(sb, 0o444, read))
