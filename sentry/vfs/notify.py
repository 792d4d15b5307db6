"""Where file events come from: the generic layer reports each here, and watches (inotify(7)) pick what they want.

While nobody watches anything (`STATE.watches` is 0) callers need not call at all; every function here also tests it itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from native._core import lib
from sentry.abi import inotify as I
from sentry.abi import stat as S

if TYPE_CHECKING:
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Dentry, Path


class EventQueue:
    """Receives the events of its watches."""

    def event(self, watch: Watch, mask: int, cookie: int, name: bytes) -> None:
        raise NotImplementedError


class Watch:
    """One queue's interest in one inode."""

    def __init__(self, queue: EventQueue, wd: int, inode: Inode, mask: int) -> None:
        self.queue: EventQueue = queue
        self.wd: int = wd
        self.inode: Inode = inode
        self.mask: int = mask  # IN_* events and IN_EXCL_UNLINK, IN_ONESHOT


class State:
    def __init__(self) -> None:
        self.watches: int = 0
        self.cookie: int = 0


STATE: Final = State()
RENAMED: Final = 1 << 27  # an entry got another name in the same directory: not for inotify, but for F_NOTIFY


def attach(watch: Watch) -> None:
    """The caller has called file.settle()."""
    inode = watch.inode
    if inode.watches is None:
        inode.watches = []
    inode.watches.append(watch)
    STATE.watches += 1


def detach(watch: Watch) -> None:
    watches = watch.inode.watches
    if watches is not None and watch in watches:
        watches.remove(watch)
        STATE.watches -= 1
        if STATE.watches == 0:
            lib.cn_files_watched(0)
        if not watches:
            watch.inode.watches = None


def emit(inode: Inode, mask: int, name: bytes = b"", cookie: int = 0, unlinked: bool = False) -> None:
    """An event of this inode, or of the entry `name` in this directory; `unlinked`: the entry has no name any more."""
    watches = inode.watches
    if watches is None:
        return
    for watch in watches[:]:
        if watch.mask & mask & (I.IN_ALL_EVENTS | RENAMED) or mask & (I.IN_IGNORED | I.IN_UNMOUNT):
            if unlinked and watch.mask & I.IN_EXCL_UNLINK:
                continue
            watch.queue.event(watch, mask, cookie, name)


def at(dentry: Dentry, mask: int) -> None:
    """Something happened to the object behind a name: its own watches learn it and its directory's, with the name."""
    if not STATE.watches:
        return
    inode = dentry.inode
    if inode is None:
        return
    if inode.mode & S.S_IFMT == S.S_IFDIR:
        mask |= I.IN_ISDIR
    parent = dentry.parent
    if parent is not None and parent.inode is not None:
        emit(parent.inode, mask, dentry.name, 0, dentry.deleted)
    emit(inode, mask)


def entry(parent: Inode, mask: int, name: bytes, directory: bool, cookie: int = 0) -> None:
    """An entry of a directory was made, removed or moved."""
    if STATE.watches:
        emit(parent, mask | (I.IN_ISDIR if directory else 0), name, cookie)


def moved(old: Inode, name: bytes, new: Inode, newname: bytes, child: Inode) -> None:
    """An entry got another name: both halves carry one cookie."""
    if STATE.watches:
        STATE.cookie = (STATE.cookie + 1) & 0x7FFFFFFF
        directory = child.mode & S.S_IFMT == S.S_IFDIR
        if old is new:
            emit(old, RENAMED, name)
        entry(old, I.IN_MOVED_FROM, name, directory, STATE.cookie)
        entry(new, I.IN_MOVED_TO, newname, directory, STATE.cookie)
        emit(child, I.IN_MOVE_SELF)


def gone(inode: Inode) -> None:
    """The inode has lost its last name and nobody has it open: IN_DELETE_SELF, and its watches end with IN_IGNORED."""
    watches = inode.watches
    if watches is None:
        return
    emit(inode, I.IN_DELETE_SELF)
    for watch in watches[:]:
        watch.queue.event(watch, I.IN_IGNORED, 0, b"")
        detach(watch)


def closed(path: Path, written: bool) -> None:
    """An open file description ended."""
    at(path.dentry, I.IN_CLOSE_WRITE if written else I.IN_CLOSE_NOWRITE)
