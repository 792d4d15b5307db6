"""Making, removing and renaming names. Each function is one system call without its registers.

The dentry cache is brought in line here, and events are sent; file systems only change their own data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import fcntl as F
from sentry.abi import inotify as I
from sentry.abi import stat as S
from sentry.errors import Errno
from sentry.vfs import access, notify, walk
from sentry.vfs.dcache import CACHE
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Dentry, Path
from sentry.vfs.walk import Walk

if TYPE_CHECKING:
    from sentry.kernel.task import Task


def is_dir(inode: Inode) -> bool:
    return inode.mode & S.S_IFMT == S.S_IFDIR


def writable_parent(t: Task, w: Walk) -> Inode:
    """The directory of a walk's last component, when an entry may be added to it."""
    parent = w.inode()
    if w.dentry.deleted:
        raise Errno(E.ENOENT)
    access.may_create(t.creds, w.mount, parent)
    return parent


def instantiate(parent: Dentry, name: bytes, negative: Dentry, inode: Inode) -> Dentry:
    """A name has come into being: its cached negative dentry becomes positive."""
    if negative.slot >= 0:
        negative.inode = inode
        return negative
    if inode.sb.cache_dentries:
        return CACHE.add(parent, name, inode)
    negative.inode = inode
    return negative


def created(w: Walk, negative: Dentry, inode: Inode) -> Dentry:
    dentry = instantiate(w.dentry, w.last, negative, inode)
    if notify.STATE.watches:
        notify.entry(w.inode(), I.IN_CREATE, w.last, is_dir(inode))
    return dentry


def create_regular(t: Task, w: Walk, parent: Inode, negative: Dentry, mode: int) -> Inode:
    """A new regular file for open(O_CREAT)."""
    mode, uid, gid = access.new_owner(t.creds, parent, S.S_IFREG | (mode & 0o7777 & ~t.fs.umask))
    inode = parent.create(w.last, mode, uid, gid)
    created(w, negative, inode)
    return inode


def new_entry(t: Task, dirfd: int, path: bytes, directory: bool) -> tuple[Walk, Dentry]:
    """Finds the place for a new entry; EEXIST when there is one already."""
    w = walk.resolve_parent(t, dirfd, path, 0)
    if w.kind != walk.NORM:
        raise Errno(E.EEXIST)
    dentry = w.child()
    if dentry.inode is not None:
        raise Errno(E.EEXIST)
    if w.slash and not directory:
        raise Errno(E.ENOENT)
    return w, dentry


def mkdir(t: Task, dirfd: int, path: bytes, mode: int) -> None:
    w, dentry = new_entry(t, dirfd, path, True)
    parent = writable_parent(t, w)
    mode, uid, gid = access.new_owner(t.creds, parent, S.S_IFDIR | (mode & 0o1777 & ~t.fs.umask))
    created(w, dentry, parent.mkdir(w.last, mode, uid, gid))


def mknod(t: Task, dirfd: int, path: bytes, mode: int, rdev: int) -> Path:
    """mknod(2); also bind(2) of an AF_UNIX socket. Returns the new place."""
    kind = mode & S.S_IFMT
    if kind == 0:
        kind = S.S_IFREG
    if kind == S.S_IFDIR:
        raise Errno(E.EPERM)
    if kind not in (S.S_IFREG, S.S_IFCHR, S.S_IFBLK, S.S_IFIFO, S.S_IFSOCK):
        raise Errno(E.EINVAL)
    w, dentry = new_entry(t, dirfd, path, False)
    parent = writable_parent(t, w)
    if kind in (S.S_IFCHR, S.S_IFBLK) and not t.creds.has(C.CAP_MKNOD):
        raise Errno(E.EPERM)
    mode, uid, gid = access.new_owner(t.creds, parent, kind | (mode & 0o7777 & ~t.fs.umask))
    if kind == S.S_IFREG:
        inode = parent.create(w.last, mode, uid, gid)
    else:
        inode = parent.mknod(w.last, mode, rdev, uid, gid)
    return Path(w.mount, created(w, dentry, inode))


def symlink(t: Task, target: bytes, dirfd: int, path: bytes) -> None:
    if not target:
        raise Errno(E.ENOENT)
    w, dentry = new_entry(t, dirfd, path, False)
    parent = writable_parent(t, w)
    _, uid, gid = access.new_owner(t.creds, parent, S.S_IFLNK | 0o777)
    created(w, dentry, parent.symlink(w.last, target, uid, gid))


def link(t: Task, olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
    """linkat(2)."""
    how = walk.FOLLOW if flags & F.AT_SYMLINK_FOLLOW else 0
    if flags & F.AT_EMPTY_PATH:
        how |= walk.EMPTY
    source = walk.resolve(t, olddirfd, old, how)
    inode = source.inode
    if not old and not t.creds.has(C.CAP_DAC_READ_SEARCH):
        raise Errno(E.ENOENT)
    w, dentry = new_entry(t, newdirfd, new, False)
    if w.mount is not source.mount:
        raise Errno(E.EXDEV)
    parent = writable_parent(t, w)
    if is_dir(inode):
        raise Errno(E.EPERM)
    if inode.getattr().nlink == 0 and not inode.linkable:
        raise Errno(E.ENOENT)
    parent.link(w.last, inode)
    notify.emit(inode, I.IN_ATTRIB)
    created(w, dentry, inode)


def forget_deleted(dentry: Dentry) -> None:
    """The name is gone; what still uses the dentry sees "(deleted)"."""
    if dentry.children:
        for child in list(dentry.children.values()):
            CACHE.forget_tree(child)
    CACHE.forget(dentry)
    dentry.deleted = True


def report_removed(parent: Inode, name: bytes, inode: Inode) -> None:
    if not notify.STATE.watches:
        return
    directory = is_dir(inode)
    if not directory:
        notify.emit(inode, I.IN_ATTRIB)
    notify.entry(parent, I.IN_DELETE, name, directory)
    if inode.opens == 0 and (directory or inode.getattr().nlink == 0):
        notify.gone(inode)


def unlink(t: Task, dirfd: int, path: bytes) -> None:
    w = walk.resolve_parent(t, dirfd, path, 0)
    if w.kind != walk.NORM:
        raise Errno(E.EISDIR)
    dentry = w.child()
    inode = dentry.inode
    if inode is None:
        raise Errno(E.ENOENT)
    if w.slash:
        raise Errno(E.EISDIR if is_dir(inode) else E.ENOTDIR)
    parent = w.inode()
    access.may_delete(t.creds, w.mount, parent, inode, False)
    if dentry.mounts is not None:
        raise Errno(E.EBUSY)
    parent.unlink(w.last, inode)
    forget_deleted(dentry)
    report_removed(parent, w.last, inode)


def rmdir(t: Task, dirfd: int, path: bytes) -> None:
    w = walk.resolve_parent(t, dirfd, path, 0)
    if w.kind == walk.DOT:
        raise Errno(E.EINVAL)
    if w.kind == walk.DOTDOT:
        raise Errno(E.ENOTEMPTY)
    if w.kind == walk.ROOT:
        raise Errno(E.EBUSY)
    dentry = w.child()
    inode = dentry.inode
    if inode is None:
        raise Errno(E.ENOENT)
    parent = w.inode()
    access.may_delete(t.creds, w.mount, parent, inode, True)
    if dentry.mounts is not None:
        raise Errno(E.EBUSY)
    parent.rmdir(w.last, inode)
    forget_deleted(dentry)
    report_removed(parent, w.last, inode)


def below(dentry: Dentry, ancestor: Dentry) -> bool:
    """Is `dentry` the ancestor itself or somewhere below it?"""
    at: Dentry | None = dentry
    while at is not None:
        if at is ancestor:
            return True
        at = at.parent
    return False


def rename(t: Task, olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
    """renameat2(2)."""
    if flags & ~(F.RENAME_NOREPLACE | F.RENAME_EXCHANGE):
        raise Errno(
            E.EINVAL
        )  # RENAME_WHITEOUT: no file system here is an overlay's upper layer for the guest
    if flags == F.RENAME_NOREPLACE | F.RENAME_EXCHANGE:
        raise Errno(E.EINVAL)
    ow = walk.resolve_parent(t, olddirfd, old, 0)
    nw = walk.resolve_parent(t, newdirfd, new, 0)
    if ow.mount is not nw.mount:
        raise Errno(E.EXDEV)
    if ow.kind != walk.NORM:
        raise Errno(E.EBUSY)
    if nw.kind != walk.NORM:
        raise Errno(E.EEXIST if flags & F.RENAME_NOREPLACE else E.EBUSY)
    source = ow.child()
    inode = source.inode
    if inode is None:
        raise Errno(E.ENOENT)
    target = nw.child()
    victim = target.inode
    if victim is not None and flags & F.RENAME_NOREPLACE:
        raise Errno(E.EEXIST)
    if flags & F.RENAME_EXCHANGE:
        if victim is None:
            raise Errno(E.ENOENT)
        if nw.slash and not is_dir(victim):
            raise Errno(E.ENOTDIR)
    if not is_dir(inode) and (ow.slash or (nw.slash and not flags & F.RENAME_EXCHANGE)):
        raise Errno(E.ENOTDIR)
    if below(nw.dentry, source):
        raise Errno(E.EINVAL)
    if below(ow.dentry, target):
        raise Errno(E.EINVAL if flags & F.RENAME_EXCHANGE else E.ENOTEMPTY)
    if victim is inode:
        return
    check_rename(t, ow, inode, nw, victim, flags)
    if source.mounts is not None or target.mounts is not None:
        raise Errno(E.EBUSY)
    oldparent = ow.inode()
    newparent = nw.inode()
    oldparent.rename(ow.last, inode, newparent, nw.last, victim, flags)
    if flags & F.RENAME_EXCHANGE:
        exchange_dentries(source, target)
    else:
        move_dentry(source, target, nw.dentry, nw.last)
    notify.moved(oldparent, ow.last, newparent, nw.last, inode)
    if victim is not None:
        if flags & F.RENAME_EXCHANGE:
            notify.moved(newparent, nw.last, oldparent, ow.last, victim)
        elif notify.STATE.watches:
            notify.emit(victim, I.IN_ATTRIB)
            if victim.opens == 0 and (is_dir(victim) or victim.getattr().nlink == 0):
                notify.gone(victim)


def check_rename(t: Task, ow: Walk, inode: Inode, nw: Walk, victim: Inode | None, flags: int) -> None:
    """The permissions of rename(2)."""
    creds = t.creds
    oldparent = ow.inode()
    newparent = nw.inode()
    directory = is_dir(inode)
    access.may_delete(creds, ow.mount, oldparent, inode, directory)
    if nw.dentry.deleted:
        raise Errno(E.ENOENT)
    if victim is None:
        access.may_create(creds, nw.mount, newparent)
    else:
        exchange = bool(flags & F.RENAME_EXCHANGE)
        access.may_delete(creds, nw.mount, newparent, victim, is_dir(victim) if exchange else directory)
    if newparent is not oldparent:
        # ".." of a directory that moves is written.
        if directory:
            access.require(creds, inode, access.MAY_WRITE)
        if victim is not None and flags & F.RENAME_EXCHANGE and is_dir(victim):
            access.require(creds, victim, access.MAY_WRITE)


def move_dentry(source: Dentry, target: Dentry, newparent: Dentry, newname: bytes) -> None:
    if target.inode is not None:
        forget_deleted(target)
    else:
        CACHE.forget(target)
    oldparent = source.parent
    if oldparent is not None and oldparent.children.get(source.name) is source:
        del oldparent.children[source.name]
    source.name = newname
    source.parent = newparent
    if source.slot >= 0:
        newparent.children[newname] = source


def exchange_dentries(a: Dentry, b: Dentry) -> None:
    pa = a.parent
    pb = b.parent
    assert pa is not None and pb is not None
    a.name, b.name = b.name, a.name
    a.parent = pb
    b.parent = pa
    if b.slot >= 0:
        pa.children[b.name] = b
    if a.slot >= 0:
        pb.children[a.name] = a
