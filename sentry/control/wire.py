"""Frames of the control protocol (docs/control-protocol.md): a length, a JSON object, descriptors beside it."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any, Final

from sentry.errors import SandboxError

VERSION: Final = 1
HEADER: Final = 4
MAX_FRAME: Final = 4 << 20
MAX_FDS: Final = 64
MAX_OUTPUT: Final = 16 << 20  # bytes that a peer may leave unread
READ: Final = 1 << 16
NOBODY: Final = -1  # id of a message that answers no request


class Garbled(Exception):
    """The peer does not speak the protocol; the text says how. It gets this one error and is hung up on."""


class CallError(Exception):
    """A request fails: a code of the protocol and a sentence. status: exit status for the caller."""

    def __init__(self, code: str, message: str, status: int = 125) -> None:
        super().__init__(message)
        self.code: str = code
        self.message: str = message
        self.status: int = status


def from_sandbox(e: SandboxError) -> CallError:
    """The error of a request that the sandbox could not carry out."""
    code = "not-found" if e.status == 127 else "not-executable" if e.status == 126 else "failed"
    return CallError(code, str(e), e.status)


def error(code: str, message: str, status: int) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


def pack(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(HEADER, "little") + body


def unpack(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise Garbled("the frame is not JSON") from None
    if not isinstance(message, dict):
        raise Garbled("the frame is not a JSON object")
    return message


class Line:
    """One connection's bytes: frames in, frames out, descriptors that came. Nothing blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock: socket.socket = sock
        self.fd: int = sock.fileno()
        self.incoming: bytes = b""
        self.outgoing: bytes = b""
        self.fds: list[int] = []
        self.open: bool = True

    def receive(self) -> bool:
        """Takes what there is; False at the end. Garbled: too many descriptors."""
        try:
            data, control, flags, _ = self.sock.recvmsg(
                READ, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        for level, kind, body in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                came = array.array("i")
                came.frombytes(body[: len(body) // 4 * 4])
                self.fds.extend(came.tolist())
        if len(self.fds) > MAX_FDS or flags & socket.MSG_CTRUNC:
            raise Garbled(f"more than {MAX_FDS} descriptors at a time")
        self.incoming += data
        return len(data) > 0

    def frame(self) -> dict[str, Any] | None:
        """The next whole frame; None when there is none yet. Garbled."""
        if len(self.incoming) < HEADER:
            return None
        size = int.from_bytes(self.incoming[:HEADER], "little")
        if not 0 < size <= MAX_FRAME:
            raise Garbled(f"a frame of {size} bytes; 1 to {MAX_FRAME} are possible")
        if len(self.incoming) < HEADER + size:
            return None
        body = self.incoming[HEADER : HEADER + size]
        self.incoming = self.incoming[HEADER + size :]
        return unpack(body)

    def take_fds(self, count: int) -> list[int]:
        """The first descriptors that came."""
        taken = self.fds[:count]
        self.fds = self.fds[count:]
        return taken

    def post(self, message: dict[str, Any]) -> None:
        """Puts a frame into the queue for the peer. One that never reads is hung up on."""
        if self.open:
            self.outgoing += pack(message)
            if len(self.outgoing) > MAX_OUTPUT:
                self.outgoing = b""
                self.open = False

    def flush(self) -> None:
        """Sends as much as the peer takes."""
        while self.outgoing and self.open:
            try:
                sent = self.sock.send(self.outgoing, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.open = False
                return
            self.outgoing = self.outgoing[sent:]

    def close(self) -> None:
        self.open = False
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self.sock.close()
