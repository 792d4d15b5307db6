"""Datagrams that are sent in pieces: MSG_MORE and UDP_CORK (udp(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.errors import Errno
from sentry.vfs.file import WOULD_BLOCK

if TYPE_CHECKING:
    from sentry.net.stack import Endpoint, Name, SendInfo

MAX: Final = 65507  # bytes of a datagram


class Cork:
    """What was sent of a datagram that is not whole yet. Its destination is that of the first piece."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint: Endpoint = endpoint
        self.option: bool = False  # UDP_CORK
        self.held: bool = False
        self.data: bytes = b""
        self.name: Name | None = None
        self.info: SendInfo | None = None

    def send(self, data: bytes, name: Name | None, info: SendInfo | None, more: bool) -> int:
        """Takes a piece; with the last one the datagram goes out."""
        more = more or self.option
        if not self.held:
            if not more:
                return self.endpoint.send(data, name, info)
            if name is None and self.endpoint.remote() is None:
                raise Errno(E.EDESTADDRREQ)
            self.held = True
            self.data = b""
            self.name = name
            self.info = info
        whole = self.data + data
        if len(whole) > MAX:
            self.held = False
            raise Errno(E.EMSGSIZE)
        if more:
            self.data = whole
        elif self.endpoint.send(whole, self.name, self.info) == WOULD_BLOCK:
            return WOULD_BLOCK
        else:
            self.held = False
        return len(data)

    def set_option(self, on: bool) -> None:
        self.option = on
        if not on and self.held:
            self.held = False
            self.endpoint.send(self.data, self.name, self.info)
