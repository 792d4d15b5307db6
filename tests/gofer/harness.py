"""Starts real gofers (confined processes) and gives clients to them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from gofer.client import Client
from gofer.spec import Export, GoferSpec, to_json

ROOT = Path(__file__).resolve().parents[2]
START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from gofer.main import main; sys.exit(main(sys.argv))"
)


class Gofer:
    """A running gofer; `sockets` are the sentry's ends. Use as a context manager."""

    def __init__(
        self,
        *exports: tuple[bytes, bool],
        cwd: bytes = b"",
        pair: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        """`pair`: our and its end of the (only) export's connection, if it is not to be a new socketpair."""
        spec = GoferSpec()
        theirs: list[socket.socket] = []
        self.sockets: list[socket.socket] = []
        for source, readonly in exports:
            ours, other = pair or socket.socketpair()
            self.sockets.append(ours)
            theirs.append(other)
            spec.exports.append(
                Export(source, other.fileno(), readonly, cwd if source == b"view:default" else b"")
            )
        ready, spec.ready = os.pipe()
        document, out = os.pipe()
        os.write(out, to_json(spec))
        os.close(out)
        pass_fds = [document, spec.ready, *(s.fileno() for s in theirs)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(document)],
            pass_fds=pass_fds,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(document)
        os.close(spec.ready)
        for s in theirs:
            s.close()
        with os.fdopen(ready) as f:
            self.line = f.readline().strip()

    def client(self, i: int = 0, extended: bool = True) -> Client:
        c = Client(self.sockets[i].detach())
        c.start(extended)
        return c

    def children(self) -> list[int]:
        """The serving process (init of the gofer's pid namespace)."""
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def status(self, timeout: float = 10) -> int:
        """Closes the sentry's ends and waits for the end."""
        for s in self.sockets:
            s.close()
        return self.process.wait(timeout)

    def __enter__(self) -> Gofer:
        assert self.line == "ok", self.line
        return self

    def __exit__(self, *what: object) -> None:
        for s in self.sockets:
            s.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])
