"""What a container uses: the sentry's own accounts of the guest, and the cgroup's of everything it costs the host."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

from cordon.control import Connection, ControlError
from cordon.oci import operations
from cordon.oci.cgroups import Groups
from cordon.oci.errors import RuntimeFailure
from cordon.oci.state import State, StateDir


def stats(d: StateDir, state: State) -> dict[str, Any]:
    """In the form of runc's `events --stats`; guest figures, with the host's under "sandbox"."""
    guest = operations.call(d, state, "stats", {})
    cpu, memory, tasks = guest["cpu"], guest["memory"], guest["pids"]
    host = Groups.known(state.cgroups).stats() if state.cgroups else {}
    total = cpu["user_ns"] + cpu["system_ns"]
    return {
        "cpu": {
            "usage": {"total": total, "user": cpu["user_ns"], "kernel": cpu["system_ns"]},
            "throttling": {
                "periods": host.get("throttling", {}).get("nr_periods", 0),
                "throttledPeriods": host.get("throttling", {}).get("nr_throttled", 0),
                "throttledTime": host.get("throttling", {}).get("throttled_time", 0),
            },
        },
        "memory": {
            "usage": {
                "usage": memory["usage"],
                "max": memory["peak"],
                "limit": memory["limit"],
                "failcnt": memory["oom_kills"],
            },
        },
        "pids": {"current": tasks["current"], "limit": tasks["limit"]},
        "sandbox": host,
    }


def follow(d: StateDir, state: State, interval: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Usage at once and after each interval, events as they come; ends with the sandbox. NotRunning."""
    try:
        line = Connection.open(operations.socket_path(d, state))
        ident = line.request("events", {"container": state.id})
    except ControlError as e:
        raise RuntimeFailure(e.message) from None
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    following = time.monotonic()
    with line:
        while True:
            left = following - time.monotonic()
            if left <= 0:
                yield "stats", stats(d, state)
                following += interval
                continue
            if not poll.poll(left * 1000):
                continue
            try:
                if not line.fill():
                    return
            except ControlError:
                return
            while (message := line.take()) is not None:
                if message.get("id") != ident:  # the greeting
                    continue
                event = message.get("event")
                if event is None:
                    return
                kind = str(event.get("event"))
                yield kind, {k: v for k, v in event.items() if k not in ("event", "container")}
                if kind == "exit":
                    return
