"""The 9P2000.L client, for the sentry's file system: one connection, one call at a time (under the kernel lock K).

Answers count as hostile: each is checked to be what was asked for. A server that has gone, or that sends something else, makes every
call raise what `gone` gives from then on; an Rlerror raises what `fail` gives. The sentry overrides both.
"""

from __future__ import annotations

import errno as E
import os
import stat
from typing import TYPE_CHECKING, Final

from gofer.fid import P9Error
from gofer.p9 import const as C
from gofer.p9.wire import Attr, Entry, ProtocolError, Reader, Writer
from native._core import ffi, lib

if TYPE_CHECKING:
    from native._core import CData

CLUNK_BATCH: Final = 32
ROOT_FID: Final = 0
TOO_MANY: Final = -2  # of cn_p9_call: no room for the descriptor
MAX_ERRNO: Final = 4095


class GoferGone(Exception):
    """The server has gone or doesn't speak 9P; the text is one sentence."""


class Walk:
    """What a walk found: attributes and fids, one each for every component, and why it ended there."""

    def __init__(self) -> None:
        self.attrs: list[Attr] = []
        self.fids: list[int] = []
        self.status: int = 0  # errno of the first not found; 0: all were, or `target` ended it
        self.target: bytes = b""  # of the last one, if it is a symbolic link
        self.hostfd: int = -1  # if asked for and to be had


class Part:
    """What one message told of a directory: entries as cn_gf_readdir makes them with attributes, not looked at yet."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes = data


class Block:
    """A directory that was listed ahead."""

    def __init__(self, parent: int, path: int, dev: int, name: bytes, part: Part) -> None:
        self.parent: int = parent  # 0: the directory that was asked for; n: the n-th block; C.BESIDE: the former's parent
        self.path: int = path
        self.dev: int = dev
        self.name: bytes = name
        self.part: Part = part


class Client:
    """A connection to a 9P2000.L server on a stream socket, which it owns. `extended`: the server knows our extension."""

    def __init__(self, sock: int, name: str = "gofer") -> None:
        self.sock: int = sock
        self.name: str = name
        self.dead: str = ""  # why the connection is over
        self.msize: int = C.MSIZE
        self.extended: bool = False
        self.out: Writer = Writer()
        self.buf: CData = ffi.new("uint8_t[]", C.MSIZE)
        self.view: CData = ffi.buffer(self.buf)
        self.fd_out: CData = ffi.new("int32_t *")
        self.passed: int = -1  # descriptor of the last answer, until someone takes it
        self.next: int = ROOT_FID + 1
        self.free: list[int] = []
        self.clunks: list[int] = []  # to be told with the next request

    # What a subclass makes of failures

    def fail(self, errno: int) -> Exception:
        return P9Error(errno)

    def gone(self, why: str) -> Exception:
        return GoferGone(f"{self.name}: {why}")

    def close(self) -> None:
        if self.sock >= 0:
            os.close(self.sock)
            self.sock = -1
        self.dead = self.dead or "closed"

    # Requests

    def begin(self, kind: int) -> Writer:
        """Starts a request, behind the clunks that wait to be told."""
        out = self.out
        out.buf.clear()
        if self.clunks and self.extended:
            out.begin(C.TCLUNKN, C.NOTAG)
            out.u16(len(self.clunks))
            for fid in self.clunks:
                out.u32(fid)
            out.end()
            self.free += self.clunks
            self.clunks.clear()
        out.begin(kind, 0)
        return out

    def bad(self, why: str) -> Exception:
        """The connection ends here."""
        if not self.dead:
            self.dead = why
            if self.passed >= 0:
                os.close(self.passed)
                self.passed = -1
            os.close(self.sock)
            self.sock = -1
        return self.gone(self.dead)

    def call(self, kind: int) -> Reader:
        """Sends the request begun and gives the reader of its answer's fields."""
        reader, errno = self.call_raw(kind)
        if errno:
            raise self.fail(errno)
        return reader

    def call_raw(self, kind: int) -> tuple[Reader, int]:
        """As call, but an Rlerror comes back as its errno."""
        if self.dead:
            raise self.gone(self.dead)
        out = self.out
        out.end()
        request = out.take()
        n = int(
            lib.cn_p9_call(self.sock, request, len(request), out.start, self.buf, self.msize, self.fd_out)
        )
        self.passed = self.fd_out[0]
        if n < 0:
            if n == -E.EAGAIN:  # the socket's SO_RCVTIMEO or SO_SNDTIMEO (cordon/spawn.py)
                raise self.bad("it does not answer")
            raise self.bad(
                "it has gone" if n in (-E.EPIPE, -E.EBADF) else f"its connection failed: {os.strerror(-n)}"
            )
        reply = Reader(self.view[0:n], 4)
        got = reply.u8()
        reply.pos = C.HEADER  # the native call has compared the tag
        if got == C.RLERROR:
            if n != C.HEADER + 4 or self.passed >= 0:
                raise self.bad("it sent a malformed error")
            errno = reply.u32()
            if not 0 < errno <= MAX_ERRNO:
                raise self.bad("it sent an error that is none")
            return reply, errno
        if got != kind + 1:
            raise self.bad(f"it sent message {got} for {kind}")
        return reply, 0

    def finish(self, reply: Reader) -> None:
        """The answer must be over, without a descriptor that nobody asked for."""
        if reply.pos != len(reply.data):
            raise self.bad("it sent more than was asked for")
        if self.passed >= 0:
            raise self.bad("it sent a descriptor that was not asked for")

    def take_fd(self, reply: Reader) -> int:
        """The descriptor of an answer that ends with hasfd[1], which must be of a regular file; -1 for none, TOO_MANY when this
        process has no room for it."""
        has = reply.u8()
        fd = self.passed
        if fd == TOO_MANY and has == 1:
            self.passed = -1
            self.finish(reply)
            return TOO_MANY
        if (has == 1) != (fd >= 0) or has > 1:
            raise self.bad("it announced a descriptor that did not come, or the other way round")
        if reply.pos != len(reply.data):
            raise self.bad("it sent more than was asked for")
        if fd >= 0 and not stat.S_ISREG(os.fstat(fd).st_mode):
            raise self.bad("it sent a descriptor of something else than a file")
        self.passed = -1
        return fd

    def attr(self, reply: Reader) -> Attr:
        a = reply.attr()
        if a is None:
            raise ProtocolError("attributes are missing")
        return a

    # Fids

    def new_fid(self) -> int:
        if self.free:
            return self.free.pop()
        fid = self.next
        if fid >= C.NOFID:
            raise self.fail(E.ENFILE)
        self.next = fid + 1
        return fid

    def clunk(self, fid: int) -> None:
        """Gives up a fid: told with the next request, or now when many wait."""
        if self.dead:
            return
        if not self.extended:
            self.begin(C.TCLUNK).u32(fid)
            self.call(C.TCLUNK)
            self.free.append(fid)
            return
        self.clunks.append(fid)
        if len(self.clunks) >= CLUNK_BATCH:
            out = self.begin(C.TFLUSH)
            del out.buf[out.start :]  # the clunks alone
            data = out.take()
            if lib.cn_p9_send(self.sock, data, len(data), -1) < 0:
                raise self.bad("it has gone")

    # Session

    def start(self, extended: bool = True, uid: int = C.NONUNAME, aname: bytes = b"") -> Attr:
        """Agrees on a version, attaches to the tree as fid ROOT_FID, and returns the root's attributes."""
        try:
            if not (extended and self.agree(C.VERSION_CORDON)) and not self.agree(C.VERSION_L):
                raise self.bad("it does not speak 9P2000.L")
            out = self.begin(C.TATTACH)
            out.u32(ROOT_FID)
            out.u32(C.NOFID)
            out.string(b"")
            out.string(aname)
            out.u32(uid)
            reply = self.call(C.TATTACH)
            reply.qid()
            self.finish(reply)
            return self.getattr(ROOT_FID)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def agree(self, wanted: bytes) -> bool:
        """Asks for a version; some servers refuse what they don't know instead of naming what they do."""
        out = self.begin(C.TVERSION)
        out.u32(C.MSIZE)
        out.string(wanted)
        reply, errno = self.call_raw(C.TVERSION)
        if errno:
            return False
        msize = reply.u32()
        version = reply.string()
        self.finish(reply)
        if not C.MIN_MSIZE <= msize <= C.MSIZE:
            raise self.bad(f"it wants messages of {msize} bytes")
        if version not in (wanted, C.VERSION_L):
            return False
        self.msize = msize
        self.extended = version == C.VERSION_CORDON
        return True

    # Files. Without the extension a walk is made of several calls, and there are no descriptors.

    def walk(self, fid: int, names: list[bytes], flags: int = C.NO_OPEN) -> Walk:
        """Walks names (at most MAX_WALKATTR) from fid; see Twalkattr. flags: O_RDONLY, O_WRONLY, O_RDWR to have a descriptor, too."""
        if not self.extended:
            return self.plain_walk(fid, names)
        new = [self.new_fid() for _ in names]
        out = self.begin(C.TWALKATTR)
        out.u32(fid)
        out.u32(flags)
        out.u16(len(names))
        for name in names:
            out.string(name)
        for number in new:
            out.u32(number)
        reply, errno = self.call_raw(C.TWALKATTR)
        walk = Walk()
        if errno:
            self.free += new
            raise self.fail(errno)
        try:
            walk.status = reply.u32()
            n = reply.u16()
            if n > len(new) or walk.status > MAX_ERRNO or (n < len(new) and not walk.status):
                raise self.bad("it walked where it was not sent")
            for i in range(n):
                walk.attrs.append(self.attr(reply))
                walk.fids.append(new[i])
            walk.target = reply.string()
            if len(walk.target) > C.MAX_TARGET or b"\0" in walk.target:
                raise ProtocolError("a link's target is malformed")
            walk.hostfd = self.take_fd(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        self.free += new[n:]
        return walk

    def plain_walk(self, fid: int, names: list[bytes]) -> Walk:
        walk = Walk()
        for name in names:
            new = self.new_fid()
            out = self.begin(C.TWALK)
            out.u32(fid)
            out.u32(new)
            out.u16(1)
            out.string(name)
            reply, errno = self.call_raw(C.TWALK)
            if errno:
                self.free.append(new)
                walk.status = errno
                break
            self.check_plain_walk(reply)
            fid = new
            walk.fids.append(new)
            walk.attrs.append(self.getattr(new))
        return walk

    def check_plain_walk(self, reply: Reader) -> None:
        try:
            if reply.u16() != 1:
                raise ProtocolError("a walk of one name found another number")
            reply.qid()
            self.finish(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def getattr(self, fid: int) -> Attr:
        out = self.begin(C.TGETATTR)
        out.u32(fid)
        out.u64(C.GETATTR_ALL)
        return self.one_attr(C.TGETATTR)

    def one_attr(self, kind: int) -> Attr:
        """Sends the request begun, whose answer is an attribute record."""
        reply = self.call(kind)
        try:
            a = self.attr(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        self.finish(reply)
        return a

    def attr_and_fd(self, kind: int) -> tuple[Attr, int]:
        reply = self.call(kind)
        try:
            a = self.attr(reply)
            return a, self.take_fd(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def open(self, fid: int, flags: int) -> tuple[Attr, int]:
        """A host descriptor for a regular file (extension only), and its attributes; flags: access mode."""
        out = self.begin(C.TLOPENFD)
        out.u32(fid)
        out.u32(flags)
        attr, fd = self.attr_and_fd(C.TLOPENFD)
        if fd == TOO_MANY:
            raise self.fail(E.ENFILE)
        if fd < 0:
            raise self.bad("it opened a file without giving it")
        return attr, fd

    def make(
        self, fid: int, name: bytes, mode: int, rdev: int, uid: int, gid: int, target: bytes = b""
    ) -> tuple[int, Attr, int]:
        """Makes what mode's type says (extension only): (fid, attributes, O_RDWR descriptor of a regular file or -1)."""
        new = self.new_fid()
        out = self.begin(C.TMAKE)
        out.u32(fid)
        out.u32(new)
        out.string(name)
        out.u32(mode)
        out.u64(rdev)
        out.u32(uid)
        out.u32(gid)
        out.string(target)
        reply, errno = self.call_raw(C.TMAKE)
        if errno:
            self.free.append(new)
            raise self.fail(errno)
        try:
            attr = self.attr(reply)
            return new, attr, self.take_fd(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def readdir(self, fid: int, offset: int) -> tuple[list[Entry], int]:
        """As list_from, with the entries taken apart."""
        part, offset = self.list_from(fid, offset)
        return self.parse(part), offset

    def list_from(self, fid: int, offset: int, dirs: bool = False) -> tuple[Part, int]:
        """Some entries from `offset` (0: the start), and the offset to go on from, -1 after the last."""
        out = self.begin(C.TREADDIRATTR)
        out.u32(fid)
        out.u64(offset)
        out.u32(self.msize - C.IOHDR | (C.LIST_DIRS if dirs else 0))
        reply = self.call(C.TREADDIRATTR)
        try:
            return self.part(reply)
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def list_at(
        self, fid: int, name: bytes, dirs: bool = False, beside: list[bytes] | None = None
    ) -> tuple[int, Attr, Part, int, list[Block]]:
        """Walks to a directory in a directory and reads its first entries: (fid, attributes, entries, offset to go on from, and
        with a list `beside` of more directories in `fid`: what the server has read ahead of these and what is below)."""
        new = self.new_fid()
        out = self.begin(C.TLISTAT)
        out.u32(fid)
        out.u32(new)
        out.string(name)
        room = self.msize - C.IOHDR - C.ATTR
        if beside is None:
            out.u32(room | (C.LIST_DIRS if dirs else 0))
        else:
            out.u32(room | C.LIST_DIRS | C.LIST_AHEAD)
            out.u16(len(beside))
            for other in beside:
                out.string(other)
        reply, errno = self.call_raw(C.TLISTAT)
        if errno:
            self.free.append(new)
            raise self.fail(errno)
        try:
            attr = self.attr(reply)
            part, eof = self.entries(reply)
            blocks = self.blocks(reply) if beside is not None and eof else []
            return new, attr, part, self.going_on(reply, part, eof), blocks
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None

    def part(self, reply: Reader) -> tuple[Part, int]:
        """The end of an answer that lists a directory, and the offset to go on from, -1 after the last entry."""
        part, eof = self.entries(reply)
        return part, self.going_on(reply, part, eof)

    def entries(self, reply: Reader) -> tuple[Part, bool]:
        """The entries of a listing; are they the last?"""
        eof = reply.u8()
        size = reply.u32()
        if eof > 1 or (size == 0 and not eof):
            raise ProtocolError("a listing's length is wrong")
        return Part(reply.take(size)), eof == 1

    def going_on(self, reply: Reader, part: Part, eof: bool) -> int:
        self.finish(reply)
        if eof:
            return -1
        offset: int = lib.cn_dirents_last(part.data, len(part.data))
        if offset < 0:
            raise ProtocolError("a listing's entries are malformed")
        return offset

    def blocks(self, reply: Reader) -> list[Block]:
        blocks: list[Block] = []
        while reply.pos < len(reply.data):
            parent = reply.u16()
            if parent > len(blocks) and parent != C.BESIDE:
                raise ProtocolError("a listing ahead belongs nowhere")
            path, dev = reply.u64(), reply.u64()
            name = reply.name()
            blocks.append(Block(parent, path, dev, name, Part(reply.take(reply.u32()))))
        return blocks

    def parse(self, part: Part) -> list[Entry]:
        """The entries of a part of a listing."""
        reader = Reader(part.data, 0)
        entries: list[Entry] = []
        try:
            while reader.pos < len(reader.data):
                entries.append(reader.entry()[0])
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        return entries

    def readlink(self, fid: int) -> bytes:
        self.begin(C.TREADLINK).u32(fid)
        reply = self.call(C.TREADLINK)
        try:
            target = reply.string()
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        self.finish(reply)
        if len(target) > C.MAX_TARGET or b"\0" in target:
            raise self.bad("it sent a malformed link target")
        return target

    def setattr(
        self, fid: int, valid: int, mode: int, uid: int, gid: int, size: int, atime: int, mtime: int
    ) -> Attr:
        """Changes attributes (C.SETATTR_* bits; times in ns); the attributes after it."""
        kind = C.TSETATTRX if self.extended else C.TSETATTR
        out = self.begin(kind)
        out.u32(fid)
        out.u32(valid)
        out.u32(mode)
        out.u32(uid)
        out.u32(gid)
        out.u64(size)
        for ns in (atime, mtime):
            out.u64(max(ns, 0) // 1_000_000_000)
            out.u64(max(ns, 0) % 1_000_000_000)
        if self.extended:
            return self.one_attr(kind)
        self.finish(self.call(kind))
        return self.getattr(fid)

    def simple(self, kind: int) -> None:
        """Sends the request begun, whose answer is empty."""
        self.finish(self.call(kind))

    def empty_answer(self, kind: int) -> bool:
        """As simple; True when the server (an old one, without the extension) doesn't know the message."""
        reply, errno = self.call_raw(kind)
        if errno == E.EOPNOTSUPP and not self.extended:
            return True
        if errno:
            raise self.fail(errno)
        self.finish(reply)
        return False

    def walk_one(self, dirfid: int, name: bytes) -> int:
        walk = self.walk(dirfid, [name])
        if not walk.fids:
            raise self.fail(walk.status)
        return walk.fids[0]

    def link(self, dirfid: int, fid: int, name: bytes) -> None:
        out = self.begin(C.TLINK)
        out.u32(dirfid)
        out.u32(fid)
        out.string(name)
        self.simple(C.TLINK)

    def unlink(self, dirfid: int, name: bytes, flags: int) -> None:
        """flags: 0, or AT_REMOVEDIR."""
        out = self.begin(C.TUNLINKAT)
        out.u32(dirfid)
        out.string(name)
        out.u32(flags)
        if self.empty_answer(C.TUNLINKAT):
            fid = self.walk_one(dirfid, name)
            self.begin(C.TREMOVE).u32(fid)  # which is clunked, too
            self.simple(C.TREMOVE)

    def rename(self, olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
        """RENAME_* flags need the extension."""
        if flags and not self.extended:
            raise self.fail(E.EINVAL)
        kind = C.TRENAMEX if self.extended else C.TRENAMEAT
        out = self.begin(kind)
        out.u32(olddir)
        out.string(old)
        out.u32(newdir)
        out.string(new)
        if self.extended:
            out.u32(flags)
        if self.empty_answer(kind):
            fid = self.walk_one(olddir, old)
            out = self.begin(C.TRENAME)
            out.u32(fid)
            out.u32(newdir)
            out.string(new)
            self.simple(C.TRENAME)
            self.clunk(fid)

    def fsync(self, fid: int) -> None:
        out = self.begin(C.TFSYNC)
        out.u32(fid)
        out.u32(0)
        self.simple(C.TFSYNC)

    def statfs(self, fid: int) -> list[int]:
        """[type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen]"""
        self.begin(C.TSTATFS).u32(fid)
        reply = self.call(C.TSTATFS)
        try:
            values = [reply.u32(), reply.u32()]
            values += [reply.u64() for _ in range(6)]
            values.append(reply.u32())
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        self.finish(reply)
        return values

    def getxattr(self, fid: int, name: bytes) -> bytes:
        """The value; with an empty name the NUL-ended names (extension only)."""
        out = self.begin(C.TGETXATTR)
        out.u32(fid)
        out.string(name)
        reply = self.call(C.TGETXATTR)
        try:
            value = reply.take(reply.u32())
        except ProtocolError as e:
            raise self.bad(f"it broke the protocol: {e}") from None
        self.finish(reply)
        return value

    def setxattr(self, fid: int, name: bytes, value: bytes, flags: int) -> None:
        out = self.begin(C.TSETXATTR)
        out.u32(fid)
        out.string(name)
        out.u32(flags)
        out.u32(len(value))
        out.raw(value)
        self.simple(C.TSETXATTR)

    def removexattr(self, fid: int, name: bytes) -> None:
        out = self.begin(C.TRMXATTR)
        out.u32(fid)
        out.string(name)
        self.simple(C.TRMXATTR)
