"""The messages of 9P2000.L; one method each (session.py says how they are called)."""

from __future__ import annotations

import errno as E
import os
from typing import TYPE_CHECKING, Final

from gofer.fid import (
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    Fid,
    P9Error,
    adopt,
    check,
    fid_of,
    node_of,
)
from gofer.p9 import const as C
from gofer.p9.wire import Reader
from gofer.session import S_PERM, Session
from native._core import ffi, lib

if TYPE_CHECKING:
    from native._core import CData

S_IFIFO: Final = 0o010000
S_IFSOCK: Final = 0o140000
XATTR_NAMESPACES: Final = (b"user.",)
XATTR_ROOT: Final = b"security.capability"  # in written-through trees of a privileged gofer
XATTR_MAX: Final = 65536
RENAME_FLAGS: Final = 3  # RENAME_NOREPLACE, RENAME_EXCHANGE
UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2


class Connection(Session):
    """A connection that speaks 9P2000.L as it is."""

    def __init__(self, sock: int, root: int, readonly: bool, policy: CData) -> None:
        super().__init__(sock, root, readonly, policy)
        self.handlers = {
            C.TVERSION: self.t_version,
            C.TAUTH: self.t_auth,
            C.TATTACH: self.t_attach,
            C.TFLUSH: self.t_flush,
            C.TWALK: self.t_walk,
            C.TCLUNK: self.t_clunk,
            C.TREMOVE: self.t_remove,
            C.TSTATFS: self.t_statfs,
            C.TLOPEN: self.t_lopen,
            C.TLCREATE: self.t_lcreate,
            C.TSYMLINK: self.t_symlink,
            C.TMKNOD: self.t_mknod,
            C.TMKDIR: self.t_mkdir,
            C.TREADLINK: self.t_readlink,
            C.TGETATTR: self.t_getattr,
            C.TSETATTR: self.t_setattr,
            C.TXATTRWALK: self.t_xattrwalk,
            C.TXATTRCREATE: self.t_xattrcreate,
            C.TREADDIR: self.t_readdir,
            C.TFSYNC: self.t_fsync,
            C.TLINK: self.t_link,
            C.TRENAMEAT: self.t_renameat,
            C.TUNLINKAT: self.t_unlinkat,
            C.TREAD: self.t_read,
            C.TWRITE: self.t_write,
        }

    # Session

    def t_version(self, r: Reader) -> None:
        msize = r.u32()
        version = r.string()
        r.end()
        if msize < C.MIN_MSIZE:
            raise P9Error(E.EMSGSIZE)
        self.forget_all()
        self.msize = min(msize, C.MSIZE)
        self.extended = version == C.VERSION_CORDON
        self.ready = self.extended or version == C.VERSION_L
        out = self.reply(C.TVERSION + 1)
        out.u32(self.msize)
        out.string(version if self.ready else b"unknown")

    def t_auth(self, r: Reader) -> None:
        raise P9Error(E.ENOENT)  # there is nothing to authenticate with: the socket itself is the authority

    def t_attach(self, r: Reader) -> None:
        number = r.u32()
        r.u32()  # afid
        r.string()  # uname
        aname = r.string()
        uid = r.u32()
        r.end()
        if aname not in (b"", b"/"):
            raise P9Error(E.ENOENT)
        self.new_fid(number)
        fid = adopt(check(lib.cn_gf_reopen(self.root, os.O_PATH)), self.node, self.attrs)
        self.fids[number] = fid
        self.uid = -1 if uid == C.NONUNAME else uid
        self.reply(C.TATTACH + 1).raw(self.qid())

    def t_flush(self, r: Reader) -> None:
        self.reply(C.TFLUSH + 1)  # answers go out in order, so the flushed one is out already

    def t_walk(self, r: Reader) -> None:
        fid = self.fid(r)
        number = r.u32()
        n = r.u16()
        if n > C.MAX_WALK:
            raise P9Error(E.EINVAL)
        same = self.fids.get(number) is fid
        if not same:
            self.new_fid(number)
        if same and fid.io >= 0:
            raise P9Error(E.EBADF)
        if n == 0:
            r.end()
            if not same:
                self.fids[number] = adopt(os.dup(fid.fd), self.node, self.attrs)
            self.reply(C.TWALK + 1).u16(0)
            return
        node_of(fid, self.node)
        names = r.data[r.pos :]
        done = check(
            lib.cn_gf_walk(self.policy, self.node, names, len(names), n, self.nodes, self.attrs, self.status)
        )
        last = fid_of(self.nodes[done - 1]) if done == n else None
        for i in range(done if last is None else done - 1):
            os.close(self.nodes[i].fd)
        if done == 0:
            raise P9Error(-self.status[0])
        if last is not None:
            if same:
                fid.close()
            self.fids[number] = last
        out = self.reply(C.TWALK + 1)
        out.u16(done)
        for i in range(done):
            out.raw(self.qid(i))

    def t_clunk(self, r: Reader) -> None:
        number = r.u32()
        fid = self.fids.pop(number, None)
        if fid is None:
            raise P9Error(E.EBADF)
        try:
            if fid.setting:
                self.finish_xattr(fid)
        finally:
            fid.close()
        self.reply(C.TCLUNK + 1)

    def t_remove(self, r: Reader) -> None:
        """A descriptor doesn't know its name, so this can't be done; Tunlinkat can. The fid is clunked all the same."""
        fid = self.fids.pop(r.u32(), None)
        if fid is None:
            raise P9Error(E.EBADF)
        fid.close()
        raise P9Error(E.EOPNOTSUPP)

    def t_statfs(self, r: Reader) -> None:
        fid = self.fid(r)
        r.end()
        v = ffi.new("uint64_t[9]")
        check(lib.cn_gf_statfs(fid.fd, v))
        out = self.reply(C.TSTATFS + 1)
        out.u32(v[0] & 0xFFFFFFFF)
        out.u32(v[1] & 0xFFFFFFFF)
        for i in range(2, 8):
            out.u64(v[i])
        out.u32(v[8] & 0xFFFFFFFF)

    # Opening, reading, writing

    def opened(self, kind: int, qid: bytes) -> None:
        out = self.reply(kind)
        out.raw(qid)
        out.u32(0)  # iounit: msize decides

    def t_lopen(self, r: Reader) -> None:
        fid = self.fid(r)
        flags = r.u32()
        r.end()
        if fid.io >= 0:
            raise P9Error(E.EBADF)
        if flags & C.L_DIRECTORY and not fid.isdir:
            raise P9Error(E.ENOTDIR)
        fid.io = self.open_io(fid, flags)
        fid.flags = flags
        check(lib.cn_gf_stat(fid.fd, self.node, self.attrs))
        self.opened(C.TLOPEN + 1, self.qid())

    def t_lcreate(self, r: Reader) -> None:
        """The directory's fid becomes that of the new, open file."""
        fid = self.directory(r)
        name = self.name(r)
        flags = r.u32()
        mode = r.u32()
        gid = r.u32()
        r.end()
        if fid.io >= 0 or flags & C.L_ACCMODE == 3:
            raise P9Error(E.EBADF)
        try:
            new, io = self.create(fid, name, mode, self.uid, gid, flags & C.L_ACCMODE)
        except FileExistsError:
            if flags & C.L_EXCL:
                raise
            new = self.child(fid, name)
            try:
                io = self.open_io(new, flags)
            except (P9Error, OSError):
                new.close()
                raise
        fid.close()
        fid.fd, fid.mode, fid.ino, fid.dev, fid.mnt = new.fd, new.mode, new.ino, new.dev, new.mnt
        fid.io = io
        fid.flags = flags
        self.opened(C.TLCREATE + 1, self.qid())

    def create(self, fid: Fid, name: bytes, mode: int, uid: int, gid: int, access: int) -> tuple[Fid, int]:
        """Makes a regular file: its Fid (attributes in record 0) and a descriptor for I/O."""
        io = os.open(
            name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | access, mode & S_PERM, dir_fd=fid.fd
        )
        try:
            self.own(io, mode, uid, gid)
            new = adopt(check(lib.cn_gf_reopen(io, os.O_PATH)), self.node, self.attrs)
        except (P9Error, OSError):
            os.close(io)
            os.unlink(name, dir_fd=fid.fd)
            raise
        return new, io

    def own(self, fd: int, mode: int, uid: int, gid: int) -> None:
        """Gives what was just made to its owner (-1 or NONUNAME: as it is)."""
        st = os.stat(str(fd))
        want_uid = st.st_uid if uid in (-1, C.NONUNAME) else uid
        want_gid = st.st_gid if gid in (-1, C.NONUNAME) else gid
        if (st.st_uid, st.st_gid) != (want_uid, want_gid):
            os.chown(str(fd), want_uid, want_gid)
        if st.st_mode & S_IFMT != S_IFLNK and (mode & 0o6000 or st.st_mode & S_PERM != mode & S_PERM):
            os.chmod(str(fd), mode & S_PERM)

    def t_read(self, r: Reader) -> None:
        fid = self.fid(r)
        offset = r.u64()
        count = min(r.u32(), self.msize - C.IOHDR)
        r.end()
        if offset >> 63:
            raise P9Error(E.EINVAL)
        if fid.value is not None:
            data = fid.value[offset : offset + count]
        elif fid.io < 0 or fid.isdir:
            raise P9Error(E.EBADF)
        else:
            data = os.pread(fid.io, count, offset)
        out = self.reply(C.TREAD + 1)
        out.u32(len(data))
        out.raw(data)

    def t_write(self, r: Reader) -> None:
        fid = self.fid(r)
        offset = r.u64()
        data = r.take(r.u32())
        r.end()
        if offset >> 63:
            raise P9Error(E.EINVAL)
        if fid.setting:
            if fid.value is None or offset != len(fid.value) or offset + len(data) > fid.setsize:
                raise P9Error(E.EINVAL)
            fid.value += data
            n = len(data)
        elif fid.io < 0 or fid.isdir:
            raise P9Error(E.EBADF)
        elif fid.flags & C.L_APPEND:
            n = os.pwrite(fid.io, data, os.fstat(fid.io).st_size)
        else:
            n = os.pwrite(fid.io, data, offset)
        self.reply(C.TWRITE + 1).u32(n)

    def t_fsync(self, r: Reader) -> None:
        fid = self.fid(r)
        if fid.io >= 0:
            os.fsync(fid.io)
        elif fid.isdir or fid.isreg:
            fd = self.open_io(fid, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self.reply(C.TFSYNC + 1)

    def t_readdir(self, r: Reader) -> None:
        fid = self.fid(r)
        offset = r.u64()
        count = min(r.u32(), self.msize - C.IOHDR)
        r.end()
        if fid.io < 0 or not fid.isdir:
            raise P9Error(E.EBADF)
        n = check(lib.cn_gf_readdir(fid.io, offset, 0, self.data, count, self.status))
        out = self.reply(C.TREADDIR + 1)
        out.u32(n)
        out.raw(self.dataview[0:n])

    # Attributes

    def t_readlink(self, r: Reader) -> None:
        fid = self.fid(r)
        r.end()
        self.reply(C.TREADLINK + 1).string(self.target(fid))

    def target(self, fid: Fid) -> bytes:
        if not fid.islink:
            raise P9Error(E.EINVAL)
        return os.readlink(b"", dir_fd=fid.fd)

    def t_getattr(self, r: Reader) -> None:
        fid = self.fid(r)
        r.u64()  # what is asked for: everything is given
        r.end()
        check(lib.cn_gf_stat(fid.fd, self.node, self.attrs))
        self.reply(C.TGETATTR + 1).raw(self.attrview[0 : C.ATTR])

    def t_setattr(self, r: Reader) -> None:
        self.set_attributes(r)
        self.reply(C.TSETATTR + 1)

    def set_attributes(self, r: Reader) -> Fid:
        fid = self.fid(r)
        valid = r.u32()
        mode = r.u32()
        uid = r.u32()
        gid = r.u32()
        size = r.u64()
        asec, ansec, msec, mnsec = r.u64(), r.u64(), r.u64(), r.u64()
        r.end()
        if self.readonly:
            raise P9Error(E.EROFS)
        if max(ansec, mnsec) >= 1_000_000_000 or max(asec, msec, size) >> 63:
            raise P9Error(E.EINVAL)
        if valid & C.SETATTR_SIZE:
            if not fid.isreg:
                raise P9Error(E.EISDIR if fid.isdir else E.EINVAL)
            os.truncate(fid.magic(), size)
        if valid & (C.SETATTR_UID | C.SETATTR_GID):
            new_uid = uid if valid & C.SETATTR_UID else -1
            new_gid = gid if valid & C.SETATTR_GID else -1
            os.chown(fid.magic(), new_uid, new_gid)
        if valid & C.SETATTR_MODE:
            if fid.islink:
                raise P9Error(E.EOPNOTSUPP)
            os.chmod(fid.magic(), mode & S_PERM)
        if valid & (C.SETATTR_ATIME | C.SETATTR_MTIME):
            if not valid & C.SETATTR_ATIME:
                ansec = UTIME_OMIT
            elif not valid & C.SETATTR_ATIME_SET:
                ansec = UTIME_NOW
            if not valid & C.SETATTR_MTIME:
                mnsec = UTIME_OMIT
            elif not valid & C.SETATTR_MTIME_SET:
                mnsec = UTIME_NOW
            check(lib.cn_gf_utimes(fid.fd, asec, ansec, msec, mnsec))
        return fid

    # Names

    def t_mkdir(self, r: Reader) -> None:
        fid = self.directory(r)
        name = self.name(r)
        mode = r.u32()
        gid = r.u32()
        r.end()
        self.make(fid, name, S_IFDIR | (mode & S_PERM), 0, self.uid, gid, b"").close()
        self.reply(C.TMKDIR + 1).raw(self.qid())

    def t_symlink(self, r: Reader) -> None:
        fid = self.directory(r)
        name = self.name(r)
        target = r.string()
        gid = r.u32()
        r.end()
        self.make(fid, name, S_IFLNK | 0o777, 0, self.uid, gid, target).close()
        self.reply(C.TSYMLINK + 1).raw(self.qid())

    def t_mknod(self, r: Reader) -> None:
        fid = self.directory(r)
        name = self.name(r)
        mode = r.u32()
        major, minor = r.u32(), r.u32()
        gid = r.u32()
        r.end()
        if not mode & S_IFMT:
            mode |= S_IFREG
        self.make(fid, name, mode, os.makedev(major & 0xFFF, minor & 0xFFFFF), self.uid, gid, b"").close()
        self.reply(C.TMKNOD + 1).raw(self.qid())

    def make(self, fid: Fid, name: bytes, mode: int, rdev: int, uid: int, gid: int, target: bytes) -> Fid:
        """Makes anything but an opened regular file; its attributes are in record 0."""
        kind = mode & S_IFMT
        if kind == S_IFDIR:
            os.mkdir(name, mode & S_PERM, dir_fd=fid.fd)
        elif kind == S_IFLNK:
            if not target or len(target) > C.MAX_TARGET or b"\0" in target:
                raise P9Error(E.EINVAL)
            os.symlink(target, name, dir_fd=fid.fd)
        elif kind in (S_IFIFO, S_IFSOCK):
            os.mknod(name, mode, dir_fd=fid.fd)
        elif kind == S_IFREG:
            new, io = self.create(fid, name, mode, uid, gid, os.O_WRONLY)
            os.close(io)
            return new
        else:
            raise P9Error(E.EPERM)  # no device nodes on the host
        new = self.child(fid, name)
        try:
            self.own(new.fd, mode, uid, gid)
            check(lib.cn_gf_stat(new.fd, self.node, self.attrs))
        except (P9Error, OSError):
            new.close()
            if kind == S_IFDIR:
                os.rmdir(name, dir_fd=fid.fd)
            else:
                os.unlink(name, dir_fd=fid.fd)
            raise
        return new

    def t_link(self, r: Reader) -> None:
        fid = self.directory(r)
        old = self.fid(r)
        name = self.name(r)
        r.end()
        if old.isdir:
            raise P9Error(E.EPERM)
        os.link(old.magic(), name, dst_dir_fd=fid.fd, follow_symlinks=True)
        self.reply(C.TLINK + 1)

    def t_renameat(self, r: Reader) -> None:
        self.rename(r, False)
        self.reply(C.TRENAMEAT + 1)

    def rename(self, r: Reader, with_flags: bool) -> None:
        olddir = self.directory(r)
        old = self.name(r)
        newdir = self.directory(r)
        new = self.name(r)
        flags = r.u32() if with_flags else 0
        r.end()
        if flags & ~RENAME_FLAGS:
            raise P9Error(E.EINVAL)
        check(lib.cn_gf_rename(olddir.fd, old, newdir.fd, new, flags))

    def t_unlinkat(self, r: Reader) -> None:
        fid = self.directory(r)
        name = self.name(r)
        flags = r.u32()
        r.end()
        if flags & ~C.AT_REMOVEDIR:
            raise P9Error(E.EINVAL)
        if flags:
            os.rmdir(name, dir_fd=fid.fd)
        else:
            os.unlink(name, dir_fd=fid.fd)
        self.reply(C.TUNLINKAT + 1)

    # Extended attributes

    def xattr_name(self, name: bytes) -> bytes:
        if len(name) > C.MAX_NAME:
            raise P9Error(E.ERANGE)
        if b"\0" in name or (not name.startswith(XATTR_NAMESPACES) and (name != XATTR_ROOT or self.readonly)):
            raise P9Error(E.EOPNOTSUPP)
        return name

    def xattr_value(self, fid: Fid, name: bytes) -> bytes:
        """The attribute, or for "" the list of those that are served, each name ended by NUL."""
        if fid.islink:
            raise P9Error(E.EOPNOTSUPP)
        if name:
            self.allowed(fid)
            return os.getxattr(fid.magic(), self.xattr_name(name))
        names = [os.fsencode(n) for n in os.listxattr(fid.magic())]
        return b"".join(
            n + b"\0"
            for n in names
            if n.startswith(XATTR_NAMESPACES) or (n == XATTR_ROOT and not self.readonly)
        )

    def t_xattrwalk(self, r: Reader) -> None:
        fid = self.fid(r)
        number = r.u32()
        name = r.string()
        r.end()
        self.new_fid(number)
        value = self.xattr_value(fid, name)
        new = adopt(os.dup(fid.fd), self.node, self.attrs)
        new.value = value
        self.fids[number] = new
        self.reply(C.TXATTRWALK + 1).u64(len(value))

    def t_xattrcreate(self, r: Reader) -> None:
        fid = self.fid(r)
        name = self.xattr_name(r.string())
        size = r.u64()
        flags = r.u32()
        r.end()
        if self.readonly:
            raise P9Error(E.EROFS)
        if size > XATTR_MAX or not name or fid.io >= 0 or fid.islink:
            raise P9Error(E.EINVAL)
        fid.setting = name
        fid.setsize = size
        fid.setflags = flags
        fid.value = b""
        self.reply(C.TXATTRCREATE + 1)

    def finish_xattr(self, fid: Fid) -> None:
        value = fid.value or b""
        if fid.setsize != len(value):
            raise P9Error(E.EINVAL)
        if fid.setsize == 0 and not fid.setflags:
            os.removexattr(fid.magic(), fid.setting)
        else:
            os.setxattr(fid.magic(), fid.setting, value, fid.setflags)
