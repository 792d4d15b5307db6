"""The container process: made by `create`, it owns gofer, broker and sentry, and lives as long as the container.

It sits in the container's cgroup and in the namespaces that engines look for at /proc/PID/ns. Until it said "ready" it dies with
the creating command; from then on only with its container.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any, NoReturn

from cordon.control import Connection, ControlError, own
from cordon.oci import console, hooks, keeper, memory, oom, translate
from cordon.oci.cgroups import Groups
from cordon.oci.config import Process
from cordon.oci.errors import RuntimeFailure, executable, log, why
from cordon.oci.namespaces import Namespaces, Window, join_for_children, leave
from cordon.oci.state import EXIT_FILE, State, ended, write_file
from cordon.oci.title import set_title
from cordon.oci.translate import Plan
from cordon.spawn import GOFER_TIMEOUT, close_all_but, fork, gofer_body, sentry_body
from native._core import lib


class Line:
    """Between creating command and container process: one JSON object a line, each way."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = b""

    def say(self, message: dict[str, Any]) -> None:
        os.write(self.fd, json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any] | None:
        """The next message; None when the other end has gone."""
        while b"\n" not in self.pending:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                return None
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


class Order:
    """What the creating command wants of the container process."""

    def __init__(self, state: State, plan: Plan) -> None:
        self.state = state
        self.plan = plan
        self.platform = "ptrace"
        self.console_socket = ""
        #: Without one: a connected socket to the creating command.
        self.console_fd = -1
        #: Descriptors that the guest gets as 3, 4...
        self.preserve: list[int] = []
        #: The state directory.
        self.dir_fd = -1
        #: The listening control socket; -1 in a sandbox of another container.
        self.listen = -1
        self.groups = Groups({})
        #: Control socket of the sandbox to join.
        self.sandbox_socket = ""
        self.debug_log = -1
        self.strace = False
        self.watchdog = 0
        self.watchdog_ends = False


def fork_container(order: Order, keep_log: int) -> tuple[int, Line]:
    """Starts the container process; its number, and the line to it."""
    ours, theirs = socket.socketpair()
    creator = os.getpid()
    keeper.block_signals()
    # the parent's number can't be seen from another pid namespace
    elsewhere = order.plan.config.linux.namespaces.get("pid", "")
    mine = join_for_children(elsewhere) if elsewhere else -1
    pid = os.fork()
    if mine >= 0:
        leave(mine)
    if pid:
        theirs.close()
        return pid, Line(ours.detach())
    status = 70
    try:
        ours.close()
        line = Line(theirs.detach())
        # a description of its own: the creating command's holds the lock
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=order.dir_fd)
        os.close(order.dir_fd)
        order.dir_fd = directory
        if lib.cn_die_with_parent(0 if elsewhere else creator) < 0:
            os._exit(1)
        status = Container(order, line, keep_log).run()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Container:
    """The container process's own view of its work."""

    def __init__(self, order: Order, line: Line, errors: int) -> None:
        self.order = order
        self.line = line
        #: Where gofer, sentry and this process write messages for developers.
        self.errors = errors
        self.children: dict[str, int] = {}
        self.terminal = -1
        self.owner: Connection
        self.window: Window | None = None
        self.oom: oom.Reporter
        self.gofer_ready = -1
        self.broker_ready = -1

    def run(self) -> int:
        try:
            self.build()
        except RuntimeFailure as e:
            self.line.say({"error": str(e), "status": e.status})
            return 1
        except OSError as e:
            self.line.say({"error": f"cannot make the container: {why(e)}", "status": 1})
            return 1
        k = keeper.Keeper(self.owner, self.order.state.id, 0, self.terminal >= 0)
        k.take_signals()
        if self.window is not None and self.window.processes.fd >= 0:
            k.also[self.window.processes.fd] = lambda: self.show_processes(k)
        for what, pid in self.children.items():
            k.watch(pid, what)
        lib.cn_outlive_parent()
        self.line.say({"ready": True})
        os.close(self.line.fd)
        status = k.run()
        self.finish(status, k.end or {})
        return status

    def show_processes(self, k: keeper.Keeper) -> None:
        """Somebody opens the list of processes in the window."""
        assert self.window is not None
        try:
            self.window.processes.refresh(k.processes())
        finally:
            self.window.processes.allow()

    # Before "ready"

    def build(self) -> None:
        order = self.order
        os.setsid()
        set_title(f"cordon: container {order.state.id}")
        lib.cn_adopt_orphans()
        config = order.plan.config
        if config.process is not None and config.process.oom_score_adj is not None:
            set_oom_score(config.process.oom_score_adj)
        order.groups.join(0)
        namespaces = Namespaces(config)
        namespaces.enter()
        self.line.say({"namespaces": True})
        if self.line.hear() is None:
            os._exit(1)
        self.start()
        window = namespaces.window(order.plan)
        self.window = window
        hooks.run_all(
            "createContainer",
            [h.to_plain() for h in config.hooks["createContainer"]],
            json.dumps(order.state.to_oci("creating") | {"pid": os.getpid()}).encode(),
        )
        self.await_sandbox()
        self.oom = oom.Reporter(order.groups)
        self.drop_descriptors()
        if window is not None:
            window.open()

    def start(self) -> None:
        """Forks gofer and sentry; the guest's streams go to the sentry and nowhere else."""
        order = self.order
        process = order.plan.config.process
        assert process is not None
        stdio = self.streams(process)
        preserve = [own(fd) for fd in order.preserve]
        pairs = [socket.socketpair() for _ in order.plan.exports]
        patience = struct.pack("ll", GOFER_TIMEOUT, 0)
        for _, b in pairs:
            b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
            b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        gofer_fds = [a.fileno() for a, _ in pairs]
        sentry_fds = [b.fileno() for _, b in pairs]
        self.gofer_ready, ready = os.pipe()
        gofer_document = {
            "exports": [
                {"source": e.source, "fd": fd, "readonly": e.readonly}
                for e, fd in zip(order.plan.exports, gofer_fds, strict=True)
            ],
            "uid_map": translate.rows(order.plan.config.linux.uid_map),
            "gid_map": translate.rows(order.plan.config.linux.gid_map),
            "ready": ready,
            "log": self.errors,
        }
        os.dup2(self.errors, 2)
        me = os.getpid()

        def gofer() -> NoReturn:
            if lib.cn_die_with_parent(me) < 0:
                os._exit(1)
            set_title(f"cordon: gofer of {order.state.id}")
            gofer_body(gofer_document)

        if order.listen >= 0:
            ours, theirs = socket.socketpair()
            broker = self.start_broker()
            document = self.sandbox(sentry_fds, stdio, preserve, theirs.fileno(), broker)

            def sentry() -> int:
                set_title(f"cordon: sentry of {order.state.id}")
                return 1 if lib.cn_die_with_parent(me) < 0 else sentry_body(document)

            memory_file = document["memory_file"] = memory.make(document["memory"])
            keep = [*sentry_fds, *stdio, *preserve, theirs.fileno(), order.listen, order.debug_log, broker, memory_file]
            self.children["sentry"] = fork(sentry, keep)
            if memory_file >= 0:
                os.close(memory_file)
            if broker >= 0:
                os.close(broker)
            theirs.close()
            os.close(order.listen)
            self.owner = Connection(ours)
        self.children["gofer"] = fork(gofer, [*gofer_fds, ready, self.errors])
        os.close(ready)
        if order.listen < 0:
            self.join(sentry_fds, stdio, preserve)
        for a, b in pairs:
            a.close()
            b.close()
        if process.terminal:
            self.terminal = stdio.pop()
        for fd in [*stdio, *preserve, *order.preserve]:
            os.close(fd)

    def streams(self, process: Process) -> list[int]:
        """The guest's standard streams: those of the creating command, or a new terminal."""
        if not process.terminal:
            return [own(fd) for fd in (0, 1, 2)]
        master, slave = console.open_pair(process.rows, process.columns)
        console.own(slave, process.user.uid, process.user.gid)
        if self.order.console_socket:
            console.send(self.order.console_socket, master)
        else:
            console.send_fd(self.order.console_fd, master)
        os.close(master)
        console.control(slave)
        return [slave]

    def start_broker(self) -> int:
        """The process that makes the guest's host sockets, in this one's network namespace; the sentry's end of its line or -1."""
        if translate.network_of(self.order.plan.config) == "none":
            return -1
        from broker import main as broker

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.broker_ready, ready = os.pipe()
        me = os.getpid()

        def body() -> int:
            if lib.cn_die_with_parent(me) < 0:
                os._exit(1)
            set_title(f"cordon: broker of {self.order.state.id}")
            broker.run(broker.BrokerSpec(ours.fileno(), "", ready, self.errors))

        self.children["broker"] = fork(body, [ours.fileno(), ready, self.errors])
        ours.close()
        os.close(ready)
        return theirs.detach()

    def sandbox(
        self, sockets: list[int], stdio: list[int], preserve: list[int], control: int, broker: int
    ) -> dict[str, Any]:
        """The sentry's document."""
        order = self.order
        container = self.container_document(sockets, stdio, preserve)
        document: dict[str, Any] = {
            "platform": order.platform,
            "control": control,
            "listen": order.listen,
            "memory": container["memory"],
            "strace": order.strace,
            "spin": order.plan.config.linux.resources.spin,
            "watchdog": order.watchdog,
            "watchdog_ends": order.watchdog_ends,
            "log": order.debug_log,
            "network": "none" if broker < 0 else "host",
            "broker": broker,
            "start": False,
            "container": container,
        }
        return document

    def container_document(self, sockets: list[int], stdio: list[int], preserve: list[int]) -> dict[str, Any]:
        process = self.order.plan.config.process
        assert process is not None
        plain = translate.process(process, stdio, preserve)
        return self.order.plan.container(
            self.order.state.id, sockets, plain, self.order.plan.config.linux.cgroups_path
        )

    def join(self, sockets: list[int], stdio: list[int], preserve: list[int]) -> None:
        """A further container of a sandbox that is there already."""
        fds = [*sockets, *stdio, *preserve]
        places = list(range(len(fds)))
        n, m = len(sockets), len(sockets) + len(stdio)
        document = self.container_document(places[:n], places[n:m], places[m:])
        document["share"] = self.order.plan.share
        try:
            self.owner = Connection.open(self.order.sandbox_socket)
            self.owner.create(document, fds, tie=True)
        except ControlError as e:
            status = e.status if e.status in (126, 127) else 1
            raise RuntimeFailure(executable(e.message, e.status), status) from None

    def await_sandbox(self) -> None:
        """Until gofer and sentry are ready. RuntimeFailure says which of them can't and why."""
        self.await_ready("gofer", self.gofer_ready)
        if self.broker_ready >= 0:
            self.await_ready("broker", self.broker_ready)
        if "sentry" not in self.children:
            return
        try:
            self.owner.ready()
        except ControlError as e:
            if e.code == "gone":
                raise RuntimeFailure(f"the sentry ended before it was ready{self.last_words()}") from None
            status = e.status if e.status in (126, 127) else 1
            raise RuntimeFailure(executable(e.message, e.status), status) from None

    def await_ready(self, what: str, fd: int) -> None:
        """Until gofer or broker said its one line."""
        said = os.read(fd, 4096).decode("utf-8", "replace").strip()
        os.close(fd)
        if said != "ok":
            raise RuntimeFailure(
                said.removeprefix("error: ") or f"the {what} ended before it was ready{self.last_words()}"
            )

    def last_words(self) -> str:
        """What was written to the errors' file, for the sentence."""
        try:
            size = os.fstat(self.errors).st_size
            text = os.pread(self.errors, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return f": {text.splitlines()[-1]}" if text else ""

    def drop_descriptors(self) -> None:
        """Keeps only what the loop needs; a log that the engine gave stays open."""
        null = os.open("/dev/null", os.O_RDWR) if self.terminal < 0 else -1
        if null >= 0:
            os.dup2(null, 0)
            os.dup2(null, 1)
        else:
            os.dup2(self.errors, 0)
            os.dup2(self.errors, 1)
        os.dup2(self.errors, 2)
        self.errors = 2
        close_all_but(
            [
                0,
                1,
                2,
                self.line.fd,
                self.order.dir_fd,
                self.owner.fileno(),
                self.terminal,
                log.keep(),
                memory.ROOT_FD,
                *self.oom.fds(),
            ]
        )

    # The end

    def finish(self, status: int, end: dict[str, Any]) -> None:
        """Ends what is left of the sandbox, and writes down how it was."""
        self.owner.close()
        if "sentry" in self.children and end:
            hear_out(self.children["sentry"])
        for pid in self.children.values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in self.children.values():
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
        if "usage" not in end:
            log.write("error", f'container "{self.order.state.id}": the sandbox failed{self.last_words()}')
        if end.get("oom") or "memory" in end.get("exceeded", []):
            self.oom.report()
        try:
            write_file(self.order.dir_fd, EXIT_FILE, json.dumps({"status": status, **end}).encode())
        except OSError:  # deleted meanwhile
            pass
        sys.stderr.flush()


def hear_out(sentry: int) -> None:
    """Lets a sentry that ends by itself answer everybody who asked something before: `kill`, `wait`, an exec's process."""
    fd = os.pidfd_open(sentry)
    ended(fd, keeper.GRACE)
    os.close(fd)


def set_oom_score(value: int) -> None:
    """Of this process and those it starts. What an ordinary user may not lower stays as it is."""
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write(str(value))
    except PermissionError:
        log.write("warning", f"process.oomScoreAdj {value}: not permitted, the value stays as it is")
