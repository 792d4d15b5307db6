"""Gives a sandbox its network: the stack that the spec asks for, and the families on it. Before the sentry is sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi import socket as SO
from sentry.net.inet.loopback import Loopback
from sentry.net.inet.sockets import InetFamily
from sentry.net.netlink.socket import NetlinkFamily
from sentry.net.socket import FAMILIES

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.net.stack import Stack


def start(kernel: Kernel, network: str, broker: int) -> None:
    """network: "none" or "host"; broker: for "host" the descriptor of the line to the broker."""
    stack: Stack = host_stack(kernel, broker) if network == "host" else Loopback(kernel)
    kernel.stack = stack
    for domain in (SO.AF_INET, SO.AF_INET6):
        FAMILIES[domain] = InetFamily(stack, domain)
    FAMILIES[SO.AF_NETLINK] = NetlinkFamily(stack)


def host_stack(kernel: Kernel, broker: int) -> Stack:
    from broker.client import Broker
    from sentry.net.inet.host import HostStack

    return HostStack(kernel, Broker(broker))
