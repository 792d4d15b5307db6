"""/proc/sys/net: settings of the network stack; those that can be changed take effect (ip(7), tcp(7), socket(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.net.stack import Settings, Stack

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAX_PORT: Final = 65535
MAX_GID: Final = 0xFFFFFFFE
FIXED: Final[dict[bytes, bytes]] = {
    b"unix/max_dgram_qlen": b"512",
    b"core/rmem_default": b"212992",
    b"core/rmem_max": b"212992",
    b"core/wmem_default": b"212992",
    b"core/wmem_max": b"212992",
    b"core/netdev_max_backlog": b"1000",
    b"ipv4/ip_local_reserved_ports": b"",
    b"ipv4/ip_default_ttl": b"64",
    b"ipv4/ip_forward": b"0",
    b"ipv4/ip_nonlocal_bind": b"0",
    b"ipv4/tcp_rmem": b"4096\t131072\t6291456",
    b"ipv4/tcp_wmem": b"4096\t16384\t4194304",
    b"ipv4/tcp_fin_timeout": b"60",
    b"ipv4/tcp_keepalive_time": b"7200",
    b"ipv4/tcp_keepalive_intvl": b"75",
    b"ipv4/tcp_keepalive_probes": b"9",
    b"ipv4/tcp_syn_retries": b"6",
    b"ipv4/tcp_max_syn_backlog": b"4096",
    b"ipv4/tcp_fastopen": b"0",
    b"ipv4/tcp_congestion_control": b"cubic",
    b"ipv4/tcp_available_congestion_control": b"reno cubic",
    b"ipv6/bindv6only": b"0",
    b"ipv6/conf/all/disable_ipv6": b"0",
    b"ipv6/conf/default/disable_ipv6": b"0",
    b"ipv6/conf/lo/disable_ipv6": b"0",
}


def stack_of(t: Task) -> Stack:
    stack = t.kernel.stack
    if stack is None:
        raise Errno(E.ENOENT)
    return stack


def changed(t: Task, own: bool) -> Settings:
    """The settings, to be changed; own: only where the stack is the sandbox's own. EPERM."""
    stack = stack_of(t)
    if not t.creds.has(C.CAP_NET_ADMIN) or (own and not stack.own):
        raise Errno(E.EPERM)
    return stack.settings


def numbers(data: bytes, count: int, most: int) -> list[int]:
    """EINVAL unless the text is so many numbers from 0 to `most`."""
    words = data.split()
    if len(words) != count or not all(w.isdigit() and len(w) < 11 and int(w) <= most for w in words):
        raise Errno(E.EINVAL)
    return [int(w) for w in words]


def low_port(t: Task) -> bytes:
    return b"%d\n" % stack_of(t).settings.low_port


def set_low_port(t: Task, data: bytes) -> None:
    (value,) = numbers(data, 1, MAX_PORT)
    changed(t, False).low_port = value


def port_range(t: Task) -> bytes:
    s = stack_of(t).settings
    return b"%d\t%d\n" % (s.first_port, s.last_port)


def set_port_range(t: Task, data: bytes) -> None:
    first, last = numbers(data, 2, MAX_PORT)
    if not 1 <= first <= last:
        raise Errno(E.EINVAL)
    s = changed(t, True)
    s.first_port, s.last_port = first, last


def somaxconn(t: Task) -> bytes:
    return b"%d\n" % stack_of(t).settings.somaxconn


def set_somaxconn(t: Task, data: bytes) -> None:
    (value,) = numbers(data, 1, 0x7FFFFFFF)
    changed(t, False).somaxconn = value


def ping_range(t: Task) -> bytes:
    s = stack_of(t).settings
    return b"%d\t%d\n" % (s.first_ping_gid, s.last_ping_gid)


def set_ping_range(t: Task, data: bytes) -> None:
    first, last = numbers(data, 2, MAX_GID)
    s = changed(t, False)
    s.first_ping_gid, s.last_ping_gid = (first, last) if first <= last else (1, 0)


SETTINGS: Final = (
    (b"ipv4/ip_unprivileged_port_start", low_port, set_low_port),
    (b"ipv4/ip_local_port_range", port_range, set_port_range),
    (b"core/somaxconn", somaxconn, set_somaxconn),
    (b"ipv4/ping_group_range", ping_range, set_ping_range),
)
