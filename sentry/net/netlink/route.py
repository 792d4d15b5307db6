"""NETLINK_ROUTE: answers from the stack's tables (rtnetlink(7)). Nothing can be changed through it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import netlink as NL
from sentry.abi import socket as SO
from sentry.errors import Errno
from sentry.net.netlink.message import Request, attr, attr_u32, attributes
from sentry.net.stack import Address, Interface, Neighbour, Route, Stack, Tables

if TYPE_CHECKING:
    from sentry.kernel.task import Task

IFINFO: Final = struct.Struct("<BxHiII")  # struct ifinfomsg
IFADDR: Final = struct.Struct("<BBBBI")  # struct ifaddrmsg
RTMSG: Final = struct.Struct("<BBBBBBBBI")  # struct rtmsg
NDMSG: Final = struct.Struct("<BxxxiHBB")  # struct ndmsg
CACHEINFO: Final = struct.Struct("<IIII")
FOREVER: Final = 0xFFFFFFFF
STATS: Final = 24  # counters in struct rtnl_link_stats64
MAX_TABLE: Final = 255  # that fits into rtm_table
RT_TABLE_COMPAT: Final = 252
#: Where `Interface.counters` stand in struct rtnl_link_stats64.
PLACES: Final = (0, 2, 4, 6, 1, 3, 5, 7)
CHANGES: Final = (
    NL.RTM_NEWLINK, NL.RTM_DELLINK, NL.RTM_SETLINK, NL.RTM_NEWADDR, NL.RTM_DELADDR, NL.RTM_NEWROUTE, NL.RTM_DELROUTE,
    NL.RTM_NEWNEIGH, NL.RTM_DELNEIGH, NL.RTM_NEWRULE, NL.RTM_DELRULE, NL.RTM_NEWQDISC, NL.RTM_DELQDISC,
)  # fmt: skip


class Answer:
    """One message of an answer: its type and body."""

    def __init__(self, kind: int, body: bytes) -> None:
        self.kind: int = kind
        self.body: bytes = body


def answer(t: Task, stack: Stack, request: Request) -> list[Answer]:
    """What a request brings; Errno for NLMSG_ERROR."""
    kind = request.kind
    dump = request.flags & NL.NLM_F_DUMP == NL.NLM_F_DUMP
    family = request.body[0] if request.body else 0
    if kind in CHANGES:
        return change(t, stack, request)
    if kind == NL.RTM_GETLINK:
        return all_links(stack.tables()) if dump else one_link(stack.tables(), request)
    if kind == NL.RTM_GETADDR and dump:
        world = stack.tables()
        return [address(world, a) for a in world.addresses if family in (0, a.family)]
    if kind == NL.RTM_GETROUTE:
        world = stack.tables()
        if dump:
            return [route(r) for r in world.routes if family in (0, r.family)]
        return [lookup(world, request)]
    if kind == NL.RTM_GETNEIGH and dump:
        return [neighbour(n) for n in stack.tables().neighbours if family in (0, n.family)]
    raise Errno(E.EOPNOTSUPP)


def change(t: Task, stack: Stack, request: Request) -> list[Answer]:
    """Everything stays as the stack's owner made it; only bringing up what is up is no change."""
    if t.creds.has(C.CAP_NET_ADMIN) and request.kind == NL.RTM_NEWLINK and len(request.body) >= IFINFO.size:
        _, _, index, flags, mask = IFINFO.unpack_from(request.body)
        named = attributes(request.body[IFINFO.size :])
        interface = find(stack.tables(), index, named)
        only_name = not set(named) - {NL.IFLA_IFNAME, NL.IFLA_EXT_MASK}
        if only_name and mask == SO.IFF_UP and (interface.flags ^ flags) & SO.IFF_UP == 0:
            return []
    raise Errno(E.EPERM)


# Links


def find(world: Tables, index: int, named: dict[int, bytes]) -> Interface:
    if index > 0:
        found = world.by_index(index)
    elif NL.IFLA_IFNAME in named:
        found = world.by_name(named[NL.IFLA_IFNAME].partition(b"\0")[0])
    else:
        raise Errno(E.EINVAL)
    if found is None:
        raise Errno(E.ENODEV)
    return found


def one_link(world: Tables, request: Request) -> list[Answer]:
    if len(request.body) < IFINFO.size:
        raise Errno(E.EINVAL)
    index: int = IFINFO.unpack_from(request.body)[2]
    return [link(find(world, index, attributes(request.body[IFINFO.size :])))]


def all_links(world: Tables) -> list[Answer]:
    return [link(i) for i in world.interfaces]


def link(i: Interface) -> Answer:
    numbers = [0] * STATS
    for place, value in zip(PLACES, i.counters, strict=True):
        numbers[place] = value
    body = IFINFO.pack(SO.AF_UNSPEC, i.kind, i.index, i.flags, 0)
    body += attr(NL.IFLA_IFNAME, i.name + b"\0")
    body += attr_u32(NL.IFLA_TXQLEN, i.txqlen)
    body += attr(NL.IFLA_OPERSTATE, bytes((i.operstate,)))
    body += attr(NL.IFLA_LINKMODE, b"\0")
    body += attr_u32(NL.IFLA_MTU, i.mtu)
    body += attr_u32(NL.IFLA_GROUP, 0)
    body += attr_u32(NL.IFLA_PROMISCUITY, 0)
    body += attr_u32(NL.IFLA_NUM_TX_QUEUES, 1)
    body += attr_u32(NL.IFLA_NUM_RX_QUEUES, 1)
    body += attr(NL.IFLA_CARRIER, bytes((int(i.flags & SO.IFF_LOWER_UP != 0),)))
    body += attr(NL.IFLA_ADDRESS, i.hwaddr)
    body += attr(NL.IFLA_BROADCAST, i.broadcast)
    body += attr(NL.IFLA_QDISC, i.qdisc + b"\0")
    body += attr(NL.IFLA_STATS64, struct.pack(f"<{STATS}Q", *numbers))
    body += attr(NL.IFLA_STATS, struct.pack(f"<{STATS}I", *[n & 0xFFFFFFFF for n in numbers]))
    return Answer(NL.RTM_NEWLINK, body)


# Addresses, routes, neighbours


def address(world: Tables, a: Address) -> Answer:
    body = IFADDR.pack(a.family, a.prefix, a.flags & 0xFF, a.scope, a.index)
    body += attr(NL.IFA_ADDRESS, a.peer or a.ip)
    if a.family == SO.AF_INET:
        body += attr(NL.IFA_LOCAL, a.ip)
        if a.broadcast:
            body += attr(NL.IFA_BROADCAST, a.broadcast)
        if a.label:
            body += attr(NL.IFA_LABEL, a.label + b"\0")
    elif a.peer:
        body += attr(NL.IFA_LOCAL, a.ip)
    body += attr_u32(NL.IFA_FLAGS, a.flags)
    body += attr(NL.IFA_CACHEINFO, CACHEINFO.pack(FOREVER, FOREVER, 0, 0))
    return Answer(NL.RTM_NEWADDR, body)


def route(r: Route) -> Answer:
    table = r.table if r.table <= MAX_TABLE else RT_TABLE_COMPAT
    body = RTMSG.pack(r.family, r.prefix, 0, 0, table, r.protocol, r.scope, r.kind, 0)
    body += attr_u32(NL.RTA_TABLE, r.table)
    if r.dst and r.prefix:
        body += attr(NL.RTA_DST, r.dst)
    if r.priority:
        body += attr_u32(NL.RTA_PRIORITY, r.priority)
    if r.source:
        body += attr(NL.RTA_PREFSRC, r.source)
    if r.gateway:
        body += attr(NL.RTA_GATEWAY, r.gateway)
    if r.index:
        body += attr_u32(NL.RTA_OIF, r.index)
    if r.family == SO.AF_INET6:
        body += attr(NL.RTA_PREF, b"\0")
    return Answer(NL.RTM_NEWROUTE, body)


def neighbour(n: Neighbour) -> Answer:
    body = NDMSG.pack(n.family, n.index, n.state, n.flags, NL.RTN_UNICAST)
    body += attr(NL.NDA_DST, n.ip)
    if n.hwaddr:
        body += attr(NL.NDA_LLADDR, n.hwaddr)
    return Answer(NL.RTM_NEWNEIGH, body)


def matches(r: Route, ip: bytes) -> bool:
    if r.prefix == 0:
        return True
    shift = len(ip) * 8 - r.prefix
    return int.from_bytes(r.dst, "big") >> shift == int.from_bytes(ip, "big") >> shift


def lookup(world: Tables, request: Request) -> Answer:
    """ip route get: the route that a packet to RTA_DST takes. ENETUNREACH."""
    if len(request.body) < RTMSG.size:
        raise Errno(E.EINVAL)
    family = request.body[0]
    dst = attributes(request.body[RTMSG.size :]).get(NL.RTA_DST, b"")
    if (family, len(dst)) not in ((SO.AF_INET, 4), (SO.AF_INET6, 16)):
        raise Errno(E.EINVAL)
    best: Route | None = None
    for table in (NL.RT_TABLE_LOCAL, NL.RT_TABLE_MAIN):
        for r in world.routes:
            if r.table == table and r.family == family and matches(r, dst) and (best is None or r.prefix > best.prefix):
                best = r
        if best is not None:
            break
    if best is None:
        raise Errno(E.ENETUNREACH)
    found = Route(family, dst, len(dst) * 8, best.index)
    found.gateway, found.table, found.kind = best.gateway, best.table, best.kind
    found.protocol = NL.RTPROT_UNSPEC
    found.source = best.source or source_on(world, family, best.index)
    return route(found)


def source_on(world: Tables, family: int, index: int) -> bytes:
    """The address from which packets leave by an interface."""
    for a in world.addresses:
        if a.index == index and a.family == family and a.scope == NL.RT_SCOPE_UNIVERSE:
            return a.ip
    return b""
