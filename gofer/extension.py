"""The server's side of our extension of 9P2000.L (layouts in p9/const.py)."""

from __future__ import annotations

import errno as E
import os
from typing import TYPE_CHECKING

from gofer.fid import S_IFMT, S_IFREG, Fid, P9Error, check, fid_of, node_of
from gofer.p9 import const as C
from gofer.p9.wire import Reader
from gofer.server import XATTR_MAX, Connection
from native._core import lib

if TYPE_CHECKING:
    from native._core import CData


class ExtendedConnection(Connection):
    """A connection that also knows "9P2000.L.cordon1"."""

    def __init__(self, sock: int, root: int, readonly: bool, policy: CData) -> None:
        super().__init__(sock, root, readonly, policy)
        self.extension = {
            C.TWALKATTR: self.t_walkattr,
            C.TLOPENFD: self.t_lopenfd,
            C.TMAKE: self.t_make,
            C.TREADDIRATTR: self.t_readdirattr,
            C.TLISTAT: self.t_listat,
            C.TCLUNKN: self.t_clunkn,
            C.TSETATTRX: self.t_setattrx,
            C.TRENAMEX: self.t_renamex,
            C.TGETXATTR: self.t_getxattr,
            C.TSETXATTR: self.t_setxattr,
            C.TRMXATTR: self.t_rmxattr,
        }

    def t_walkattr(self, r: Reader) -> None:
        fid = self.fid(r)
        flags = r.u32()
        n = r.u16()
        if n > C.MAX_WALKATTR:
            raise P9Error(E.EINVAL)
        if n == 0:
            r.end()
            self.refresh(fid, flags)
            return
        split = len(r.data) - 4 * n
        names = r.data[r.pos : split]
        r.pos = max(r.pos, split)
        numbers = [r.u32() for _ in range(n)]
        for number in numbers:
            self.new_fid(number)
        if len(set(numbers)) != n:
            raise P9Error(E.EBADF)
        node_of(fid, self.node)
        done = check(
            lib.cn_gf_walk(self.policy, self.node, names, len(names), n, self.nodes, self.attrs, self.status)
        )
        last: Fid | None = None
        for i in range(done):
            last = fid_of(self.nodes[i])
            self.fids[numbers[i]] = last
        target = b""
        if last is not None and last.islink:
            try:
                target = self.target(last)
            except OSError:
                target = b""  # the sentry asks again, and gets the reason
        if done == n and last is not None and last.isreg and flags != C.NO_OPEN:
            self.try_open(last, flags)
        out = self.reply(C.TWALKATTR + 1)
        out.u32(-self.status[0])
        out.u16(done)
        out.raw(self.attrview[0 : done * C.ATTR])
        out.string(target)
        out.u8(1 if self.passing >= 0 else 0)

    def refresh(self, fid: Fid, flags: int) -> None:
        if fid.isreg and flags != C.NO_OPEN:
            self.try_open(fid, flags)
        check(lib.cn_gf_stat(fid.fd, self.node, self.attrs))
        out = self.reply(C.TWALKATTR + 1)
        out.u32(0)
        out.u16(1)
        out.raw(self.attrview[0 : C.ATTR])
        out.string(b"")
        out.u8(1 if self.passing >= 0 else 0)

    def try_open(self, fid: Fid, flags: int) -> None:
        """A descriptor with the answer, if it can be had."""
        try:
            self.passing = self.open_io(fid, flags & C.L_ACCMODE)
        except P9Error:
            pass

    def t_lopenfd(self, r: Reader) -> None:
        fid = self.fid(r)
        flags = r.u32()
        r.end()
        if not fid.isreg:
            raise P9Error(E.EISDIR if fid.isdir else E.EPERM)
        self.passing = self.open_io(fid, flags & C.L_ACCMODE)
        check(lib.cn_gf_stat(fid.fd, self.node, self.attrs))
        out = self.reply(C.TLOPENFD + 1)
        out.raw(self.attrview[0 : C.ATTR])
        out.u8(1)

    def t_make(self, r: Reader) -> None:
        fid = self.directory(r)
        number = r.u32()
        name = self.name(r)
        mode = r.u32()
        rdev = r.u64()
        uid = r.u32()
        gid = r.u32()
        target = r.string()
        r.end()
        self.new_fid(number)
        if mode & S_IFMT == S_IFREG:
            new, self.passing = self.create(fid, name, mode, uid, gid, os.O_RDWR)
        else:
            new = self.make(fid, name, mode, rdev, uid, gid, target)
        self.fids[number] = new
        out = self.reply(C.TMAKE + 1)
        out.raw(self.attrview[0 : C.ATTR])
        out.u8(1 if self.passing >= 0 else 0)

    def t_readdirattr(self, r: Reader) -> None:
        fid = self.fid(r)
        offset = r.u64()
        count = r.u32()
        r.end()
        n = self.list_entries(fid, offset, count, self.msize - C.IOHDR)
        out = self.reply(C.TREADDIRATTR + 1)
        out.u8(self.status[0])
        out.u32(n)
        out.raw(self.dataview[0:n])

    def list_entries(self, fid: Fid, offset: int, count: int, most: int) -> int:
        """Puts entries into `data`, and whether they are the last into `status`; their bytes. count: of the request."""
        attrs = lib.CN_GF_DIR_ATTRS if count & C.LIST_DIRS else lib.CN_GF_ATTRS
        count = min(count & ~(C.LIST_DIRS | C.LIST_AHEAD), most)
        if not fid.isdir:
            raise P9Error(E.ENOTDIR)
        if fid.listing < 0:
            fid.listing = self.open_io(fid, os.O_RDONLY)
        n = check(lib.cn_gf_readdir(fid.listing, offset, attrs, self.data, count, self.status))
        if self.status[0]:
            os.close(fid.listing)
            fid.listing = -1
        return n

    def t_listat(self, r: Reader) -> None:
        fid = self.fid(r)
        number = r.u32()
        name = self.name(r)
        count = r.u32()
        ahead = count & C.LIST_AHEAD and count & C.LIST_DIRS
        names = r.names() if ahead else b""
        r.end()
        self.new_fid(number)
        found = self.child(fid, name)
        most = min(count & ~(C.LIST_DIRS | C.LIST_AHEAD), self.msize - C.IOHDR - C.ATTR)
        try:
            n = self.list_entries(found, 0, count, most)
        except (P9Error, OSError):
            found.close()
            raise
        self.fids[number] = found
        out = self.reply(C.TLISTAT + 1)
        out.raw(self.attrview[0 : C.ATTR])
        out.u8(self.status[0])
        out.u32(n)
        if ahead and self.status[0]:
            n += self.list_ahead(fid, found, names, n, most)
        out.raw(self.dataview[0:n])

    def list_ahead(self, parent: Fid, found: Fid, names: bytes, listed: int, most: int) -> int:
        """Appends blocks to the `listed` bytes of entries in `data`; their bytes."""
        node_of(parent, self.node)
        node_of(found, self.nodes[0])
        return check(
            lib.cn_gf_ahead(self.policy, self.nodes, self.data, listed, most, self.node, names, len(names))
        )

    def t_clunkn(self, r: Reader) -> None:
        self.answer = False
        for _ in range(r.u16()):
            fid = self.fids.pop(r.u32(), None)
            if fid is not None:
                fid.close()

    def t_setattrx(self, r: Reader) -> None:
        fid = self.set_attributes(r)
        check(lib.cn_gf_stat(fid.fd, self.node, self.attrs))
        self.reply(C.TSETATTRX + 1).raw(self.attrview[0 : C.ATTR])

    def t_renamex(self, r: Reader) -> None:
        self.rename(r, True)
        self.reply(C.TRENAMEX + 1)

    def t_getxattr(self, r: Reader) -> None:
        fid = self.fid(r)
        name = r.string()
        r.end()
        value = self.xattr_value(fid, name)
        if len(value) > self.msize - C.IOHDR:
            raise P9Error(E.E2BIG)
        out = self.reply(C.TGETXATTR + 1)
        out.u32(len(value))
        out.raw(value)

    def t_setxattr(self, r: Reader) -> None:
        fid = self.fid(r)
        name = self.xattr_name(r.string())
        flags = r.u32()
        value = r.take(r.u32())
        r.end()
        self.changeable(fid)
        if len(value) > XATTR_MAX:
            raise P9Error(E.E2BIG)
        os.setxattr(fid.magic(), name, value, flags & 3)
        self.reply(C.TSETXATTR + 1)

    def t_rmxattr(self, r: Reader) -> None:
        fid = self.fid(r)
        name = self.xattr_name(r.string())
        r.end()
        self.changeable(fid)
        os.removexattr(fid.magic(), name)
        self.reply(C.TRMXATTR + 1)

    def changeable(self, fid: Fid) -> None:
        if self.readonly:
            raise P9Error(E.EROFS)
        if fid.islink:
            raise P9Error(E.EOPNOTSUPP)
