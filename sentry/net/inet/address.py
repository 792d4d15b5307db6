"""sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)) to and from names."""

from __future__ import annotations

import struct
from typing import Final

from sentry.abi import errno as E
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.stack import MAPPED, Name

SIZE4: Final = 16  # struct sockaddr_in
SIZE6: Final = 28  # struct sockaddr_in6
MIN_SIZE6: Final = 24  # without the scope (RFC 2133), which Linux still takes
ZERO8: Final = bytes(8)
FAMILY4: Final = SO.AF_INET.to_bytes(2, "little")
FAMILY6: Final = SO.AF_INET6.to_bytes(2, "little")
UNSPEC: Final = b"\0\0"
SCOPE: Final = struct.Struct("<I")


def family_of(addr: bytes) -> int:
    """sa_family; EINVAL when there is not even that."""
    if len(addr) < 2:
        raise Errno(E.EINVAL)
    return addr[0] | addr[1] << 8


def parse4(addr: bytes) -> Name:
    """A sockaddr_in whose family was looked at; EINVAL when it is too short."""
    if len(addr) < SIZE4:
        raise Errno(E.EINVAL)
    return Name(MAPPED + addr[4:8], addr[2] << 8 | addr[3])


def parse6(addr: bytes) -> Name:
    """A sockaddr_in6 whose family was looked at; EINVAL when it is too short."""
    if len(addr) < MIN_SIZE6:
        raise Errno(E.EINVAL)
    scope: int = SCOPE.unpack_from(addr, 24)[0] if len(addr) >= SIZE6 else 0
    return Name(addr[8:24], addr[2] << 8 | addr[3], scope)


def sockaddr(family: int, name: Name) -> bytes:
    """As calls return it to a socket of this family."""
    port = name.port
    head = bytes((port >> 8, port & 0xFF))
    if family == SO.AF_INET:
        return FAMILY4 + head + name.ip[12:] + ZERO8
    return FAMILY6 + head + b"\0\0\0\0" + name.ip + SCOPE.pack(name.scope)
