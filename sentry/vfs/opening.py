"""open(2): from a name and flags to an open file description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import inotify as I
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, clock, namei, notify, special, walk
from sentry.vfs.attr import SET_CTIME, SET_MODE, SET_MTIME, SET_SIZE, SetAttr
from sentry.vfs.file import END_LATER, MIRROR_PLACE, File
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Dentry, Path
from sentry.vfs.walk import Walk

if TYPE_CHECKING:
    from sentry.kernel.task import Task

TMPFILE_BIT: Final = F.O_TMPFILE & ~F.O_DIRECTORY
FORGET: Final = F.O_CREAT | F.O_EXCL | F.O_NOCTTY | F.O_TRUNC | F.O_CLOEXEC
PATH_FLAGS: Final = F.O_DIRECTORY | F.O_NOFOLLOW | F.O_PATH | F.O_CLOEXEC


class PathFile(File):
    """What O_PATH gives: a place, not an opened object."""

    def __init__(self, flags: int, path: Path, inode: Inode) -> None:
        super().__init__(flags, path, inode)
        self.mirror = MIRROR_PLACE
        self.ending = END_LATER

    def mapping(self, t: Task) -> None:
        raise Errno(E.EBADF)


def open_file(t: Task, dirfd: int, name: bytes, flags: int, mode: int, how: int = 0) -> File:
    """A new open file description. `flags` as in open(2), `mode` for a new file before the umask, `how` further walk flags."""
    flags |= F.O_LARGEFILE
    if not flags & F.O_NOFOLLOW and (flags & (F.O_CREAT | F.O_EXCL)) != F.O_CREAT | F.O_EXCL:
        how |= walk.FOLLOW
    if flags & F.O_DIRECTORY:
        how |= walk.DIRECTORY
    if flags & F.O_PATH:
        path = walk.resolve(t, dirfd, name, how)
        return PathFile(flags & PATH_FLAGS, path, path.inode)
    if flags & TMPFILE_BIT:
        return open_tmpfile(t, walk.resolve(t, dirfd, name, how), flags, mode)
    if flags & F.O_CREAT:
        if flags & F.O_DIRECTORY:
            raise Errno(E.EINVAL)
        return open_create(t, walk.resolve_parent(t, dirfd, name, how), flags, mode)
    if flags & F.O_ACCMODE != F.O_RDONLY:
        return open_path(t, walk.resolve(t, dirfd, name, how), flags)
    w = walk.walk_to_read(t, dirfd, name, how)
    file = open_path(t, walk.finish(w), flags)
    file.spare = w.stable and file.ending == END_LATER
    return file


def open_create(t: Task, w: Walk, flags: int, mode: int) -> File:
    """O_CREAT: the file named by a walk's last component, made if there is none."""
    while True:
        if w.kind != walk.NORM or w.slash:
            raise Errno(E.EISDIR)
        dentry = w.child()
        inode = dentry.inode
        if inode is None:
            parent = namei.writable_parent(t, w)
            inode = namei.create_regular(t, w, parent, dentry, mode)
            return finish_open(
                t, Path(w.mount, w.dentry.children.get(w.last, dentry)), inode, flags & ~F.O_TRUNC
            )
        if flags & F.O_EXCL:
            raise Errno(E.EEXIST)
        if inode.mode & S.S_IFMT != S.S_IFLNK:
            w.dentry = dentry
            if dentry.mounts is not None:
                w.cross()
            break
        if not w.flags & walk.FOLLOW:
            raise Errno(E.ELOOP)
        target = w.link(inode)
        if not target:
            break
        w.run(target, True)
    path = w.path()
    if path.inode.mode & S.S_IFMT == S.S_IFDIR:
        raise Errno(E.EISDIR)
    return open_path(t, path, flags)


def open_tmpfile(t: Task, path: Path, flags: int, mode: int) -> File:
    """O_TMPFILE: an unnamed file in the directory's file system."""
    if flags & F.O_ACCMODE in (F.O_RDONLY, F.O_ACCMODE):
        raise Errno(E.EINVAL)
    parent = path.inode
    access.may_create(t.creds, path.mount, parent)
    mode, uid, gid = access.new_owner(t.creds, parent, S.S_IFREG | (mode & 0o7777 & ~t.fs.umask))
    inode = parent.tmpfile(mode, uid, gid)
    inode.linkable = not flags & F.O_EXCL
    dentry = Dentry(b"#%d" % inode.getattr().ino, path.dentry, inode)
    dentry.deleted = True
    return finish_open(t, Path(path.mount, dentry), inode, flags)


def open_path(t: Task, path: Path, flags: int) -> File:
    """Opens something that exists, after the checks of open(2)."""
    inode = path.inode
    mount = path.mount
    kind = inode.mode & S.S_IFMT
    acc = flags & F.O_ACCMODE
    mask = 0
    if acc != F.O_WRONLY:
        mask = access.MAY_READ
    if acc != F.O_RDONLY or flags & F.O_TRUNC:
        mask |= access.MAY_WRITE
    if kind == S.S_IFREG:
        pass
    elif kind == S.S_IFDIR:
        if mask & access.MAY_WRITE:
            raise Errno(E.EISDIR)
    elif kind == S.S_IFLNK:
        raise Errno(E.ELOOP)
    elif kind in (S.S_IFCHR, S.S_IFBLK) and mount.flags & M.MS_NODEV:
        raise Errno(E.EACCES)
    creds = t.creds
    if not access.permitted(creds, inode, mask):
        raise Errno(E.EACCES)
    if mask & access.MAY_WRITE and kind == S.S_IFREG:
        access.want_write(mount)
        if inode.writers < 0:
            raise Errno(E.ETXTBSY)
    if flags & F.O_NOATIME and not access.owner_or_capable(creds, inode):
        raise Errno(E.EPERM)
    return finish_open(t, path, inode, flags)


def finish_open(t: Task, path: Path, inode: Inode, flags: int) -> File:
    """Makes the description; permission is settled."""
    kind = inode.mode & S.S_IFMT
    kept = flags & ~FORGET
    if kind == S.S_IFREG or kind == S.S_IFDIR:
        file = inode.open(t, path, kept)
    elif kind == S.S_IFSOCK:
        raise Errno(E.ENXIO)
    else:
        file = special.open_special(t, path, inode, kept | flags & F.O_NOCTTY)
        file.flags &= ~F.O_NOCTTY
    if kind == S.S_IFREG and flags & F.O_ACCMODE in (F.O_WRONLY, F.O_RDWR):
        inode.writers += 1
        file.counted = True
        if flags & F.O_TRUNC:
            truncate_inode(t, inode, 0)
            notify.at(path.dentry, I.IN_MODIFY)
    elif kind == S.S_IFREG and flags & F.O_TRUNC:
        truncate_inode(t, inode, 0)
    if notify.STATE.watches:
        notify.at(path.dentry, I.IN_OPEN)
    return file


def truncate_inode(t: Task, inode: Inode, size: int) -> None:
    """Sets the size with what belongs to it: times, and the end of set-ID bits."""
    change = SetAttr(SET_SIZE | SET_MTIME | SET_CTIME)
    change.size = size
    change.mtime = change.ctime = clock.now()
    mode = access.without_privileges(t.creds, inode)
    if mode != inode.mode:
        change.valid |= SET_MODE
        change.mode = mode & 0o7777
    inode.setattr(change)
