"""Building and reading netlink messages (netlink(7))."""

from __future__ import annotations

import struct
from typing import Final

from sentry.abi import netlink as NL

HEADER: Final = struct.Struct("<IHHII")  # struct nlmsghdr
ATTR: Final = struct.Struct("<HH")  # struct nlattr
ERROR: Final = struct.Struct("<i")
TYPE_MASK: Final = 0x3FFF


class Request:
    """One message that a guest sent."""

    def __init__(self, kind: int, flags: int, seq: int, raw: bytes) -> None:
        self.kind: int = kind
        self.flags: int = flags
        self.seq: int = seq
        self.raw: bytes = raw  # header included

    @property
    def body(self) -> bytes:
        return self.raw[HEADER.size :]


def split(data: bytes) -> list[Request]:
    """The messages in what was sent; what follows one of a wrong length is ignored, as in Linux."""
    out: list[Request] = []
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, seq, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            break
        out.append(Request(kind, flags, seq, data[at : at + length]))
        at += (length + 3) & ~3
    return out


def message(kind: int, flags: int, seq: int, port: int, body: bytes) -> bytes:
    """A whole message, padded."""
    length = HEADER.size + len(body)
    return HEADER.pack(length, kind, flags, seq, port) + body + bytes(-length % 4)


def attr(kind: int, value: bytes) -> bytes:
    return ATTR.pack(ATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def attr_u32(kind: int, value: int) -> bytes:
    return attr(kind, (value & 0xFFFFFFFF).to_bytes(4, "little"))


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; reading stops at one of a wrong length."""
    found: dict[int, bytes] = {}
    at = 0
    while at + ATTR.size <= len(data):
        length, kind = ATTR.unpack_from(data, at)
        if length < ATTR.size or at + length > len(data):
            break
        found[kind & TYPE_MASK] = data[at + ATTR.size : at + length]
        at += (length + 3) & ~3
    return found


def error(request: Request, port: int, number: int, capped: bool) -> bytes:
    """NLMSG_ERROR: what became of a request (0: done), with the request or only its header."""
    if number == 0 or capped:
        flags = NL.NLM_F_CAPPED if capped else 0
        raw = request.raw[: HEADER.size] if capped or number == 0 else request.raw
        if number == 0 and not capped:
            flags = NL.NLM_F_CAPPED
    else:
        flags, raw = 0, request.raw
    return message(NL.NLMSG_ERROR, flags, request.seq, port, ERROR.pack(-number) + raw)


def done(request: Request, port: int) -> bytes:
    return message(NL.NLMSG_DONE, NL.NLM_F_MULTI, request.seq, port, ERROR.pack(0))
