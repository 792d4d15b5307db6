"""What a fid of a 9P connection stands for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from native._core import lib

if TYPE_CHECKING:
    from native._core import CData

S_IFMT: Final = 0o170000
S_IFDIR: Final = 0o040000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000


class P9Error(Exception):
    """The request fails with this errno (a Linux number, as Rlerror has it)."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno: int = errno


class Fid:
    """A host file: an O_PATH descriptor of its own, what it is, and descriptors for I/O once opened."""

    def __init__(self, fd: int, mode: int, ino: int, dev: int, mnt: int) -> None:
        self.fd: int = fd
        self.mode: int = mode
        self.ino: int = ino
        self.dev: int = dev
        self.mnt: int = mnt
        self.io: int = -1  # opened by Tlopen or Tlcreate
        self.flags: int = 0  # of that open
        self.listing: int = -1  # directory descriptor of Treaddirattr
        self.value: bytes | None = None  # a fid of Txattrwalk: what Tread gives
        self.setting: bytes = b""  # a fid of Txattrcreate: the attribute's name, set when it is clunked
        self.setsize: int = 0
        self.setflags: int = 0

    def close(self) -> None:
        for fd in (self.fd, self.io, self.listing):
            if fd >= 0:
                os.close(fd)
        self.fd = self.io = self.listing = -1

    @property
    def isdir(self) -> bool:
        return self.mode & S_IFMT == S_IFDIR

    @property
    def isreg(self) -> bool:
        return self.mode & S_IFMT == S_IFREG

    @property
    def islink(self) -> bool:
        return self.mode & S_IFMT == S_IFLNK

    def magic(self) -> str:
        """Its name in /proc/self/fd, where the gofer's working directory is: calls without an O_PATH form go through it."""
        return str(self.fd)


def fid_of(node: CData) -> Fid:
    """A Fid that owns the node's descriptor."""
    return Fid(node.fd, node.mode, node.ino, node.dev, node.mnt)


def node_of(fid: Fid, node: CData) -> None:
    """Fills a struct cn_gf_node (the descriptor stays the fid's)."""
    node.fd = fid.fd
    node.mode = fid.mode
    node.ino = fid.ino
    node.dev = fid.dev
    node.mnt = fid.mnt


def check(r: int) -> int:
    """The result of a native call, P9Error when it is -errno."""
    if r < 0:
        raise P9Error(-r)
    return r


def adopt(fd: int, node: CData, attr: CData) -> Fid:
    """A Fid for a fresh O_PATH descriptor; attr (153 bytes) is filled. The descriptor is closed on failure."""
    r = lib.cn_gf_stat(fd, node, attr)
    if r < 0:
        os.close(fd)
        raise P9Error(-r)
    node.fd = fd
    return fid_of(node)
