"""POSIX message queues (mq_overview(7)): a directory of queues, which mq_open(3) finds by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import poll as P
from sentry.abi import signal as SIG
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.fs.tmpfs import TmpDir, TmpInode, TmpSuper
from sentry.kernel import signals
from sentry.kernel.ipc import limits as L
from sentry.kernel.signals import SigInfo
from sentry.kernel.wait import WaitQueue
from sentry.vfs.file import END_EACH, File

if TYPE_CHECKING:
    from sentry.kernel.ipc.limits import Limits
    from sentry.kernel.ipc.namespace import IpcNamespace
    from sentry.kernel.task import Task
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.net.netlink.socket import NetlinkSocket
    from sentry.vfs.attr import Attr
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

HARD_MSG_MAX: Final = 65536
HARD_MSGSIZE_MAX: Final = 16 << 20
PRIO_MAX: Final = 32768
STATUS_SIZE: Final = 80
COOKIE_SIZE: Final = 32  # bytes that a SIGEV_THREAD notification sends (linux/mqueue.h)
WOKEN: Final = 1
REMOVED: Final = 2
MQUEUE_MAGIC: Final = 0x19800202  # statfs(2)


class Notification:
    """Who asked by mq_notify(3) to be told of the next message."""

    def __init__(self, tg: ThreadGroup) -> None:
        self.tg: ThreadGroup = tg
        self.signo: int = 0  # SIGEV_SIGNAL
        self.value: int = 0
        self.socket: NetlinkSocket | None = None  # SIGEV_THREAD: where the C library's helper thread listens
        self.cookie: bytes = b""  # what it hears, but for the last byte

    def kind(self) -> int:
        """SIGEV_SIGNAL, SIGEV_THREAD or SIGEV_NONE."""
        return SIG.SIGEV_SIGNAL if self.signo else SIG.SIGEV_NONE if self.socket is None else SIG.SIGEV_THREAD

    def say(self, what: int) -> None:
        """Tells the helper thread: WOKEN, REMOVED."""
        if self.socket is not None:
            self.socket.reply(self.cookie[:-1] + bytes([what]))


class Queue(TmpInode):
    """A queue: messages by descending priority, then by age."""

    def __init__(self, sb: TmpSuper, attr: Attr, maxmsg: int, msgsize: int) -> None:
        super().__init__(sb, attr)
        attr.size = STATUS_SIZE
        self.maxmsg: int = maxmsg
        self.msgsize: int = msgsize
        self.messages: list[tuple[int, bytes]] = []
        self.bytes: int = 0
        self.notification: Notification | None = None
        self.waitq: WaitQueue = WaitQueue()
        self.receivers: int = 0  # tasks that wait for a message: they come before a notification

    def open(self, t: Task, path: Path, flags: int) -> File:
        return QueueFile(flags, path, self)

    def put(self, t: Task, priority: int, data: bytes) -> bool:
        """Adds a message; False when the queue is full."""
        if len(self.messages) >= self.maxmsg:
            return False
        at = len(self.messages)
        while at > 0 and self.messages[at - 1][0] < priority:
            at -= 1
        self.messages.insert(at, (priority, data))
        self.bytes += len(data)
        if len(self.messages) == 1 and self.notification is not None and self.receivers == 0:
            self.tell(t, self.notification)
        self.waitq.notify(P.POLLIN)
        return True

    def take(self) -> tuple[int, bytes] | None:
        """The first message of the highest priority, None when there is none."""
        if not self.messages:
            return None
        message = self.messages.pop(0)
        self.bytes -= len(message[1])
        self.waitq.notify(P.POLLOUT)
        return message

    def forget(self, t: Task) -> None:
        """Takes a notification of the task's process away."""
        n = self.notification
        if n is not None and n.tg is t.tg:
            self.notification = None
            n.say(REMOVED)

    def tell(self, t: Task, n: Notification) -> None:
        self.notification = None
        n.say(WOKEN)
        if n.signo and not n.tg.dead:
            info = SigInfo(n.signo, SIG.SI_MESGQ)
            info.pid, info.uid, info.value = t.tg.pid, t.creds.ruid, n.value
            signals.send_to_group(n.tg, info)


class QueueFile(File):
    """A message queue descriptor, or an open file of the queue's status."""

    def __init__(self, flags: int, path: Path | None, queue: Queue) -> None:
        super().__init__(flags, path, queue)
        self.queue: Queue = queue
        self.waitq = queue.waitq
        self.ending = END_EACH  # flush

    def read(self, t: Task, count: int, offset: int) -> bytes | None:
        q = self.queue
        n = q.notification
        text = b"QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n" % (
            q.bytes,
            n.kind() if n is not None else 0,
            n.signo if n is not None else 0,
            n.tg.pid if n is not None else 0,
        )
        data = text[self.pos : self.pos + count]
        self.pos += len(data)
        return data

    def poll(self) -> int:
        q = self.queue
        ready = P.POLLIN | P.POLLRDNORM if q.messages else 0
        return ready | P.POLLOUT | P.POLLWRNORM if len(q.messages) < q.maxmsg else ready

    def flush(self, t: Task) -> None:
        self.queue.forget(t)


class Root(TmpDir):
    """The directory; files made in it by open(2) are queues of default size."""

    def __init__(self, sb: TmpSuper, attr: Attr, limits: Limits) -> None:
        super().__init__(sb, attr)
        self.limits: Limits = limits
        self.sizes: tuple[int, int] | None = None  # of the queue that is being made; None: the usual ones

    def default_sizes(self) -> tuple[int, int]:
        """(maxmsg, msgsize) of a queue that nobody said more of."""
        v = self.limits.values
        return min(v[L.MSG_MAX], v[L.MSG_DEFAULT]), min(v[L.MSGSIZE_MAX], v[L.MSGSIZE_DEFAULT])

    def make_file(self, mode: int, uid: int, gid: int) -> TmpInode:
        if len(self.entries) >= self.limits.values[L.QUEUES_MAX]:
            raise Errno(E.ENOSPC)
        maxmsg, msgsize = self.sizes or self.default_sizes()
        return Queue(self.fs, self.fs.new_attr(mode, uid, gid), maxmsg, msgsize)

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise Errno(E.EPERM)

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        raise Errno(E.EPERM)

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        raise Errno(E.EPERM)

    def link(self, name: bytes, inode: Inode) -> None:
        raise Errno(E.EPERM)

    def make_queue(self, name: bytes, mode: int, uid: int, gid: int, sizes: tuple[int, int]) -> Queue:
        """mq_open(3) with attributes."""
        self.sizes = sizes
        try:
            queue = self.create(name, mode, uid, gid)
        finally:
            self.sizes = None
        assert isinstance(queue, Queue)
        return queue


def new(ipc: IpcNamespace, dev: int) -> Root:
    """The root of a namespace's queues; the same one however often it is mounted."""
    root = ipc.mqueues
    if isinstance(root, Root):
        return root
    sb = TmpSuper(dev, 0, 0, b"mqueue")
    sb.magic = MQUEUE_MAGIC
    attr = sb.new_attr(S.S_IFDIR | S.S_ISVTX | 0o777, 0, 0)
    attr.nlink = 2
    made = Root(sb, attr, ipc.limits)
    ipc.mqueues = made
    return made


def flags_of(oflag: int) -> int:
    """The open flags that a queue descriptor keeps."""
    return oflag & (F.O_ACCMODE | F.O_NONBLOCK)
