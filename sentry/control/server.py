"""The control server: one host thread that talks to all peers. Requests are carried out with K held (sentry/control/calls.py)."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from native._core import lib
from sentry import threads
from sentry.control import calls
from sentry.control.wire import NOBODY, VERSION, CallError, Garbled, Line, error, from_sandbox
from sentry.errors import SandboxError, trace
from sentry.fs.tty import bridge
from sentry.spec import Reader, SpecError

if TYPE_CHECKING:
    from sentry.kernel.container import Container, Record
    from sentry.kernel.kernel import Kernel

LISTEN_FD: Final = 250  # the filter allows accept4(2) on this one alone
MAX_PEERS: Final = 64
MAX_ASKED: Final = 1000  # requests of a peer without an answer
UCRED: Final = struct.Struct("iII")
LAST_LOOK: Final = 1  # ms without a request after which there is none any more
FINISH_PERIOD: Final = 0.00025  # seconds between looks whether all is said
LAST_WORDS: Final = 2.0  # seconds that peers get to read their last answers
ID_MAX: Final = 1 << 53


class Peer:
    """A connection and what was asked on it."""

    def __init__(self, server: Server, line: Line, owner: bool) -> None:
        self.server: Server = server
        self.line: Line = line
        self.owner: bool = owner  # the owner's line: its end is the sandbox's
        self.greeted: bool = False
        self.asked: set[int] = set()  # ids of requests without an answer
        self.events: dict[int, str | None] = {}  # id of the request -> container, None for all
        self.tied: list[Record] = []  # what ends with the connection

    # Called with K held.

    def say(self, message: dict[str, Any]) -> None:
        self.line.post(message)
        self.server.wake()

    def answer(self, ident: int, result: dict[str, Any]) -> None:
        self.asked.discard(ident)
        self.say({"id": ident, "result": result})

    def refuse(self, ident: int, e: CallError) -> None:
        self.asked.discard(ident)
        self.say({"id": ident, "error": error(e.code, e.message, e.status)})


class Server:
    """Methods are called with K held, but for `main`."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel: Kernel = kernel
        self.name: str = name
        self.peers: dict[int, Peer] = {}  # by descriptor
        self.listener: socket.socket | None = None
        self.owner: Peer | None = None
        self.poll: select.poll = select.poll()
        self.wakeup: int = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.uid: int = os.getuid()
        self.gofers: dict[int, Container] = {}  # the sockets that are watched
        self.ending: bool = False  # the sandbox has ended: what was asked before is still answered
        self.quiet: bool = False  # nothing is left to be read or written
        kernel.listener = self.happened

    def listen(self, fd: int) -> None:
        """Takes an inherited listening socket, before the sentry is sealed."""
        if fd != LISTEN_FD:
            try:
                os.fstat(LISTEN_FD)
            except OSError:
                os.dup2(fd, LISTEN_FD, inheritable=False)
                os.close(fd)
            else:
                raise SandboxError(f"descriptor {LISTEN_FD} must be free for the control socket")
        self.listener = socket.socket(fileno=LISTEN_FD)
        self.listener.setblocking(False)
        self.poll.register(LISTEN_FD, select.POLLIN)

    def add_owner(self, fd: int) -> None:
        """Takes the owner's line."""
        self.owner = self.add(socket.socket(fileno=fd), True)

    def add(self, sock: socket.socket, owner: bool) -> Peer:
        peer = Peer(self, Line(sock), owner)
        self.peers[peer.line.fd] = peer
        self.poll.register(peer.line.fd, select.POLLIN)
        return peer

    def watch_gofer(self, fd: int, container: Container) -> None:
        """The end of this socket is the end of the container."""
        self.gofers[fd] = container
        self.poll.register(fd, 0)

    def forget_gofer(self, fd: int) -> None:
        if self.gofers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def start(self) -> None:
        """From here on requests are heard."""
        self.poll.register(self.wakeup, select.POLLIN)
        threads.start(self.main, "control server")

    def wake(self) -> None:
        os.eventfd_write(self.wakeup, 1)

    def publish(self, container: Container, event: dict[str, Any]) -> None:
        """An event for those who asked for the container's."""
        for peer in self.peers.values():
            for ident, wanted in peer.events.items():
                if wanted is None or wanted == container.ident:
                    peer.say({"id": ident, "event": event})

    def happened(self, container: Container, what: str, pid: int, status: int) -> None:
        """The kernel's news, for those who asked for events."""
        if self.kernel.failure:  # what happens now means nothing
            return
        self.publish(container, calls.event(container, what, pid, status))
        if what == "exit" and container is self.kernel.first and self.owner is not None:
            end = {**calls.event(container, what, pid, status), **calls.used(container.record)}
            self.owner.say({"id": NOBODY, "event": end})

    # The thread

    def main(self) -> None:
        lib.cn_thread_unpin()
        try:
            while True:
                ready = self.poll.poll(LAST_LOOK if self.ending else None)
                self.quiet = self.ending and not ready
                self.turn(ready)
        except BaseException as e:
            lib.cn_klock()
            self.kernel.fail(f"internal error in the sentry: control server: {type(e).__name__}: {e}")
            lib.cn_kunlock()
            raise

    def turn(self, ready: list[tuple[int, int]]) -> None:
        """Everything that is there to be read and written now."""
        for fd, events in ready:
            if fd == self.wakeup:
                os.eventfd_read(fd)
            elif fd == LISTEN_FD:
                self.accept()
            elif fd in self.gofers:
                self.gofer_ended(fd)
            else:
                peer = self.peers.get(fd)
                if peer is not None and events & ~select.POLLOUT:
                    self.hear(peer)
        lib.cn_klock()
        try:
            for peer in list(self.peers.values()):
                self.settle(peer)
        finally:
            lib.cn_kunlock()

    def settle(self, peer: Peer) -> None:
        """Sends what waits; K held."""
        line = peer.line
        line.flush()
        if not line.open:
            self.drop(peer)
        else:
            self.poll.modify(line.fd, select.POLLIN | (select.POLLOUT if line.outgoing else 0))

    def drop(self, peer: Peer) -> None:
        """The connection has ended; K held."""
        line = peer.line
        if self.peers.pop(line.fd, None) is None:
            return
        self.poll.unregister(line.fd)
        line.close()
        for record in peer.tied:
            calls.end_record(record)
        if peer.owner:
            self.kernel.kill_all()

    def accept(self) -> None:
        listener = self.listener
        assert listener is not None
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        lib.cn_klock()
        try:
            peer = self.add(sock, False)
            _, uid, _ = UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
            if uid != self.uid:
                self.hang_up(peer, CallError("denied", "the sandbox belongs to another user"))
            elif len(self.peers) > MAX_PEERS:
                self.hang_up(peer, CallError("no-room", f"the sandbox has {MAX_PEERS} connections already"))
        finally:
            lib.cn_kunlock()

    def hang_up(self, peer: Peer, e: CallError) -> None:
        """One last error; K held."""
        peer.line.post({"id": NOBODY, "error": error(e.code, e.message, e.status)})
        peer.line.flush()
        self.drop(peer)

    def hear(self, peer: Peer) -> None:
        """Takes what a peer says. Frames are read without K, carried out with it."""
        try:
            more = peer.line.receive()
            while True:
                frame = peer.line.frame()
                if frame is None:
                    break
                lib.cn_klock()
                try:
                    self.take(peer, frame)
                finally:
                    lib.cn_kunlock()
            if more:
                return
        except Garbled as e:
            lib.cn_klock()
            try:
                self.hang_up(peer, CallError("garbled", str(e)))
            finally:
                lib.cn_kunlock()
            return
        lib.cn_klock()
        try:
            peer.line.flush()
            self.drop(peer)
        finally:
            lib.cn_kunlock()

    def take(self, peer: Peer, frame: dict[str, Any]) -> None:
        """One frame of a peer; Garbled when it is none of the protocol."""
        if not peer.greeted:
            version = frame.get("cordon")
            if version != VERSION:
                self.hang_up(
                    peer, CallError("version", f"this sandbox speaks version {VERSION} of the protocol")
                )
                return
            peer.greeted = True
            peer.say({"cordon": VERSION, "sandbox": self.name})
            return
        ident = frame.pop("id", None)
        if (
            not isinstance(ident, int)
            or isinstance(ident, bool)
            or not 0 <= ident < ID_MAX
            or ident in peer.asked
            or len(peer.asked) >= MAX_ASKED
        ):
            raise Garbled(f"a request without an id of its own, or more than {MAX_ASKED} without an answer")
        count = frame.pop("fds", 0)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(peer.line.fds):
            raise Garbled("a request with fewer descriptors than it says")
        name = frame.pop("call", None)
        args = frame.pop("args", {})
        fds = peer.line.take_fds(count)
        peer.asked.add(ident)
        try:
            self.call(peer, ident, name, args, fds, bool(frame))
        finally:
            for fd in fds:
                os.close(fd)

    def call(self, peer: Peer, ident: int, name: Any, args: Any, fds: list[int], more: bool) -> None:
        """Carries a request out. Whatever goes wrong is the request's answer."""
        try:
            handler = calls.HANDLERS.get(name) if isinstance(name, str) else None
            if handler is None or more:
                raise CallError(
                    "unknown-call",
                    "there is no such call" if handler is None else "unknown keys in the request",
                )
            result = handler(calls.Request(self, peer, ident, fds), Reader(args, "args", fds))
            if result is not None:
                peer.answer(ident, result)
        except CallError as e:
            peer.refuse(ident, e)
        except SpecError as bad:
            peer.refuse(ident, CallError("bad-argument", str(bad)))
        except SandboxError as failed:
            peer.refuse(ident, from_sandbox(failed))
        except Exception as bug:
            report(bug, str(name))
            peer.refuse(
                ident, CallError("internal", f"internal error in the sentry: {type(bug).__name__}: {bug}", 70)
            )

    def gofer_ended(self, fd: int) -> None:
        lib.cn_klock()
        try:
            container = self.gofers.get(fd)
            self.forget_gofer(fd)
            if container is not None:
                container.gofer_gone("its connection was closed")
        finally:
            lib.cn_kunlock()

    # The end, by the main thread without K

    def finish(self) -> None:
        """Answers what was asked before, and gives the peers time to read it."""
        self.ending = True
        self.wake()
        until = time.monotonic() + LAST_WORDS
        while time.monotonic() < until:
            lib.cn_klock()
            try:
                waiting = (
                    not self.quiet
                    or bridge.waiting()
                    or any(p.line.outgoing and p.line.open for p in self.peers.values())
                )
            finally:
                lib.cn_kunlock()
            if not waiting:
                return
            time.sleep(FINISH_PERIOD)

    def failed(self, e: SandboxError) -> None:
        """The sandbox can't go on: the owner and all who wait hear why."""
        lib.cn_klock()
        try:
            for peer in self.peers.values():
                for ident in sorted(peer.asked):
                    peer.refuse(ident, CallError("failed", str(e), e.status))
            if self.owner is not None:
                self.owner.say({"id": NOBODY, "error": error("failed", str(e), e.status)})
            else:
                sys.stderr.write(f"cordon: {e}\n")
        finally:
            lib.cn_kunlock()


def report(e: Exception, name: str) -> None:
    """A bug, with its trace, on stderr."""
    sys.stderr.write(f"cordon: bug in the sentry, in control call {name}: {trace(e)}\n")
    sys.stderr.flush()
