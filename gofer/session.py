"""A connection of the 9P2000.L server: one exported tree on one socket.

The peer (the sentry) counts as compromised. A fid is an O_PATH descriptor reached component by component (native/gofer), so no path of
the peer's ever reaches the host; only regular files and directories are opened; a read-only export refuses every change.
"""

from __future__ import annotations

import errno as E
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gofer.fid import Fid, P9Error, check, fid_of, node_of
from gofer.p9 import const as C
from gofer.p9.wire import ProtocolError, Reader, Writer
from native._core import ffi, lib

if TYPE_CHECKING:
    from native._core import CData

MAX_FIDS: Final = 1 << 16
S_PERM: Final = 0o7777

Handler = Callable[[Reader], None]


class Session:
    """The state of one connection, how messages come and go, and what handlers share. A handler reads the request and writes the
    answer to `self.out`; server.py and extension.py hold them."""

    def __init__(self, sock: int, root: int, readonly: bool, policy: CData) -> None:
        self.sock: int = sock
        self.root: int = root  # O_PATH descriptor of the exported tree
        self.readonly: bool = readonly
        self.policy: CData = policy
        self.extended: bool = False
        self.msize: int = C.MSIZE
        self.ready: bool = False  # a version is agreed on
        self.uid: int = -1  # owner of what plain messages create; -1: the gofer itself
        self.fids: dict[int, Fid] = {}
        self.out: Writer = Writer()
        self.tag: int = 0
        self.cpu: int = -1  # where the client ran when it sent its last request: our client's tags say so
        self.answer: bool = True
        self.passing: int = -1  # descriptor that goes with the answer
        self.buf: CData = ffi.new("uint8_t[]", C.MSIZE)
        self.view: CData = ffi.buffer(self.buf)
        self.have: int = 0
        self.node: CData = ffi.new("struct cn_gf_node *")
        self.nodes: CData = ffi.new("struct cn_gf_node[]", C.MAX_WALKATTR)
        self.attrs: CData = ffi.new("uint8_t[]", C.MAX_WALKATTR * C.ATTR)
        self.attrview: CData = ffi.buffer(self.attrs)
        self.status: CData = ffi.new("int32_t *")
        self.data: CData = ffi.new("uint8_t[]", C.MSIZE)
        self.dataview: CData = ffi.buffer(self.data)
        self.handlers: dict[int, Handler] = {}
        self.extension: dict[int, Handler] = {}  # answered only when the extension is agreed on

    # The conversation

    def serve_ready(self) -> bool:
        """Reads what has come and answers every complete message. False: the connection is over (its end, or not 9P at all)."""
        r = lib.cn_p9_recv(self.sock, self.buf, self.have, C.MSIZE)
        if r <= 0:
            return False
        self.have += r
        pos = 0
        while self.have - pos >= C.HEADER:
            size = int.from_bytes(self.view[pos : pos + 4], "little")
            if not C.HEADER <= size <= self.msize:
                return False
            if size > self.have - pos:
                break
            if not self.handle(self.view[pos : pos + size]):
                return False
            pos += size
        if pos:
            self.have -= pos
            if self.have:
                ffi.memmove(self.buf, self.view[pos : pos + self.have], self.have)
        return True

    def handle(self, message: bytes) -> bool:
        """Answers one message; False when the answer could not be sent."""
        r = Reader(message, 4)
        kind = r.u8()
        self.tag = r.u16()
        self.answer = True
        out = self.out
        if self.tag != self.cpu and self.extended and self.tag != C.NOTAG:
            self.cpu = self.tag
            lib.cn_p9_follow(self.tag)  # a CPU that it may not use changes nothing
        try:
            handler = self.handlers.get(kind)
            if handler is None and self.extended:
                handler = self.extension.get(kind)
            if handler is None:
                raise P9Error(E.EOPNOTSUPP)
            if not self.ready and kind != C.TVERSION:
                raise P9Error(E.EPROTO)
            handler(r)
        except P9Error as e:
            self.fail(e.errno)
        except OSError as failed:
            self.fail(failed.errno or E.EIO)
        except ProtocolError:
            self.fail(E.EBADMSG)
        if not self.answer:
            out.buf.clear()
            return True
        out.end()
        passing = self.passing
        reply = out.take()
        sent = int(lib.cn_p9_send(self.sock, ffi.from_buffer(reply), len(reply), passing))
        if passing >= 0:
            os.close(passing)
            self.passing = -1
        return sent == 0

    def fail(self, errno: int) -> None:
        self.out.buf.clear()
        if self.passing >= 0:
            os.close(self.passing)
            self.passing = -1
        self.out.begin(C.RLERROR, self.tag)
        self.out.u32(errno)

    def reply(self, kind: int) -> Writer:
        self.out.begin(kind, self.tag)
        return self.out

    def close(self) -> None:
        self.forget_all()
        os.close(self.sock)
        os.close(self.root)

    def forget_all(self) -> None:
        for fid in self.fids.values():
            fid.close()
        self.fids.clear()

    # Fids

    def fid(self, r: Reader) -> Fid:
        fid = self.fids.get(r.u32())
        if fid is None:
            raise P9Error(E.EBADF)
        return fid

    def new_fid(self, number: int) -> None:
        """May the peer give this number to something new?"""
        if number == C.NOFID or number in self.fids:
            raise P9Error(E.EBADF)
        if len(self.fids) >= MAX_FIDS:
            raise P9Error(E.ENFILE)

    def directory(self, r: Reader) -> Fid:
        """A fid of a directory in which something is to be changed."""
        fid = self.fid(r)
        if self.readonly:
            raise P9Error(E.EROFS)
        if not fid.isdir:
            raise P9Error(E.ENOTDIR)
        return fid

    def name(self, r: Reader) -> bytes:
        name = r.string()
        check(lib.cn_gf_name(name, len(name)))
        return name

    def allowed(self, fid: Fid) -> None:
        """May the content of this be read under the policy of its mount?"""
        node_of(fid, self.node)
        check(lib.cn_gf_allowed(self.policy, self.node, 0))

    def qid(self, i: int = 0) -> bytes:
        """The qid within attribute record i."""
        return bytes(self.attrview[i * C.ATTR + 8 : i * C.ATTR + 8 + C.QID])

    def child(self, fid: Fid, name: bytes) -> Fid:
        """A Fid for a name in a directory; its attributes are in record 0."""
        node_of(fid, self.node)
        wire = len(name).to_bytes(2, "little") + name
        n = lib.cn_gf_walk(self.policy, self.node, wire, len(wire), 1, self.nodes, self.attrs, self.status)
        if n == 1:
            return fid_of(self.nodes[0])
        raise P9Error(-self.status[0] if n == 0 else E.EBADMSG)

    def open_io(self, fid: Fid, flags: int) -> int:
        """A new host descriptor for a regular file or directory."""
        mode = flags & C.L_ACCMODE
        if mode == 3:
            raise P9Error(E.EINVAL)
        if self.readonly and (mode != os.O_RDONLY or flags & C.L_TRUNC):
            raise P9Error(E.EROFS)
        if fid.isdir:
            if mode != os.O_RDONLY:
                raise P9Error(E.EISDIR)
            mode |= os.O_DIRECTORY
        elif not fid.isreg:
            # Devices, FIFOs and sockets are the sentry's own affair.
            raise P9Error(E.ELOOP if fid.islink else E.EPERM)
        self.allowed(fid)
        return check(lib.cn_gf_reopen(fid.fd, mode | (flags & C.L_TRUNC)))
