"""/proc/net: sockets, interfaces and routes of the sandbox's network stack (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import netlink as NL
from sentry.abi import socket as SO
from sentry.fs.generated import GenDir, GenFile, GenSuper
from sentry.net.ifioctl import netmask
from sentry.net.stack import NOWHERE4, NOWHERE6, Endpoint, Name, Tables
from sentry.net.unix import listing

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

UNIX_HEAD: Final = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
DEV_HEAD: Final = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
)
TCP_HEAD: Final = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode".ljust(149) + b"\n"
)
UDP_HEAD: Final = (
    b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops".ljust(
        127
    )
    + b"\n"
)
SIX_HEAD: Final = (
    b"  sl  local_address                         remote_address                        "
    b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
)
ROUTE_HEAD: Final = b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".ljust(127) + b"\n"
ARP_HEAD: Final = b"IP address       HW type     Flags       HW address            Mask     Device\n"
NETLINK_HEAD: Final = b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
RTF_UP: Final = 1
RTF_GATEWAY: Final = 2
RTF_HOST: Final = 4
RTF_LOCAL: Final = 0x80000000
ATF_COM: Final = 2  # complete
ATF_PERM: Final = 4
#: Scopes of if_inet6, by those of rtnetlink.
SCOPES: Final = {NL.RT_SCOPE_HOST: 0x10, NL.RT_SCOPE_LINK: 0x20, 200: 0x40}


def unix(t: Task) -> bytes:
    """The AF_UNIX sockets of the sandbox."""
    return UNIX_HEAD + b"".join(listing.lines(t.kernel))


def world_of(t: Task) -> Tables:
    stack = t.kernel.stack
    return stack.tables() if stack is not None else Tables()


def endpoints_of(t: Task, family: int, kind: int) -> list[Endpoint]:
    stack = t.kernel.stack
    return [e for e in stack.endpoints() if e.family == family and e.kind == kind] if stack is not None else []


# Sockets


def show_name(name: Name, family: int) -> bytes:
    """Words of an address in the machine's order, as the kernel prints them."""
    ip = name.ip[12:] if family == SO.AF_INET else name.ip
    words = b"".join(b"%08X" % int.from_bytes(ip[i : i + 4], "little") for i in range(0, len(ip), 4))
    return words + b":%04X" % name.port


def line(slot: int, e: Endpoint, tail: bytes) -> bytes:
    """A line of tcp, tcp6, udp or udp6."""
    nowhere = NOWHERE4 if e.family == SO.AF_INET else NOWHERE6
    state = e.state()
    waits = 0 if state == SO.TCP_LISTEN else e.unread()
    return b"%4d: %s %s %02X %08X:%08X 00:00000000 00000000 %5d        0 %d 1 %016x%s" % (
        slot,
        show_name(e.local(), e.family),
        show_name(e.remote() or nowhere, e.family),
        state,
        0 if state == SO.TCP_LISTEN else e.unsent(),
        waits,
        e.uid,
        e.ino,
        0,
        tail,
    )


def streams(t: Task, family: int) -> bytes:
    out: list[bytes] = []
    for e in endpoints_of(t, family, SO.SOCK_STREAM):
        if e.state() != SO.TCP_CLOSE:
            text = line(len(out), e, b" 20 0 0 10 -1" if e.state() != SO.TCP_LISTEN else b" 100 0 0 10 0")
            out.append(text.ljust(149) + b"\n" if family == SO.AF_INET else text + b"\n")
    return b"".join(out)


def datagrams(t: Task, family: int) -> bytes:
    out: list[bytes] = []
    for e in endpoints_of(t, family, SO.SOCK_DGRAM):
        if e.local().port:
            text = b" " + line(len(out), e, b" 0")
            out.append(text.ljust(127) + b"\n" if family == SO.AF_INET else text[1:] + b"\n")
    return b"".join(out)


def tcp(t: Task) -> bytes:
    return TCP_HEAD + streams(t, SO.AF_INET)


def tcp6(t: Task) -> bytes:
    return SIX_HEAD + b"\n" + streams(t, SO.AF_INET6)


def udp(t: Task) -> bytes:
    return UDP_HEAD + datagrams(t, SO.AF_INET)


def udp6(t: Task) -> bytes:
    return SIX_HEAD + b" ref pointer drops\n" + datagrams(t, SO.AF_INET6)


def no_sockets(t: Task) -> bytes:
    """raw: there are no raw sockets."""
    return UDP_HEAD


def no_sockets6(t: Task) -> bytes:
    return SIX_HEAD + b" ref pointer drops\n"


def netlink(t: Task) -> bytes:
    from sentry.net.netlink.socket import PORTS

    lines = [
        b"%016x %-3d %-10d %08x %-8d %-8d %-5d %-8d %-8d %-8d\n" % (0, 0, port, s.groups, 0, 0, 0, max(s.refs + s.numbers(), 1), 0, s.ino)
        for port, s in sorted(PORTS.users.items())
    ]
    return NETLINK_HEAD + b"".join(lines)


def sockstat(t: Task) -> bytes:
    stream = endpoints_of(t, SO.AF_INET, SO.SOCK_STREAM)
    inuse = sum(1 for e in stream if e.state() != SO.TCP_CLOSE)
    other = len(endpoints_of(t, SO.AF_INET6, SO.SOCK_STREAM))
    udps = len([e for e in endpoints_of(t, SO.AF_INET, SO.SOCK_DGRAM) if e.local().port])
    stack = t.kernel.stack
    used = len(listing.lines(t.kernel)) + (len(stack.endpoints()) if stack is not None else 0)
    return (
        b"sockets: used %d\nTCP: inuse %d orphan 0 tw 0 alloc %d mem 0\nUDP: inuse %d mem 0\n"
        b"UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n" % (used, inuse, len(stream) + other, udps)
    )


def sockstat6(t: Task) -> bytes:
    inuse = sum(1 for e in endpoints_of(t, SO.AF_INET6, SO.SOCK_STREAM) if e.state() != SO.TCP_CLOSE)
    udps = len([e for e in endpoints_of(t, SO.AF_INET6, SO.SOCK_DGRAM) if e.local().port])
    return b"TCP6: inuse %d\nUDP6: inuse %d\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n" % (inuse, udps)


# Interfaces and routes


def dev(t: Task) -> bytes:
    out = [DEV_HEAD]
    for i in world_of(t).interfaces:
        rx, rx_bytes, rx_bad, rx_lost, tx, tx_bytes, tx_bad, tx_lost = i.counters
        out.append(
            b"%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n"
            % (i.name, rx_bytes, rx, rx_bad, rx_lost, 0, 0, 0, 0, tx_bytes, tx, tx_bad, tx_lost, 0, 0, 0, 0)
        )
    return b"".join(out)


def name_of(world: Tables, index: int) -> bytes:
    i = world.by_index(index)
    return i.name if i is not None else b"*"


def route(t: Task) -> bytes:
    world = world_of(t)
    out = [ROUTE_HEAD]
    for r in world.routes:
        if r.family != SO.AF_INET or r.table != NL.RT_TABLE_MAIN or r.kind != NL.RTN_UNICAST:
            continue
        flags = RTF_UP | (RTF_GATEWAY if r.gateway else 0) | (RTF_HOST if r.prefix == 32 else 0)
        text = b"%s\t%08X\t%08X\t%04X\t0\t0\t%d\t%08X\t0\t0\t0" % (
            name_of(world, r.index),
            int.from_bytes(r.dst, "little"),
            int.from_bytes(r.gateway, "little"),
            flags,
            r.priority,
            int.from_bytes(netmask(r.prefix), "little"),
        )
        out.append(text.ljust(127) + b"\n")
    return b"".join(out)


def ipv6_route(t: Task) -> bytes:
    world = world_of(t)
    zero = b"0" * 32
    out: list[bytes] = []
    for r in world.routes:
        if r.family != SO.AF_INET6:
            continue
        flags = RTF_UP | (RTF_GATEWAY if r.gateway else 0)
        if r.table == NL.RT_TABLE_LOCAL:
            flags |= RTF_LOCAL
        out.append(
            b"%s %02x %s 00 %s %08x 00000001 00000000 %08x %8s\n"
            % (
                r.dst.hex().encode() or zero,
                r.prefix,
                zero,
                r.gateway.hex().encode() or zero,
                r.priority,
                flags,
                name_of(world, r.index),
            )
        )
    return b"".join(out)


def if_inet6(t: Task) -> bytes:
    world = world_of(t)
    return b"".join(
        b"%s %02x %02x %02x %02x %8s\n"
        % (a.ip.hex().encode(), a.index, a.prefix, SCOPES.get(a.scope, 0), a.flags & 0xFF, name_of(world, a.index))
        for a in world.addresses
        if a.family == SO.AF_INET6
    )


def arp(t: Task) -> bytes:
    world = world_of(t)
    out = [ARP_HEAD]
    for n in world.neighbours:
        if n.family == SO.AF_INET and not n.state & NL.NUD_NOARP:
            flags = (ATF_COM if n.hwaddr else 0) | (ATF_PERM if n.state & NL.NUD_PERMANENT else 0)
            hardware = ":".join(f"{b:02x}" for b in n.hwaddr or bytes(6)).encode()
            ip = ".".join(str(b) for b in n.ip).encode()
            out.append(b"%-16s 0x%-10x0x%-10x%-17s     %-8s %s\n" % (ip, 1, flags, hardware, b"*", name_of(world, n.index)))
    return b"".join(out)


FILES: Final = {
    b"arp": arp,
    b"dev": dev,
    b"if_inet6": if_inet6,
    b"ipv6_route": ipv6_route,
    b"netlink": netlink,
    b"raw": no_sockets,
    b"raw6": no_sockets6,
    b"route": route,
    b"sockstat": sockstat,
    b"sockstat6": sockstat6,
    b"tcp": tcp,
    b"tcp6": tcp6,
    b"udp": udp,
    b"udp6": udp6,
    b"udplite": no_sockets,
    b"udplite6": no_sockets6,
    b"unix": unix,
}


def directory(sb: GenSuper, kernel: Kernel, ino: int) -> GenDir:
    d = GenDir(sb, 0o555, ino)
    for name, text in FILES.items():
        d.add(name, GenFile(sb, 0o444, text))
    return d
