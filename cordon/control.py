"""The client of a running sentry's control socket (docs/control-protocol.md). Imports little: management commands use it."""

from __future__ import annotations

import _socket
import array
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
MAX_FRAME = 4 << 20
MAX_FDS = 64
MAX_EARLY = 1000

#: Seconds that a call which the sentry answers at once may take.
PATIENCE = 60.0
#: How often, and after how many seconds, a sentry that has many waiting connections is tried again.
BUSY_TRIES = 500
BUSY_PAUSE = 0.02


class ControlError(Exception):
    """The sentry's answer is an error, or there is none. `code` is one of the protocol's, or "gone" when nobody answers."""

    def __init__(self, code: str, message: str, status: int = 125) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: Exit status for the caller: 127 and 126 for executables, else 125.
        self.status = {"not-found": 127, "not-executable": 126}.get(code, status)


class Connection:
    """One connection. Not for several threads at once. A context manager that closes it."""

    def __init__(self, sock: _socket.socket) -> None:
        """A connected socket, such as the owner's line."""
        self.sock = sock
        self.last = 0
        self.pending = b""
        #: Answers and events that came while another was awaited, by id.
        self.early: dict[int, list[dict[str, Any]]] = {}
        self.greeted = False
        self.hello = pack({"cordon": VERSION})  # goes out with the first request

    @classmethod
    def open(cls, path: str) -> Connection:
        """Connects to a sandbox's socket; ControlError "gone" when there is nobody. Paths longer than 107 bytes work, too."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(PATIENCE)
            for _ in range(BUSY_TRIES):
                try:
                    connect(sock, path)
                    break
                except BlockingIOError:  # others are waiting to be accepted
                    time.sleep(BUSY_PAUSE)
            else:
                raise TimeoutError
        except OSError as e:
            sock.close()
            raise gone(e) from None
        return cls(sock)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def fileno(self) -> int:
        return self.sock.fileno()

    # Requests

    def request(self, call: str, args: dict[str, Any], fds: Sequence[int] = ()) -> int:
        """Sends a request; its id for `answer`."""
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "call": call, "args": args}
        if len(fds) > MAX_FDS:
            raise ControlError("bad-argument", f"more than {MAX_FDS} descriptors at a time")
        if fds:
            message["fds"] = len(fds)
        frame = pack(message)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            if self.hello:
                send_all(self.sock, self.hello, [])
                self.hello = b""
            send_all(self.sock, frame, rights)
        except OSError as e:
            raise gone(e) from None
        return self.last

    def receive(self) -> dict[str, Any]:
        """The next frame, whatever it is. ControlError "gone" at the end."""
        while True:
            message = self.take()
            if message is not None:
                return message
            if not self.fill():
                raise ControlError("gone", "the sandbox has ended")

    def fill(self) -> bool:
        """Reads once; False at the end. For those who poll the connection: then `take` until it gives None."""
        try:
            data = self.sock.recv(1 << 16)
        except OSError as e:
            raise gone(e) from None
        self.pending += data
        return bool(data)

    def take(self) -> dict[str, Any] | None:
        """The next frame of those that were read, None when there is none. ControlError "garbled"."""
        if len(self.pending) < 4:
            return None
        size = int.from_bytes(self.pending[:4], "little")
        if not 0 < size <= MAX_FRAME:
            raise ControlError("garbled", "the sentry's answer is not a frame")
        if len(self.pending) < 4 + size:
            return None
        body = self.pending[4 : 4 + size]
        self.pending = self.pending[4 + size :]
        return unpack(body)

    def next_for(self, ident: int) -> dict[str, Any]:
        """The next frame that belongs to a request (or to none: its error is raised)."""
        kept = self.early.get(ident)
        if kept:
            return kept.pop(0)
        while True:
            message = self.receive()
            if "cordon" in message:
                self.greeted = True
                continue
            got = message.get("id")
            if got == ident:
                return message
            if got in (None, -1) and "error" in message:
                raise error_of(message)
            if not isinstance(got, int) or len(self.early) > MAX_EARLY:
                raise ControlError("garbled", "the sentry answers what was not asked")
            self.early.setdefault(got, []).append(message)

    def answer(self, ident: int) -> dict[str, Any]:
        """Waits for the result of a request; ControlError."""
        while True:
            message = self.next_for(ident)
            if "error" in message:
                raise error_of(message)
            if "result" in message:
                self.early.pop(ident, None)
                result: dict[str, Any] = message["result"]
                return result

    def call(self, call: str, args: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """One request and its result; ControlError."""
        return self.answer(self.request(call, args, fds))

    # The calls. Errors: ControlError with the codes in docs/control-protocol.md.

    def ready(self) -> None:
        """On the owner's line: waits until the sandbox is built and its first container created. ControlError says why it could not be."""
        self.sock.settimeout(None)
        if self.hello:
            try:
                send_all(self.sock, self.hello, [])
            except OSError as e:
                self.hello = b""
                self.receive_error(gone(e))
            self.hello = b""
        while True:
            message = self.next_for(-1)
            if "error" in message:
                raise error_of(message)
            if message.get("event", {}).get("event") == "ready":
                return

    def receive_error(self, otherwise: ControlError) -> None:
        """The sentry closed the line: what it said before, else `otherwise`."""
        message = self.next_for(-1)
        raise error_of(message) if "error" in message else otherwise

    def create(self, spec: dict[str, Any], fds: Sequence[int], tie: bool = False) -> int:
        """Makes another container in the sandbox; the pid of its init. Descriptor numbers in the spec are places in `fds`."""
        return int(self.call("create", {"spec": spec, "tie": tie}, fds)["pid"])

    def start(self, container: str) -> None:
        self.call("start", {"container": container})

    def exec(self, container: str, process: dict[str, Any], fds: Sequence[int], tie: bool = False) -> int:
        """Runs a process in a container; its pid there. Descriptor numbers in `process` are places in `fds`."""
        return int(self.call("exec", {"container": container, "process": process, "tie": tie}, fds)["pid"])

    def wait(self, container: str, pid: int = 0) -> dict[str, Any]:
        """Waits for the end of a process (0: the container's init): {"exit": n} or {"killed": signal, "core": bool}, "oom", "usage"."""
        self.sock.settimeout(None)
        return self.answer(self.request_wait(container, pid))

    def request_wait(self, container: str, pid: int = 0) -> int:
        """Sends the request of `wait` alone, for those who poll the connection."""
        return self.request("wait", target(container, pid))

    def signal(self, container: str, signal: int, pid: int = 0, mode: str = "process") -> None:
        """mode: process, foreground, group, all."""
        self.call("signal", {**target(container, pid), "signal": signal, "mode": mode})

    def ps(self, container: str) -> list[dict[str, Any]]:
        return list(self.call("ps", {"container": container})["processes"])

    def pause(self, container: str) -> None:
        self.call("pause", {"container": container})

    def resume(self, container: str) -> None:
        self.call("resume", {"container": container})

    def state(self, container: str) -> dict[str, Any]:
        return self.call("state", {"container": container})

    def containers(self) -> list[dict[str, Any]]:
        return list(self.call("containers", {})["containers"])

    def stats(self, container: str) -> dict[str, Any]:
        return self.call("stats", {"container": container})

    def events(self, container: str = "") -> Iterator[dict[str, Any]]:
        """Events as they come, until the sandbox ends."""
        self.sock.settimeout(None)
        ident = self.request("events", {"container": container} if container else {})
        while True:
            try:
                message = self.next_for(ident)
            except ControlError as e:
                if e.code == "gone":
                    return
                raise
            if "error" in message:
                raise error_of(message)
            if "event" not in message:
                return
            yield message["event"]

    def update(self, container: str, memory: int = -1, pids: int = -1) -> None:
        """New limits; 0: none, -1: as it is."""
        self.call("update", {"container": container, "memory": memory, "pids": pids})

    def resize(self, container: str, rows: int = 0, columns: int = 0, pid: int = 0) -> None:
        """The size of a process's terminal; 0, 0: what the host's terminal has."""
        self.call("resize", {**target(container, pid), "rows": rows, "columns": columns})

    def destroy(self, container: str) -> None:
        self.call("destroy", {"container": container})

    def kill(self) -> None:
        """Ends the sandbox."""
        self.call("kill", {})


def target(container: str, pid: int) -> dict[str, Any]:
    """The arguments that name a process; 0: the container's init."""
    return {"container": container, "pid": pid} if pid else {"container": container}


def pack(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME:
        raise ControlError("bad-argument", f"a request of {len(body)} bytes is too large")
    return struct.pack("<I", len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ControlError("garbled", "the sentry's answer is not a JSON object")
    return message


def error_of(message: dict[str, Any]) -> ControlError:
    e = message["error"]
    if not isinstance(e, dict):
        return ControlError("garbled", "the sentry's answer is not an error of the protocol")
    return ControlError(str(e.get("code", "failed")), str(e.get("message", "")), int(e.get("status", 125)))


def gone(e: OSError) -> ControlError:
    why = os.strerror(e.errno).lower() if e.errno else "it does not answer"
    return ControlError("gone", f"cannot talk to the sandbox: {why}")


def send_all(sock: _socket.socket, data: bytes, rights: list[Any]) -> None:
    """Sends everything; the descriptors go with the first byte."""
    sent = sock.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
    while sent < len(data):
        sent += sock.send(data[sent:], _socket.MSG_NOSIGNAL)


def connect(sock: _socket.socket, path: str) -> None:
    """connect(2), by a directory descriptor where the path is too long for a socket address."""
    if len(os.fsencode(path)) < 108:
        sock.connect(path)
        return
    where = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{where}/{os.path.basename(path)}")
    finally:
        os.close(where)


def own(fd: int) -> int:
    """A descriptor for what `fd` is, best for the sentry: a pipe or device opened anew without blocking, else a duplicate."""
    import stat

    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind in (stat.S_IFIFO, stat.S_IFCHR):
        import fcntl

        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        try:
            return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass
    return os.dup(fd)
