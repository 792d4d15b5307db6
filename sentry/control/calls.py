"""The calls of the control protocol (docs/control-protocol.md), by name. Each runs with K held in the server's thread.

A handler takes its arguments out of a Reader and returns the result, or None when the answer comes later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sentry import process, spec, tree
from sentry.control import listing, outside
from sentry.control.wire import CallError
from sentry.errors import Errno
from sentry.fs.tty import bridge
from sentry.kernel import clock
from sentry.kernel import container as states
from sentry.kernel.signals import NSIG

if TYPE_CHECKING:
    from sentry.control.server import Peer, Server
    from sentry.kernel.container import Container, Record
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.threadgroup import ThreadGroup
    from sentry.spec import Reader

    Handler = Callable[["Request", Reader], "dict[str, Any] | None"]

SETTLE: Final = 1_000_000  # ns between looks whether every task has noticed a pause
MODES: Final = ("process", "foreground", "group", "all")


class Request:
    """Who asked, and what for."""

    def __init__(self, server: Server, peer: Peer, ident: int, fds: list[int]) -> None:
        self.server: Server = server
        self.kernel: Kernel = server.kernel
        self.peer: Peer = peer
        self.ident: int = ident
        self.fds: list[int] = fds

    def answer(self, result: dict[str, Any]) -> None:
        """The answer of a call whose handler returned None."""
        self.peer.answer(self.ident, result)

    def container(self, args: Reader) -> Container:
        """The container that the request names."""
        ident = args.name("container", "")
        container = self.kernel.containers.get(ident)
        if container is None:
            raise CallError("no-container", f'container "{ident}" does not exist in this sandbox')
        return container

    def record(self, container: Container, args: Reader) -> Record:
        """The process started from outside that `pid` names, the container's init by default."""
        pid = args.number("pid", 0, 0)
        record = container.record if pid == 0 else container.records.get(pid)
        if record is None:
            raise CallError("no-process", f'no process {pid} was started in container "{container.ident}"')
        return record

    def living(self, container: Container, args: Reader) -> ThreadGroup:
        """A process of the container by `pid`, its init by default."""
        pid = args.number("pid", 0, 0)
        if container.status == states.STOPPED or container.init is None:
            raise CallError("not-running", f'container not running: "{container.ident}" is stopped')
        tg = container.init if pid == 0 else container.pidns.groups.get(pid)
        record = container.records.get(pid)
        if record is not None and record.ended:  # another process may have the number now
            tg = None
        if tg is None or tg.dead or tg.container is not container:
            raise CallError("no-process", f'no such process: {pid} in container "{container.ident}"')
        return tg


def running(container: Container) -> None:
    """The container's processes can be told something."""
    if container.status == states.STOPPED:
        raise CallError("not-running", f'container not running: "{container.ident}" is stopped')


def end_record(record: Record) -> None:
    """The connection that a process was tied to has ended."""
    if record.init:
        record.container.kill()
    elif record.tg is not None:
        outside.kill(record.tg)


def how_ended(container: Container, status: int) -> dict[str, Any]:
    """A wait status in words."""
    result: dict[str, Any] = {}
    if os.WIFSIGNALED(status):
        result["killed"] = os.WTERMSIG(status)
        result["core"] = os.WCOREDUMP(status)
    else:
        result["exit"] = os.WEXITSTATUS(status)
    result["oom"] = "memory" in container.exceeded
    result["exceeded"] = sorted(container.exceeded)
    return result


def used(record: Record | None) -> dict[str, Any]:
    """What an ended process has used."""
    u = record.usage if record is not None else None
    if record is None or u is None:
        return {}
    return {"usage": {"utime_ns": u.utime, "stime_ns": u.stime, "peak_bytes": listing.peak(record)}}


def event(container: Container, what: str, pid: int, status: int) -> dict[str, Any]:
    e: dict[str, Any] = {"event": what, "container": container.ident}
    if what in ("exit", "exec-exit"):
        e["pid"] = pid
        e.update(how_ended(container, status))
    elif what in ("stopped", "continued"):
        e["pid"] = pid
        e["signal"] = status
    return e


# Life


def create(q: Request, args: Reader) -> dict[str, Any] | None:
    from sentry import loader

    tie = args.flag("tie")
    wanted = spec.parse_container(args.inner("spec"))
    args.end()
    if not wanted.ident:
        raise CallError("bad-argument", "args.spec.id is empty")
    if wanted.ident in q.kernel.containers:
        raise CallError("exists", f'container "{wanted.ident}" exists already')
    container = loader.build_container(q.kernel, wanted, q.server)
    bridge.start()
    assert container.record is not None
    if tie:
        q.peer.tied.append(container.record)
    return {"pid": container.record.pid}


def start(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    if container.status != states.CREATED:
        raise CallError(
            "not-running",
            f'cannot start container "{container.ident}": it is {container.status}, not created',
        )
    try:
        container.start()
    except Errno as e:
        raise CallError(
            "no-room", f'cannot start container "{container.ident}": {os.strerror(e.errno).lower()}'
        ) from None
    return {}


def execute(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    tie = args.flag("tie")
    wanted = spec.parse_process(args.inner("process"))
    args.end()
    running(container)
    if container.init is None or container.init.exiting:
        raise CallError("not-running", f'container not running: "{container.ident}" is ending')
    if container.paused:
        raise CallError("not-running", f'container "{container.ident}" is paused')
    try:
        t = process.build(container, wanted, False)
        bridge.start()
        q.kernel.start_task(t)
    except Errno as e:
        why = os.strerror(e.errno).lower()
        raise CallError("no-room", f'cannot run a process in container "{container.ident}": {why}') from None
    record = t.tg.record
    assert record is not None
    if tie:
        q.peer.tied.append(record)
    return {"pid": record.pid}


def wait(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    record = q.record(container, args)
    args.end()
    waiter = Waiting(q)
    if record.ended:
        waiter.ended(record)
    else:
        record.waiters.append(waiter.ended)
    return None


class Waiting:
    """A `wait` without an answer yet."""

    def __init__(self, q: Request) -> None:
        self.q: Request = q

    def ended(self, record: Record) -> None:
        self.q.answer({**how_ended(record.container, record.status), **used(record)})


def destroy(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    if container is q.kernel.first:
        q.kernel.kill_all()
        return {}
    gone = Destroying(q, container)
    record = container.record
    if container.status == states.STOPPED or record is None:
        gone.ended(record)
    else:
        record.waiters.append(gone.ended)
        container.kill()
    return None


class Destroying:
    """A `destroy` whose container is ending."""

    def __init__(self, q: Request, container: Container) -> None:
        self.q: Request = q
        self.container: Container = container

    def ended(self, record: Record | None) -> None:
        for client in self.container.gofers:
            self.q.server.forget_gofer(client.sock)
        tree.take_down(self.container)
        self.container.kernel.forget_container(self.container)
        self.q.answer({})


def kill(q: Request, args: Reader) -> dict[str, Any] | None:
    args.end()
    q.kernel.kill_all()
    return {}


# Signals, pause


def signal(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    sig = args.number("signal", 0)
    mode = args.name("mode", "process")
    if not 0 <= sig <= NSIG:
        raise CallError("bad-argument", f"args.signal is no signal: {sig}")
    if mode not in MODES:
        raise CallError("bad-argument", f"args.mode is not one of {', '.join(MODES)}")
    if mode == "all":
        args.number("pid", 0, 0)
        args.end()
        running(container)
        for tg in container.processes():
            if not tg.dead:
                outside.send(tg, sig)
        return {}
    tg = q.living(container, args)
    args.end()
    if mode == "foreground":
        outside.send_foreground(tg, sig)
    elif mode == "group":
        for member in tg.pgrp.members[:]:
            outside.send(member, sig)
    else:
        outside.send(tg, sig)
    return {}


def pause(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    if container.status not in (states.RUNNING, states.PAUSED):
        raise CallError("not-running", f'container not running: "{container.ident}" is {container.status}')
    container.pause()
    Settling(q, container).look()
    return None


class Settling:
    """A `pause` that not every task has noticed yet."""

    def __init__(self, q: Request, container: Container) -> None:
        self.q: Request = q
        self.container: Container = container

    def look(self) -> None:
        if self.container.settled():
            self.q.answer({})
        else:
            self.q.kernel.timers.at(clock.monotonic() + SETTLE, self.look)


def resume(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    if container.status != states.PAUSED:
        raise CallError("not-running", f'container "{container.ident}" is not paused')
    container.resume()
    return {}


# Looking and changing


def ps(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    return {"processes": [listing.describe(tg) for tg in container.processes()]}


def state(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    record = container.record
    ended = how_ended(container, record.status) if record is not None and record.ended else None
    return {
        "status": container.status,
        "pid": record.pid if record is not None else 0,
        "status_of_init": ended,
    }


def containers(q: Request, args: Reader) -> dict[str, Any] | None:
    args.end()
    return {"containers": [{"id": c.ident, "status": c.status} for c in q.kernel.containers.values()]}


def stats(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    args.end()
    return listing.stats(container)


def events(q: Request, args: Reader) -> dict[str, Any] | None:
    wanted = q.container(args).ident if "container" in args.value else None
    args.end()
    q.peer.events[q.ident] = wanted
    return None


def update(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    memory = args.number("memory", -1)
    pids = args.number("pids", -1)
    args.end()
    if memory >= 0:
        container.set_memory_limit(memory)
    if pids >= 0:
        container.pids_limit = pids
    return {}


def resize(q: Request, args: Reader) -> dict[str, Any] | None:
    container = q.container(args)
    rows = args.number("rows", 0, 0, 65535)
    columns = args.number("columns", 0, 0, 65535)
    tg = q.living(container, args)
    args.end()
    tty = tg.pgrp.session.tty
    if tty is None:
        raise CallError("bad-argument", f"process {tg.pid} has no terminal")
    outside.resize(tty, rows, columns)
    return {}


HANDLERS: Final[dict[str, Handler]] = {
    "create": create,
    "start": start,
    "exec": execute,
    "wait": wait,
    "signal": signal,
    "ps": ps,
    "pause": pause,
    "resume": resume,
    "state": state,
    "containers": containers,
    "stats": stats,
    "events": events,
    "update": update,
    "resize": resize,
    "destroy": destroy,
    "kill": kill,
}
