"""The broker process: joins its network namespace, confines itself, makes sockets until the sentry has gone.

    run(BrokerSpec(fd, ...))    in a fork that has nothing else open; never returns

In order: the network namespace, namespaces of its own (a user namespace, too, without CAP_SYS_ADMIN), a child as init of the pid
namespace, an empty root, no capability but CAP_NET_BIND_SERVICE, seccomp filter. Exits 0 when the sentry has closed its end, 1 with
one sentence when it cannot start.
"""

from __future__ import annotations

import array  # socket.recv_fds imports it, too late for a process without a root
import errno
import json
import os
import socket
from typing import Final, NoReturn

from broker import routes, wire
from broker.filter import PROGRAMS
from native import confined
from native._core import ffi, lib

_ = array.array
CAP_NET_BIND_SERVICE: Final = 10  # capability.h
PROTOCOLS: Final = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class BrokerError(Exception):
    """The broker cannot start; the text is the one sentence that the caller sees."""


class BrokerSpec:
    """fd: its end of the line to the sentry (SOCK_SEQPACKET). netns: path of the network namespace to be in, "" for the process's
    own. ready: descriptor for one line, "ok" or "error: sentence", -1: none. log: descriptor for messages, -1: stderr."""

    def __init__(self, fd: int, netns: str = "", ready: int = -1, log: int = -1) -> None:
        self.fd = fd
        self.netns = netns
        self.ready = ready
        self.log = log


def need(r: int, what: str) -> int:
    if r < 0:
        raise BrokerError(f"broker: cannot {what}: {os.strerror(-r).lower()}")
    return r


def join(path: str) -> None:
    """Enters the network namespace."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise BrokerError(f"network namespace {path}: {os.strerror(e.errno or 0).lower()}") from None
    r = lib.cn_ns_join(fd, lib.CN_NS_NET)
    os.close(fd)
    if r < 0:
        raise BrokerError(f"network namespace {path}: cannot join it: {os.strerror(-r).lower()}")


def confine(spec: BrokerSpec) -> socket.socket:
    """Everything between the new namespaces and the first request; the netlink socket."""
    line = routes.open_line()
    need(lib.cn_root_empty(), "make its root empty")
    keep = 1 << CAP_NET_BIND_SERVICE
    need(lib.cn_caps_bound(keep), "drop capabilities")
    need(lib.cn_caps_keep(keep), "drop capabilities")
    need(lib.cn_set_dumpable(0), "be undumpable")
    program = PROGRAMS["broker"]
    need(lib.cn_seccomp_report(b"broker", spec.log if spec.log >= 0 else 2), "prepare its seccomp filter")
    need(lib.cn_seccomp_install(program, len(program)), "install its seccomp filter")
    return line


class Server:
    """Answers requests. What comes from the sentry is hostile."""

    def __init__(self, line: socket.socket, netlink: socket.socket) -> None:
        self.line = line
        self.netlink = netlink

    def serve(self) -> None:
        """Until the sentry has closed its end."""
        while True:
            request, fds, _, _ = socket.recv_fds(self.line, wire.MAX_REQUEST, 4)
            if not request:
                return
            try:
                self.handle(request, fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def handle(self, request: bytes, fds: list[int]) -> None:
        if len(request) < wire.REQUEST.size:
            self.answer(errno.EINVAL)
            return
        op, domain, kind, protocol = wire.REQUEST.unpack_from(request)
        addr = request[wire.REQUEST.size :]
        if op == wire.SOCKET and not fds:
            self.socket(domain, kind, protocol)
        elif op in (wire.BIND, wire.CONNECT) and len(fds) == 1 and lib.cn_net_is_inet(fds[0]) == 0:
            call = lib.cn_net_bind if op == wire.BIND else lib.cn_net_connect
            buffer = ffi.new("uint8_t[]", addr) if addr else ffi.new("uint8_t[2]")
            self.answer(-call(fds[0], buffer, len(addr)) if len(addr) >= 2 else errno.EINVAL)
        elif op == wire.TABLES and not fds:
            self.tables()
        else:
            self.answer(errno.EINVAL)

    def answer(self, number: int, data: bytes = b"", more: int = 0) -> None:
        self.line.send(wire.ANSWER.pack(number, more) + data)

    def socket(self, domain: int, kind: int, protocol: int) -> None:
        if domain not in (socket.AF_INET, socket.AF_INET6) or PROTOCOLS.get(kind) != protocol:  # type: ignore[call-overload]
            self.answer(errno.EPROTONOSUPPORT)
            return
        fd = lib.cn_net_socket(domain, kind, protocol)
        if fd < 0:
            self.answer(-fd)
            return
        try:
            socket.send_fds(self.line, [wire.ANSWER.pack(0, 0)], [fd])
        finally:
            os.close(fd)

    def tables(self) -> None:
        try:
            text = json.dumps(routes.tables(self.netlink)).encode()
        except OSError as e:
            self.answer(e.errno or errno.EIO)
            return
        while len(text) > wire.PIECE:
            self.answer(0, text[: wire.PIECE], 1)
            text = text[wire.PIECE :]
        self.answer(0, text)


def run(spec: BrokerSpec) -> NoReturn:
    """Serves the spec; the process ends here."""
    code = 1
    try:
        need(lib.cn_die_with_parent(os.getppid()), "tie itself to its starter")
        if spec.netns:
            join(spec.netns)
        what = lib.CN_NS_MOUNT | lib.CN_NS_PID | lib.CN_NS_IPC | lib.CN_NS_UTS
        if not confined.has_admin():
            what |= lib.CN_NS_USER
        need(lib.cn_ns_enter(what, os.geteuid(), os.getegid()), "make its namespaces")
        child = os.fork()
        if child:
            os.close(spec.fd)
            if spec.ready >= 0:
                os.close(spec.ready)
            confined.end_like(os.waitpid(child, 0)[1])
        need(lib.cn_die_with_parent(0), "tie itself to its starter")
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, spec.fd)
        netlink = confine(spec)
        spec.ready = confined.tell(spec.ready, "ok")
        Server(line, netlink).serve()
        code = 0
    except BrokerError as e:
        spec.ready = confined.tell(spec.ready, f"error: {e}")
    except (BrokenPipeError, ConnectionError):
        code = 0  # the sentry went while it was answered
    except OSError as failed:
        spec.ready = confined.tell(spec.ready, f"error: broker: cannot start: {os.strerror(failed.errno or 0).lower()}")
    os._exit(code)
