"""The ioctls of network interfaces (netdevice(7)), answered from the stack's tables."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.stack import Address, Interface, Stack, Tables

if TYPE_CHECKING:
    from sentry.kernel.task import Task

FIRST: Final = SO.SIOCADDRT
LAST: Final = SO.SIOCSIFMAP
IFREQ: Final = 40  # struct ifreq: a name of 16 bytes and a union of 24
UNION: Final = 24
IFCONF: Final = struct.Struct("<i4xQ")
CHANGES: Final = (
    SO.SIOCADDRT, SO.SIOCDELRT, SO.SIOCSIFLINK, SO.SIOCSIFADDR, SO.SIOCSIFDSTADDR, SO.SIOCSIFBRDADDR, SO.SIOCSIFNETMASK,
    SO.SIOCSIFMETRIC, SO.SIOCSIFMEM, SO.SIOCSIFMTU, SO.SIOCSIFNAME, SO.SIOCSIFHWADDR, SO.SIOCSIFTXQLEN, SO.SIOCADDMULTI,
    SO.SIOCDELMULTI, SO.SIOCSIFMAP, SO.SIOCDIFADDR, SO.SIOCSIFPFLAGS,
)  # fmt: skip
SHORT_FLAGS: Final = 0xFFFF  # those that fit into ifr_flags


def sockaddr(ip: bytes) -> bytes:
    """A sockaddr_in without port."""
    return struct.pack("<HH4s8x", SO.AF_INET, 0, ip)


def netmask(prefix: int) -> bytes:
    return (0xFFFFFFFF << 32 - prefix & 0xFFFFFFFF).to_bytes(4, "big")


def address_of(world: Tables, index: int) -> Address:
    """An interface's first IPv4 address; EADDRNOTAVAIL."""
    for a in world.addresses:
        if a.index == index and a.family == SO.AF_INET:
            return a
    raise Errno(E.EADDRNOTAVAIL)


def ioctl(t: Task, stack: Stack, cmd: int, arg: int) -> int:
    if cmd == SO.SIOCGIFCONF:
        list_addresses(t, stack.tables(), arg)
        return 0
    if cmd in CHANGES:
        raise Errno(E.EPERM)  # the stack's owner made it as it is
    request = t.mm.read(arg, IFREQ)
    world = stack.tables()
    if cmd == SO.SIOCGIFNAME:
        found = world.by_index(int.from_bytes(request[16:20], "little", signed=True))
        if found is None:
            raise Errno(E.ENODEV)
        t.mm.write(arg, found.name.ljust(16, b"\0"))
        return 0
    interface = world.by_name(request[:15].partition(b"\0")[0].partition(b":")[0])
    if interface is None:
        raise Errno(E.ENODEV)
    if cmd == SO.SIOCSIFFLAGS:
        if not t.creds.has(C.CAP_NET_ADMIN) or (interface.flags ^ int.from_bytes(request[16:18], "little")) & SO.IFF_UP:
            raise Errno(E.EPERM)
        return 0
    t.mm.write(arg + 16, answer(world, interface, cmd).ljust(UNION, b"\0"))
    return 0


def answer(world: Tables, interface: Interface, cmd: int) -> bytes:
    """What is in the request's union afterwards. ENOTTY for requests that nobody knows."""
    if cmd == SO.SIOCGIFFLAGS:
        return (interface.flags & SHORT_FLAGS).to_bytes(2, "little")
    if cmd == SO.SIOCGIFINDEX:
        return interface.index.to_bytes(4, "little")
    if cmd == SO.SIOCGIFMTU:
        return interface.mtu.to_bytes(4, "little")
    if cmd == SO.SIOCGIFTXQLEN:
        return interface.txqlen.to_bytes(4, "little")
    if cmd == SO.SIOCGIFMETRIC or cmd == SO.SIOCGIFMAP:
        return b""
    if cmd == SO.SIOCGIFHWADDR:
        return interface.kind.to_bytes(2, "little") + interface.hwaddr[:14]
    if cmd == SO.SIOCGIFADDR:
        return sockaddr(address_of(world, interface.index).ip)
    if cmd == SO.SIOCGIFNETMASK:
        return sockaddr(netmask(address_of(world, interface.index).prefix))
    if cmd == SO.SIOCGIFBRDADDR:
        return sockaddr(address_of(world, interface.index).broadcast or bytes(4))
    if cmd == SO.SIOCGIFDSTADDR:
        a = address_of(world, interface.index)
        return sockaddr(a.peer or a.ip)
    raise Errno(E.ENOTTY)


def list_addresses(t: Task, world: Tables, arg: int) -> None:
    """SIOCGIFCONF: the IPv4 addresses of all interfaces, as many as find room."""
    room, buf = IFCONF.unpack(t.mm.read(arg, IFCONF.size))
    if room < 0:
        raise Errno(E.EINVAL)
    out = bytearray()
    for interface in world.interfaces:
        for a in world.addresses:
            if a.index == interface.index and a.family == SO.AF_INET:
                name = a.label or interface.name
                out += name[:15].ljust(16, b"\0") + sockaddr(a.ip).ljust(UNION, b"\0")
    if buf:
        out = out[: room // IFREQ * IFREQ]
        t.mm.write(buf, bytes(out))
    t.mm.write_u32(arg, len(out))
