"""Options of IP, IPv6, TCP and UDP sockets (ip(7), ipv6(7), tcp(7), udp(7)): which there are, their defaults and what they may be."""

from __future__ import annotations

from typing import Final

from sentry.abi import errno as E
from sentry.abi import socket as SO
from sentry.errors import Errno

I32_MAX: Final = 0x7FFFFFFF
LO_MTU4: Final = 65535
LO_MTU6: Final = 65536
ECN: Final = 3  # bits of the type of service that are TCP's own
LO_MSS: Final = 65483


class Option:
    """An integer option. Values outside low..high are `error`; `flag`: any value but 0 is 1; `unset`: -1 means the default."""

    def __init__(self, default: int, low: int, high: int, flag: bool, unset: bool, error: int) -> None:
        self.default: int = default
        self.low: int = low
        self.high: int = high
        self.flag: bool = flag
        self.unset: bool = unset
        self.error: int = error

    def check(self, value: int) -> int:
        """The value as it is kept."""
        if self.flag:
            return int(value != 0)
        if self.unset and value == -1:
            return self.default
        if not self.low <= value <= self.high:
            raise Errno(self.error)
        return value


def flag(default: int = 0) -> Option:
    return Option(default, 0, 1, True, False, E.EINVAL)


def number(default: int, low: int, high: int, unset: bool = False, error: int = E.EINVAL) -> Option:
    return Option(default, low, high, False, unset, error)


IP: Final[dict[int, Option]] = {
    SO.IP_TOS: number(0, -I32_MAX - 1, I32_MAX),
    SO.IP_TTL: number(64, 1, 255, True),
    SO.IP_RECVTTL: flag(),
    SO.IP_RECVTOS: flag(),
    SO.IP_PKTINFO: flag(),
    SO.IP_RECVERR: flag(),
    SO.IP_FREEBIND: flag(),
    SO.IP_BIND_ADDRESS_NO_PORT: flag(),
    SO.IP_MTU_DISCOVER: number(SO.IP_PMTUDISC_WANT, SO.IP_PMTUDISC_DONT, SO.IP_PMTUDISC_OMIT),
    SO.IP_MULTICAST_TTL: number(1, 0, 255, True),
    SO.IP_MULTICAST_LOOP: flag(1),
    SO.IP_MULTICAST_ALL: flag(1),
}
IPV6: Final[dict[int, Option]] = {
    SO.IPV6_V6ONLY: flag(),
    SO.IPV6_UNICAST_HOPS: number(64, 0, 255, True),
    SO.IPV6_MULTICAST_HOPS: number(1, 0, 255, True),
    SO.IPV6_MULTICAST_LOOP: number(1, 0, 1),
    SO.IPV6_MULTICAST_ALL: flag(1),
    SO.IPV6_RECVPKTINFO: flag(),
    SO.IPV6_RECVHOPLIMIT: flag(),
    SO.IPV6_RECVTCLASS: flag(),
    SO.IPV6_TCLASS: number(0, 0, 255, True),
    SO.IPV6_MTU_DISCOVER: number(SO.IPV6_PMTUDISC_WANT, SO.IPV6_PMTUDISC_DONT, SO.IPV6_PMTUDISC_OMIT),
    SO.IPV6_RECVERR: flag(),
    SO.IPV6_DONTFRAG: flag(),
    SO.IPV6_AUTOFLOWLABEL: flag(1),
    SO.IPV6_FREEBIND: flag(),
}
TCP: Final[dict[int, Option]] = {
    SO.TCP_NODELAY: flag(),
    SO.TCP_CORK: flag(),
    SO.TCP_MAXSEG: number(LO_MSS, 88, 32767),
    SO.TCP_KEEPIDLE: number(7200, 1, 32767),
    SO.TCP_KEEPINTVL: number(75, 1, 32767),
    SO.TCP_KEEPCNT: number(9, 1, 127),
    SO.TCP_SYNCNT: number(6, 1, 127),
    SO.TCP_LINGER2: number(60, -I32_MAX - 1, I32_MAX),
    SO.TCP_DEFER_ACCEPT: number(0, 0, I32_MAX),
    SO.TCP_WINDOW_CLAMP: number(0, 0, I32_MAX),
    SO.TCP_QUICKACK: flag(1),
    SO.TCP_USER_TIMEOUT: number(0, 0, I32_MAX),
    SO.TCP_THIN_LINEAR_TIMEOUTS: flag(),
    SO.TCP_NOTSENT_LOWAT: number(0, -I32_MAX - 1, I32_MAX),
}
UDP: Final[dict[int, Option]] = {SO.UDP_CORK: flag()}
#: Options of SOL_SOCKET beside those of every socket (sentry/net/socket.py).
SOCKET: Final[dict[int, Option]] = {
    SO.SO_TIMESTAMP_OLD: flag(),
    SO.SO_TIMESTAMPNS_OLD: flag(),
    SO.SO_TIMESTAMP_NEW: flag(),
    SO.SO_TIMESTAMPNS_NEW: flag(),
    SO.SO_RXQ_OVFL: flag(),
}
#: What stacks can't do, and what a program hears: multicast, raw packets' options, another address than one's own.
REFUSED: Final[dict[tuple[int, int], int]] = {
    (SO.SOL_IP, SO.IP_ADD_MEMBERSHIP): E.ENODEV,
    (SO.SOL_IP, SO.IP_ADD_SOURCE_MEMBERSHIP): E.ENODEV,
    (SO.SOL_IP, SO.IP_DROP_MEMBERSHIP): E.EADDRNOTAVAIL,
    (SO.SOL_IP, SO.IP_MULTICAST_IF): E.EADDRNOTAVAIL,
    (SO.SOL_IP, SO.IP_TRANSPARENT): E.EPERM,
    (SO.SOL_IP, SO.IP_HDRINCL): E.ENOPROTOOPT,
    (SO.SOL_IPV6, SO.IPV6_ADD_MEMBERSHIP): E.ENODEV,
    (SO.SOL_IPV6, SO.IPV6_DROP_MEMBERSHIP): E.EADDRNOTAVAIL,
    (SO.SOL_IPV6, SO.IPV6_MULTICAST_IF): E.ENODEV,
    (SO.SOL_IPV6, SO.IPV6_TRANSPARENT): E.EPERM,
    (SO.SOL_TCP, SO.TCP_FASTOPEN): E.EOPNOTSUPP,
    (SO.SOL_TCP, SO.TCP_FASTOPEN_CONNECT): E.EOPNOTSUPP,
    (SO.SOL_TCP, SO.TCP_REPAIR): E.EPERM,
    (SO.SOL_TCP, SO.TCP_ULP): E.ENOENT,
    (SO.SOL_SOCKET, SO.SO_MARK): E.EPERM,
}
CONGESTION: Final = (b"cubic", b"reno")


def table(family: int, kind: int, level: int, error: int = E.ENOPROTOOPT) -> dict[int, Option]:
    """The integer options of a level for a socket; Errno(error) when it has none."""
    if level == SO.SOL_IP:
        return IP
    if level == SO.SOL_IPV6 and family == SO.AF_INET6:
        return IPV6
    if level == SO.SOL_TCP and kind == SO.SOCK_STREAM:
        return TCP
    if level == SO.SOL_UDP and kind == SO.SOCK_DGRAM:
        return UDP
    raise Errno(error)


def check(family: int, kind: int, level: int, name: int, rule: Option, value: int, old: int) -> int:
    """The value as it is kept, with the rules that need more than the value."""
    stream = kind == SO.SOCK_STREAM
    if stream and level == SO.SOL_IP and name == SO.IP_MULTICAST_TTL:
        raise Errno(E.EINVAL)
    if stream and level == SO.SOL_IPV6 and name == SO.IPV6_MULTICAST_HOPS:
        raise Errno(E.ENOPROTOOPT)
    value = rule.check(value)
    if (level == SO.SOL_IP and name == SO.IP_TOS) or (level == SO.SOL_IPV6 and name == SO.IPV6_TCLASS):
        value &= 0xFF
        if stream:
            value = value & ~ECN | old & ECN
    return value
