"""The directories /proc/PID and /proc/PID/task/TID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import stat as S
from sentry.fs.generated import DynamicDir, GenNode, GenSuper
from sentry.fs.proc import files, memory, namespaces, net, status
from sentry.fs.proc.base import DIR_INO, INO_SHIFT, TaskDir, TaskFile, TaskRef
from sentry.vfs.attr import DirEntry

if TYPE_CHECKING:
    from sentry.fs.proc.base import TaskReader, TaskWriter
    from sentry.kernel.task import Task
    from sentry.vfs.attr import Attr
    from sentry.vfs.inode import Inode

TASK_INO: Final = 2
FD_INO: Final = 3
FDINFO_INO: Final = 4
NS_INO: Final = 5  # and the numbers of its links
EXE_INO: Final = 20
CWD_INO: Final = 21
ROOT_INO: Final = 22
MEM_INO: Final = 23
NET_INO: Final = 24
FILES_INO: Final = 32  # and up
THREAD_BIT: Final = 0x8000  # the same files below task/TID


class Entry:
    """A file of a task directory. `node`: its class."""

    def __init__(
        self,
        name: bytes,
        mode: int,
        read: TaskReader,
        write: TaskWriter | None = None,
        private: bool = False,
        node: type[TaskFile] = TaskFile,
    ) -> None:
        self.name: bytes = name
        self.mode: int = mode
        self.read: TaskReader = read
        self.write: TaskWriter | None = write
        self.private: bool = private
        self.node: type[TaskFile] = node


def process_stat(reader: Task, t: Task) -> bytes:
    return status.stat_line(reader, t, True)


def thread_stat(reader: Task, t: Task) -> bytes:
    return status.stat_line(reader, t, False)


COMMON: Final = (
    Entry(b"auxv", 0o400, memory.auxv, None, True),
    Entry(b"cgroup", 0o444, status.cgroup),
    Entry(b"cmdline", 0o444, memory.cmdline),
    Entry(b"comm", 0o644, status.comm, status.set_comm),
    Entry(b"environ", 0o400, memory.environ, None, True),
    Entry(b"gid_map", 0o444, status.gid_map),
    Entry(b"limits", 0o444, status.limits),
    Entry(b"maps", 0o444, memory.maps, None, True),
    Entry(b"mountinfo", 0o444, files.mountinfo, node=files.MountsNode),
    Entry(b"mounts", 0o444, files.mounts, node=files.MountsNode),
    Entry(b"oom_adj", 0o444, status.oom_adj),
    Entry(b"oom_score", 0o444, status.oom_score),
    Entry(b"oom_score_adj", 0o644, status.oom_score_adj, status.set_oom_score_adj),
    Entry(b"personality", 0o400, status.personality, None, True),
    Entry(b"sched", 0o444, status.sched),
    Entry(b"schedstat", 0o444, status.schedstat),
    Entry(b"setgroups", 0o444, status.setgroups),
    Entry(b"smaps", 0o444, memory.smaps, None, True),
    Entry(b"smaps_rollup", 0o444, memory.smaps_rollup, None, True),
    Entry(b"statm", 0o444, status.statm),
    Entry(b"status", 0o444, status.status),
    Entry(b"syscall", 0o400, status.syscall, None, True),
    Entry(b"uid_map", 0o444, status.uid_map),
    Entry(b"wchan", 0o444, status.wchan),
)
PROCESS: Final = (
    Entry(b"coredump_filter", 0o444, status.coredump_filter),
    Entry(b"mountstats", 0o400, files.mountstats, node=files.MountsNode),
    Entry(b"stat", 0o444, process_stat),
    Entry(b"timerslack_ns", 0o444, status.timerslack, None, True),
)
THREAD: Final = (
    Entry(b"children", 0o444, status.children),
    Entry(b"stat", 0o444, thread_stat),
)


class TidDir(TaskDir):
    """/proc/PID (whole) or /proc/PID/task/TID. Its nodes are made when they are looked up."""

    def __init__(self, sb: GenSuper, t: Task, whole: bool) -> None:
        super().__init__(sb, TaskRef(t), DIR_INO if whole else DIR_INO | THREAD_BIT)
        self.whole: bool = whole

    def kind(self, number: int) -> int:
        return number if self.whole else number | THREAD_BIT

    def table(self) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        return COMMON, PROCESS if self.whole else THREAD

    def build(self, name: bytes) -> GenNode | None:
        sb, ref = self.fs, self.ref
        number = FILES_INO
        for table in self.table():
            for e in table:
                if e.name == name:
                    return e.node(sb, ref, self.kind(number), e.mode, e.read, e.write, e.private)
                number += 1
        if name == b"fd":
            return files.FdDir(sb, ref, self.kind(FD_INO), False)
        if name == b"fdinfo":
            return files.FdDir(sb, ref, self.kind(FDINFO_INO), True)
        if name == b"exe":
            return files.ExeLink(sb, ref, self.kind(EXE_INO))
        if name == b"cwd":
            return files.CwdLink(sb, ref, self.kind(CWD_INO), False)
        if name == b"root":
            return files.CwdLink(sb, ref, self.kind(ROOT_INO), True)
        if name == b"mem":
            return memory.MemNode(sb, ref, self.kind(MEM_INO))
        if name == b"ns":
            return namespaces.directory(sb, ref, self.kind(NS_INO))
        if name == b"net":
            return net.directory(sb, self.ref.kernel, ref.tid << INO_SHIFT | self.kind(NET_INO))
        if name == b"task" and self.whole:
            return ThreadsDir(sb, ref)
        return None

    def lookup(self, name: bytes) -> Inode | None:
        if self.ref.find() is None:
            return None
        node = self.children.get(name)
        if node is None:
            node = self.build(name)
            if node is not None:
                self.children[name] = node
        return node

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        return child is not None and self.children.get(name) is child and self.ref.find() is not None

    def readdir(self) -> list[DirEntry]:
        if self.ref.find() is None:
            return []
        base = self.ref.tid << INO_SHIFT
        found: list[DirEntry] = []
        for name, number, mode in (
            (b"cwd", CWD_INO, S.S_IFLNK),
            (b"exe", EXE_INO, S.S_IFLNK),
            (b"fd", FD_INO, S.S_IFDIR),
            (b"fdinfo", FDINFO_INO, S.S_IFDIR),
            (b"mem", MEM_INO, S.S_IFREG),
            (b"net", NET_INO, S.S_IFDIR),
            (b"ns", NS_INO, S.S_IFDIR),
            (b"root", ROOT_INO, S.S_IFLNK),
        ):
            found.append(DirEntry(name, base | self.kind(number), mode >> 12))
        if self.whole:
            found.append(DirEntry(b"task", base | TASK_INO, S.S_IFDIR >> 12))
        number = FILES_INO
        for table in self.table():
            for e in table:
                found.append(DirEntry(e.name, base | self.kind(number), S.S_IFREG >> 12))
                number += 1
        return found

    def getattr(self) -> Attr:
        attr = super().getattr()
        attr.nlink = 7 if self.whole else 6
        return attr


class ThreadsDir(DynamicDir):
    """/proc/PID/task."""

    def __init__(self, sb: GenSuper, ref: TaskRef) -> None:
        super().__init__(sb, 0o555, ref.tid << INO_SHIFT | TASK_INO)
        self.ref: TaskRef = ref

    def owner(self) -> tuple[int, int]:
        return self.ref.owner(True)

    def threads(self) -> list[Task]:
        t = self.ref.find()
        if t is None:
            return []
        tg = t.tg
        return tg.tasks if tg.main in tg.tasks else [tg.main, *tg.tasks]

    def find(self, name: bytes) -> GenNode | None:
        for t in self.threads():
            if name == b"%d" % t.tid:
                return TidDir(self.fs, t, False)
        return None

    def revalidate(self, name: bytes, child: Inode | None) -> bool:
        return isinstance(child, TidDir) and child.ref.find() is not None

    def entries(self) -> list[DirEntry]:
        return [
            DirEntry(b"%d" % t.tid, t.tid << INO_SHIFT | THREAD_BIT | DIR_INO, S.S_IFDIR >> 12) for t in self.threads()
        ]

    def getattr(self) -> Attr:
        attr = super().getattr()
        attr.nlink = 2 + len(self.threads())
        return attr
