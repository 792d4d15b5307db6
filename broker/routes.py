"""Reads interfaces, addresses, routes and neighbours of the broker's network namespace (rtnetlink(7)).

`tables` gives {"links": [...], "addresses": [...], "routes": [...], "neighbours": [...]}, each a list of objects whose binary values
are hexadecimal text.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH = 18, 22, 26, 30
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU, IFLA_QDISC, IFLA_STATS = 1, 2, 3, 4, 6, 7
IFLA_TXQLEN, IFLA_OPERSTATE, IFLA_STATS64 = 13, 16, 23
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 3, 4, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
NDA_DST, NDA_LLADDR = 1, 2
RTM_F_CLONED = 0x200

HEADER = struct.Struct("<IHHII")
IFINFO = struct.Struct("<BxHiII")
IFADDR = struct.Struct("<BBBBI")
RTMSG = struct.Struct("<BBBBBBBBI")
NDMSG = struct.Struct("<BxHiHBB")
ROOM = 1 << 18


def open_line() -> socket.socket:
    """The netlink socket. Before the filter, which allows no other."""
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    line.bind((0, 0))
    return line


def dump(line: socket.socket, kind: int, size: int) -> Iterator[bytes]:
    """The bodies of all messages that answer a dump request; `size`: bytes of its own header."""
    line.send(HEADER.pack(HEADER.size + size, kind, NLM_F_REQUEST | NLM_F_DUMP, kind, 0) + bytes(size))
    while True:
        data = line.recv(ROOM)
        at = 0
        while at + HEADER.size <= len(data):
            length, answer, _, seq, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size or answer == NLMSG_DONE:
                return
            if answer == NLMSG_ERROR:
                number = struct.unpack_from("<i", data, at + HEADER.size)[0]
                raise OSError(-number, "rtnetlink")
            if seq == kind:
                yield data[at + HEADER.size : at + length]
            at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("<HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def number(value: bytes, default: int = 0) -> int:
    return int.from_bytes(value, "little") if value else default


def name(value: bytes) -> str:
    return value.rstrip(b"\0").hex()


def links(line: socket.socket) -> Iterator[dict[str, Any]]:
    for body in dump(line, RTM_GETLINK, IFINFO.size):
        _, kind, index, flags, _ = IFINFO.unpack_from(body)
        a = attributes(body[IFINFO.size :])
        stats = a.get(IFLA_STATS64, b"")[:64].ljust(64, b"\0")
        rx, tx, rx_bytes, tx_bytes, rx_bad, tx_bad, rx_lost, tx_lost = struct.unpack("<8Q", stats)
        yield {
            "index": index, "name": name(a.get(IFLA_IFNAME, b"")), "flags": flags, "kind": kind, "mtu": number(a.get(IFLA_MTU, b"")),
            "txqlen": number(a.get(IFLA_TXQLEN, b"")), "hwaddr": a.get(IFLA_ADDRESS, b"").hex(),
            "broadcast": a.get(IFLA_BROADCAST, b"").hex(), "operstate": number(a.get(IFLA_OPERSTATE, b"")),
            "qdisc": name(a.get(IFLA_QDISC, b"")), "counters": [rx, rx_bytes, rx_bad, rx_lost, tx, tx_bytes, tx_bad, tx_lost],
        }  # fmt: skip


def addresses(line: socket.socket) -> Iterator[dict[str, Any]]:
    for body in dump(line, RTM_GETADDR, IFADDR.size):
        family, prefix, flags, scope, index = IFADDR.unpack_from(body)
        a = attributes(body[IFADDR.size :])
        far = a.get(IFA_ADDRESS, b"")
        own = a.get(IFA_LOCAL, far)
        yield {
            "family": family, "ip": own.hex(), "prefix": prefix, "index": index, "scope": scope,
            "flags": number(a.get(IFA_FLAGS, b""), flags), "label": name(a.get(IFA_LABEL, b"")),
            "broadcast": a.get(IFA_BROADCAST, b"").hex(), "peer": far.hex() if far != own else "",
        }  # fmt: skip


def routes(line: socket.socket) -> Iterator[dict[str, Any]]:
    for body in dump(line, RTM_GETROUTE, RTMSG.size):
        family, prefix, _, _, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
        if family not in (socket.AF_INET, socket.AF_INET6) or flags & RTM_F_CLONED:
            continue
        a = attributes(body[RTMSG.size :])
        yield {
            "family": family, "dst": a.get(RTA_DST, b"").hex(), "prefix": prefix, "index": number(a.get(RTA_OIF, b"")),
            "gateway": a.get(RTA_GATEWAY, b"").hex(), "source": a.get(RTA_PREFSRC, b"").hex(),
            "table": number(a.get(RTA_TABLE, b""), table), "protocol": protocol, "scope": scope, "kind": kind,
            "priority": number(a.get(RTA_PRIORITY, b"")),
        }  # fmt: skip


def neighbours(line: socket.socket) -> Iterator[dict[str, Any]]:
    for body in dump(line, RTM_GETNEIGH, NDMSG.size):
        family, _, index, state, flags, _ = NDMSG.unpack_from(body)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        a = attributes(body[NDMSG.size :])
        yield {
            "family": family, "ip": a.get(NDA_DST, b"").hex(), "index": index, "state": state,
            "hwaddr": a.get(NDA_LLADDR, b"").hex(), "flags": flags,
        }  # fmt: skip


def tables(line: socket.socket) -> dict[str, list[dict[str, Any]]]:
    return {
        "links": list(links(line)),
        "addresses": list(addresses(line)),
        "routes": list(routes(line)),
        "neighbours": list(neighbours(line)),
    }
