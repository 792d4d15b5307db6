"""The sentry's end of the line to the broker."""

from __future__ import annotations

import array  # socket.recv_fds imports it, too late for a process without a root
import errno
import json
import os
import socket
import struct
from typing import Any

from broker import wire

_ = array.array
#: Seconds after which a broker that does not answer counts as gone.
TIMEOUT = 20


class Broker:
    """Calls are answered at once: nothing here waits for a network. OSError says what failed; ENETDOWN: the broker is gone."""

    def __init__(self, fd: int) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)
        patience = struct.pack("ll", TIMEOUT, 0)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    def ask(self, request: bytes, fd: int) -> tuple[bytes, int]:
        """Sends a request, with a descriptor if >= 0; the answer's data and descriptor (-1: none)."""
        try:
            if fd >= 0:
                socket.send_fds(self.line, [request], [fd])
            else:
                self.line.send(request)
            number, data, got = self.answer()
        except OSError:
            number, data, got = errno.ENETDOWN, b"", -1
        if number:
            raise OSError(number, os.strerror(number))
        return data, got

    def answer(self) -> tuple[int, bytes, int]:
        """errno, data, descriptor."""
        data = bytearray()
        got = -1
        while True:
            packet, fds, _, _ = socket.recv_fds(self.line, wire.ANSWER.size + wire.PIECE, 1)
            if fds:
                got = fds[0]
            if len(packet) < wire.ANSWER.size or len(data) > wire.MAX_TABLES:
                return errno.ENETDOWN, b"", -1
            number, more = wire.ANSWER.unpack_from(packet)
            data += packet[wire.ANSWER.size :]
            if number or not more:
                return number, bytes(data), got

    def socket(self, domain: int, kind: int, protocol: int) -> int:
        """A new socket, non-blocking."""
        _, fd = self.ask(wire.REQUEST.pack(wire.SOCKET, domain, kind, protocol), -1)
        if fd < 0:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        return fd

    def bind(self, fd: int, addr: bytes) -> None:
        self.ask(wire.REQUEST.pack(wire.BIND, 0, 0, 0) + addr, fd)

    def connect(self, fd: int, addr: bytes) -> bool:
        """False when the connection is under way."""
        try:
            self.ask(wire.REQUEST.pack(wire.CONNECT, 0, 0, 0) + addr, fd)
        except OSError as e:
            if e.errno != errno.EINPROGRESS:
                raise
            return False
        return True

    def tables(self) -> dict[str, Any]:
        """Interfaces, addresses, routes and neighbours as broker/routes.py says."""
        value = json.loads(self.ask(wire.REQUEST.pack(wire.TABLES, 0, 0, 0), -1)[0])
        if not isinstance(value, dict):
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        return value
