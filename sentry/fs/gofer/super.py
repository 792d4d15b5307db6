"""One tree of a gofer: the connection, the fids held there, and what is cached."""

from __future__ import annotations

import resource
from collections import deque
from typing import TYPE_CHECKING, Final

from gofer.client import ROOT_FID, Client
from gofer.p9.wire import Attr as WireAttr
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.errors import Errno, SandboxError
from sentry.vfs.attr import Attr
from sentry.vfs.inode import SuperBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.fs.gofer.inode import Content, GoferFile, GoferInode

MAX_FIDS: Final = 8192  # each is a descriptor in the gofer, which has the same limit of them as this process
MAX_HOST_FDS: Final = 2048  # of files that are not open, kept for the next open
MAX_LINKED: Final = 4096  # files with several names whose inode is remembered
MAX_LISTED: Final = 16 << 20  # bytes of directories' listings that are remembered
INO_BITS: Final = 48


LIMIT: Final[list[int]] = []  # looked up once: a sealed sentry can't


def descriptor_limit() -> int:
    """How many descriptors this process may have."""
    if not LIMIT:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        LIMIT.append(hard if hard > 0 else MAX_FIDS * 4)
    return LIMIT[0]


class SentryClient(Client):
    """A client whose failures are the sentry's: an errno of the guest's call, or the end of the container (before there is one,
    of the sandbox)."""

    def __init__(self, sock: int) -> None:
        super().__init__(sock)
        # Called with the reason when the gofer has gone; does the sandbox go on without it?
        self.lost: Callable[[str], bool] | None = None

    def fail(self, errno: int) -> Exception:
        return Errno(errno)

    def gone(self, why: str) -> Exception:
        if self.lost is None or not self.lost(why):
            return SandboxError(f"the gofer failed: {why}", 70)
        return Errno(E.EIO)


class Fid:
    """A fid held at the gofer. One that is not pinned may be given up at any time, since its inode can be walked to again."""

    def __init__(self, number: int) -> None:
        self.number: int = number  # -1: given up
        self.pinned: bool = False


class GoferSuper(SuperBlock):
    def __init__(self, sock: int, dev: int, shared: bool) -> None:
        super().__init__(b"gofer", dev)
        self.client: SentryClient = SentryClient(sock)
        self.shared: bool = shared
        self.revalidate = shared
        self.walks = True
        self.source = b"gofer"
        self.fids: list[Fid] = []  # oldest first, given up ones among them
        self.held: int = 0
        limit = descriptor_limit()
        self.max_fids: int = max(64, min(MAX_FIDS, limit // 4))
        self.max_hosts: int = max(64, min(MAX_HOST_FDS, limit // 8))
        self.devs: dict[int, int] = {}  # device numbers of the host -> small numbers for st_ino
        self.linked: dict[tuple[int, int], GoferInode] = {}
        self.listed: deque[tuple[GoferInode, Content]] = deque()  # oldest first; some of them changed since
        self.listed_size: int = 0
        self.changes: int = 0  # of names, by us
        self.hosts: list[GoferFile] = []  # files that have host descriptors, oldest first

    def start(self) -> GoferInode:
        """Attaches; the root inode."""
        from sentry.fs.gofer.inode import new_inode

        attr = self.client.start()
        if not self.client.extended:
            raise SandboxError("the gofer failed: it does not know 9P2000.L.cordon1")
        root = new_inode(self, self.attr(attr), (attr.path, attr.dev), None, b"")
        root.fid = Fid(ROOT_FID)
        root.fid.pinned = True
        return root

    def attr(self, a: WireAttr) -> Attr:
        """Attributes as the kernel has them. Inode numbers of mounts within the tree are kept apart from the root's."""
        attr = Attr(self.ino(a.path, a.dev), a.mode, a.uid, a.gid, a.nlink)
        attr.dev = self.dev
        attr.rdev = a.rdev
        attr.size = a.size
        attr.blksize = a.blksize
        attr.blocks = a.blocks
        attr.atime = a.atime
        attr.mtime = a.mtime
        attr.ctime = a.ctime
        attr.btime = a.btime
        return attr

    def ino(self, path: int, dev: int) -> int:
        """The inode number that guests see."""
        index = self.devs.get(dev)
        if index is None:
            index = len(self.devs)
            self.devs[dev] = index
        return path ^ (index & 0x7FFF) << INO_BITS if index else path

    # Fids

    def hold(self, number: int) -> Fid:
        """Takes charge of a fresh fid; gives old ones up when there are too many."""
        fid = Fid(number)
        self.fids.append(fid)
        self.held += 1
        if self.held > self.max_fids:
            self.give_up(self.max_fids // 2)
        elif len(self.fids) > 4 * MAX_FIDS:
            self.fids = [f for f in self.fids if f.number >= 0]
        return fid

    def drop(self, fid: Fid) -> None:
        if fid.number > ROOT_FID:
            self.client.clunk(fid.number)
            self.held -= 1
        fid.number = -1

    def give_up(self, count: int) -> None:
        """Clunks up to `count` of the oldest fids that can be had again (the newest is never among them)."""
        kept: list[Fid] = []
        last = len(self.fids) - 1
        for i, fid in enumerate(self.fids):
            if fid.number < 0:
                continue
            if count > 0 and not fid.pinned and i < last:
                self.drop(fid)
                count -= 1
            else:
                kept.append(fid)
        self.fids = kept

    # Caches

    def remember_link(self, key: tuple[int, int], inode: GoferInode) -> None:
        """An inode with several names is one inode by whichever it is found."""
        linked = self.linked
        if len(linked) >= MAX_LINKED:
            del linked[next(iter(linked))]
        linked[key] = inode

    def remember_content(self, inode: GoferInode, content: Content) -> None:
        """A directory was listed; those not used for the longest are forgotten when all take too much."""
        self.listed.append((inode, content))
        self.listed_size += content.size
        chances = len(self.listed)
        while self.listed_size > MAX_LISTED and len(self.listed) > 1:
            old, what = self.listed.popleft()
            if what.used and old.content is what and chances > 0:
                chances -= 1
                what.used = False
                self.listed.append((old, what))
                continue
            self.listed_size -= what.size
            if old.content is what:
                old.content = None

    def remember_host(self, inode: GoferFile) -> None:
        """A file got a host descriptor; those of the longest unused ones are closed when there are too many."""
        self.hosts.append(inode)
        if len(self.hosts) > self.max_hosts:
            old = self.hosts[: self.max_hosts // 2]
            self.hosts = self.hosts[self.max_hosts // 2 :]
            for file in old:
                if file.opens:
                    self.hosts.append(file)
                else:
                    file.close_hosts()

    def shed_hosts(self) -> bool:
        """This process's descriptor table is full: closes those of all files that are not open. True if there was one."""
        kept = [file for file in self.hosts if file.opens]
        for file in self.hosts:
            if not file.opens:
                file.close_hosts()
        shed = len(kept) < len(self.hosts)
        self.hosts = kept
        return shed

    def statfs(self) -> tuple[int, int, int, int, int, int, int, int]:
        v = self.client.statfs(ROOT_FID)
        return (v[0], v[1], v[2], v[3], v[4], v[5], v[6], min(v[8], F.NAME_MAX))
